//! The exposition of a busy batcher. It is well formed, its counts of items add up, and it answers
//! each question that docs/observability.md names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load_aware_batcher::metrics::{self, Metric, MetricKind, NAMES};
use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback, Observer, Retry};
use testkit::{LONG, NEVER, Reply, directed, ends, fixed};

/// A sample's labels, sorted, and its value.
type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Parses OpenMetrics text, as far as this crate writes it, and panics if it is not well formed.
/// Each family must occur once with its head first, and only its own samples may follow. Labels
/// must be quoted, no sample may occur twice, histograms must be cumulative, states must be
/// exclusive, and the end must be marked.
fn parse(text: &str) -> Samples {
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

/// The labels up to the brace, and the rest after it.
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

fn scrape(observer: &Observer) -> Samples {
    let mut text = String::new();
    let stats = observer.stats();
    stats.write_openmetrics(&mut text, observer.name()).unwrap();
    parse(&text)
}

/// A sample by its name and one label other than `batcher`.
fn value(samples: &Samples, name: &str, label: Option<(&str, &str)>) -> f64 {
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

fn sum(samples: &Samples, name: &str) -> f64 {
    let own = samples.iter().filter(|((own, _), _)| own == name);
    own.map(|(_, value)| value).sum()
}

/// Scrapes until the metric is as expected.
fn until(
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

#[test]
fn every_scrape_conserves_items_while_threads_add_rows_fail_and_a_close_comes() {
    ends(|| {
        let mut calls = 0;
        let batcher = Batcher::builder()
            .name("busy")
            .max_batch_size(50)
            .linger(Duration::ZERO)
            .retry(Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO))
            .keep_failed(1_000_000)
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                for index in (0..batch.len()).filter(|index| batch[*index] % 7 == 3) {
                    let error = match index % 2 {
                        0 => BatchError::permanent("no"),
                        _ => BatchError::in_doubt("perhaps"),
                    };
                    batch.reject(index, error);
                }
                match calls % 5 {
                    1 => Err(BatchError::in_doubt("lost")),
                    2 => Err(BatchError::transient("busy")),
                    _ => Ok(LoadFeedback::new()),
                }
            })
            .unwrap();
        let observer = batcher.observer();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let producer = batcher.producer();
                scope.spawn(move || {
                    let mut next = 0;
                    while producer.add(next).is_ok() && producer.add_many(next..next + 9).is_ok() {
                        next += 1;
                    }
                });
            }
            scope.spawn(|| {
                let mut last = 0.0;
                let mut scrapes = 0;
                loop {
                    let is_last = over.load(Ordering::Acquire);
                    let samples = scrape(&observer);
                    let added = value(&samples, "batcher_items_added_total", None);
                    let rest = value(&samples, "batcher_items_abandoned", None)
                        + value(&samples, "batcher_items_pending", None);
                    assert_eq!(added, sum(&samples, "batcher_items_total") + rest);
                    assert_eq!(sum(&samples, "batcher_phase"), 1.0);
                    assert!(added >= last);
                    (last, scrapes) = (added, scrapes + 1);
                    if is_last {
                        break;
                    }
                }
                assert!(last > 0.0 && scrapes > 1);
            });
            while batcher.stats().batches.total() < 300 {
                std::thread::yield_now();
            }
            let _ = batcher.shutdown(LONG);
            over.store(true, Ordering::Release);
        });
        let samples = scrape(&observer);
        assert!(
            value(
                &samples,
                "batcher_items_total",
                Some(("outcome", "in_doubt"))
            ) > 0.0
        );
        assert_eq!(
            value(&samples, "batcher_phase", Some(("phase", "done"))),
            1.0
        );
        assert_eq!(sum(&samples, "batcher_closed_total"), 1.0);
    });
}

#[test]
fn a_handler_that_hangs_shows() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2).spawn(handler).unwrap();
        let observer = batcher.observer();
        assert_eq!(
            value(&scrape(&observer), "batcher_call_in_flight_seconds", None),
            0.0
        );
        batcher.add_many([1, 2]).unwrap();
        director.call();
        let first = until(&observer, "batcher_call_in_flight_seconds", None, |age| {
            age > 0.0
        });
        until(&observer, "batcher_call_in_flight_seconds", None, |age| {
            age > first
        });
        assert_eq!(
            value(&scrape(&observer), "batcher_items_in_flight", None),
            2.0
        );
        assert_eq!(
            value(&scrape(&observer), "batcher_calls_in_flight", None),
            1.0
        );
        director.reply(Reply::Ok);
        until(&observer, "batcher_call_in_flight_seconds", None, |age| {
            age == 0.0
        });
    });
}

#[test]
fn producers_that_wait_and_adds_that_are_refused_show() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).queue_capacity(1).spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add(0).unwrap();
        director.call();
        while batcher.try_add(0).is_ok() {}
        until(
            &observer,
            "batcher_refused_total",
            Some(("reason", "full")),
            |refused| refused > 0.0,
        );
        let producer = batcher.producer();
        let waiting = std::thread::spawn(move || producer.add(1));
        until(&observer, "batcher_producers_blocked", None, |blocked| {
            blocked == 1.0
        });
        let waited = value(
            &scrape(&observer),
            "batcher_producer_wait_seconds_total",
            None,
        );
        until(
            &observer,
            "batcher_producer_wait_seconds_total",
            None,
            |now| now > waited,
        );
        drop(director);
        waiting.join().unwrap().unwrap();
        until(&observer, "batcher_producers_blocked", None, |blocked| {
            blocked == 0.0
        });
    });
}

#[test]
fn the_latencies_of_several_processes_can_be_added() {
    ends(|| {
        let start = |name: &str| {
            let batcher = fixed(1).name(name);
            let batcher = batcher
                .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
                .unwrap();
            batcher.add(1).unwrap();
            batcher.flush(LONG).unwrap();
            batcher
        };
        let (one, other) = (start("one"), start("other"));
        let mut text = String::new();
        let both = [("one", one.stats()), ("other", other.stats())];
        metrics::write_openmetrics(&mut text, &both).unwrap();
        let samples = parse(&text);
        assert_eq!(sum(&samples, "batcher_call_duration_seconds_count"), 2.0);
        let all = samples.iter().filter(|((name, labels), _)| {
            name == "batcher_call_duration_seconds_bucket"
                && labels.contains(&("le".to_owned(), "+Inf".to_owned()))
        });
        assert_eq!(all.map(|(_, count)| count).sum::<f64>(), 2.0);
    });
}

#[test]
fn a_backend_that_is_away_shows() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::default().backoff(NEVER, NEVER))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::unavailable("starting")))
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        until(&observer, "batcher_retrying_seconds", None, |age| age > 0.0);
        until(&observer, "batcher_backoff_seconds_total", None, |time| {
            time > 0.0
        });
        let result = Some(("result", "unavailable"));
        until(&observer, "batcher_calls_total", result, |calls| {
            calls >= 1.0
        });
    });
}

#[test]
fn failed_rows_that_nobody_takes_show() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::none())
            .keep_failed(1)
            .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        until(&observer, "batcher_stalled", None, |stalled| stalled == 1.0);
        until(&observer, "batcher_stalled_seconds_total", None, |time| {
            time > 0.0
        });
        assert_eq!(value(&scrape(&observer), "batcher_failed_kept", None), 1.0);
        batcher.add(2).unwrap();
        until(&observer, "batcher_oldest_item_age_seconds", None, |age| {
            age > 0.0
        });
    });
}

#[test]
fn a_close_that_leaves_items_behind_shows() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).name("hung").spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add_many([1, 2]).unwrap();
        director.call();
        assert!(!batcher.close(Duration::ZERO).is_clean());
        let samples = scrape(&observer);
        assert_eq!(value(&samples, "batcher_items_abandoned", None), 1.0);
        assert_eq!(
            value(&samples, "batcher_phase", Some(("phase", "abandoned"))),
            1.0
        );
        assert_eq!(
            value(
                &samples,
                "batcher_closed_total",
                Some(("result", "abandoned"))
            ),
            1.0
        );
        assert_eq!(
            value(&samples, "batcher_items_total", Some(("outcome", "unsent"))),
            1.0
        );
    });
}

/// The path of promtool: from `PROMTOOL`, or in `PATH`.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("PROMTOOL").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("promtool"));
    named.into_iter().chain(found).find(|file| file.is_file())
}

#[test]
fn promtool_has_no_remark() {
    let Some(promtool) = promtool() else {
        eprintln!("SKIPPED: no promtool in the path or in PROMTOOL");
        return;
    };
    let (text, _) = ends(|| {
        let batcher = fixed(1)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new().cpu_load(0.5)))
            .unwrap();
        batcher.add(1).unwrap();
        batcher.flush(LONG).unwrap();
        let mut text = String::new();
        let batchers = [("one", batcher.stats()), ("other", batcher.stats())];
        metrics::write_prometheus(&mut text, &batchers).unwrap();
        (text, batcher)
    });
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = check.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = check.wait_with_output().unwrap();
    let remarks = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && remarks.is_empty(), "{remarks}");
}

#[test]
fn the_page_of_names_has_every_row_of_the_table_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observability.md");
    let page = std::fs::read_to_string(path).unwrap();
    let expected: Vec<String> = NAMES
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
                MetricKind::StateSet => "state set",
                MetricKind::Info => "info",
                kind => panic!("{kind:?}"),
            };
            let label = metric.label.map_or(String::new(), |(label, values)| {
                let values = values.join(", ");
                if values.is_empty() {
                    label.to_owned()
                } else {
                    format!("{label} = {values}")
                }
            });
            let Metric {
                name, unit, help, ..
            } = metric;
            format!("| `{name}` | {kind} | {unit} | {label} | {help} |")
        })
        .collect();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `batcher_"))
        .collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        println!("{}", expected.join("\n"));
    }
    assert_eq!(rows, expected);
}
