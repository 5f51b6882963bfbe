//! What a scrape has: the text of OpenMetrics, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use load_aware_batcher::Observer;
use testkit::LONG;

/// A sample's labels, sorted, and its value.
pub type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads the text of OpenMetrics, as far as this crate writes it, and panics where it is not well
/// formed: each family once with its head first, samples only of that family, labels quoted, no
/// sample twice, histograms cumulative, states exclusive, the end marked.
pub fn parse(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            let (what, rest) = head.split_once(' ').unwrap();
            let (name, value) = rest.split_once(' ').unwrap();
            match what {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "{name} twice");
                    (family, kind) = (name.to_owned(), String::new());
                }
                "TYPE" => kind = value.to_owned(),
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (name, rest) = line.split_once('{').expect("every sample has a label");
        let (labels, value) = labels(rest);
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            "gauge" | "stateset" => &[""],
            kind => panic!("{kind} of {family}"),
        };
        let suffix = name.strip_prefix(family.as_str());
        assert!(suffix.is_some_and(|s| suffixes.contains(&s)), "{line}");
        if kind == "stateset" {
            assert!(labels.iter().any(|(label, _)| *label == family), "{line}");
        }
        let value: f64 = value.trim().parse().expect("a number");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let before = samples.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "{line} twice");
    }
    histograms(&samples);
    samples
}

/// The labels up to the brace, and what follows.
fn labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (label, value) = rest.split_once("=\"").unwrap();
        let (mut text, mut signs) = (String::new(), value.char_indices());
        let end = loop {
            match signs.next().expect("a label ends") {
                (end, '"') => break end,
                (_, '\\') => match signs.next().unwrap().1 {
                    'n' => text.push('\n'),
                    sign => text.push(sign),
                },
                (_, sign) => text.push(sign),
            }
        };
        labels.push((label.to_owned(), text));
        match value[end + 1..].split_at(1) {
            (",", more) => rest = more,
            ("}", more) => {
                labels.sort();
                return (labels, more);
            }
            (sign, _) => panic!("{sign} after a label"),
        }
    }
}

fn histograms(samples: &Samples) {
    for ((name, labels), count) in samples {
        let Some(family) = name.strip_suffix("_count") else {
            continue;
        };
        let mut buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter(|((bucket, of), _)| {
                let own = of.iter().filter(|(label, _)| label != "le");
                *bucket == format!("{family}_bucket") && own.eq(labels)
            })
            .map(|((_, of), count)| {
                let bound = &of.iter().find(|(label, _)| label == "le").unwrap().1;
                (bound.replace("+Inf", "inf").parse().unwrap(), *count)
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, next| one.1 <= next.1), "{name}");
        assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, *count), "{name}");
    }
}

pub fn scrape(observer: &Observer) -> Samples {
    let mut text = String::new();
    let stats = observer.stats();
    stats.write_openmetrics(&mut text, observer.name()).unwrap();
    parse(&text)
}

/// A sample by its name and, beside `batcher`, one label.
pub fn value(samples: &Samples, name: &str, label: Option<(&str, &str)>) -> f64 {
    let found = samples.iter().find(|((own, labels), _)| {
        own == name
            && label.is_none_or(|(label, value)| {
                labels
                    .iter()
                    .any(|(l, v)| (l.as_str(), v.as_str()) == (label, value))
            })
    });
    *found.unwrap_or_else(|| panic!("no {name} {label:?}")).1
}

pub fn sum(samples: &Samples, name: &str) -> f64 {
    let own = samples.iter().filter(|((own, _), _)| own == name);
    own.map(|(_, value)| value).sum()
}

/// Scrapes until the metric is as expected.
pub fn until(
    observer: &Observer,
    name: &str,
    label: Option<(&str, &str)>,
    expected: impl Fn(f64) -> bool,
) -> f64 {
    let begun = std::time::Instant::now();
    loop {
        let now = value(&scrape(observer), name, label);
        if expected(now) {
            return now;
        }
        assert!(begun.elapsed() < LONG, "{name} {label:?} is {now}");
        std::thread::yield_now();
    }
}
