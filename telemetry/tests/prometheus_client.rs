//! The collector's exposition has the samples of the crate's own text, under the same names.
#![cfg(feature = "prometheus-client")]

use std::collections::BTreeMap;

use load_aware_batcher_telemetry::Observers;
use load_aware_batcher_telemetry::prometheus_client::BatcherCollector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

mod at_work;

/// The samples of a text by name and sorted labels; numbers as numbers, since 1 and 1.0 are one.
fn samples(text: &str) -> BTreeMap<(String, Vec<String>), f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once('{').unwrap();
            let (labels, value) = rest.split_once("} ").unwrap();
            let mut labels: Vec<String> = labels
                .split(',')
                .map(|label| match label.strip_prefix("le=\"") {
                    Some(bound) if !bound.starts_with('+') => {
                        let bound: f64 = bound.trim_end_matches('"').parse().unwrap();
                        format!("le={bound}")
                    }
                    _ => label.to_owned(),
                })
                .collect();
            labels.sort();
            ((name.to_owned(), labels), value.parse().unwrap())
        })
        .collect()
}

fn heads(text: &str, what: &str) -> Vec<String> {
    let heads = text.lines().filter(|line| line.starts_with(what));
    heads
        .map(|line| line.replace(" stateset", " gauge"))
        .collect()
}

#[test]
fn the_exposition_has_the_samples_and_the_heads_of_the_crates_own_text() {
    let ended = [at_work::ended("orders"), at_work::ended("readings")];
    let stats = ended
        .clone()
        .map(|one| (one.name().to_owned(), one.stats()));
    let mut registry = Registry::default();
    let observers: Observers = ended.into_iter().collect();
    registry.register_collector(Box::new(BatcherCollector::new(observers)));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();

    let mut own = String::new();
    load_aware_batcher::metrics::write_prometheus(&mut own, &stats).unwrap();
    assert_eq!(samples(&text), samples(&own));

    own.clear();
    load_aware_batcher::metrics::write_openmetrics(&mut own, &stats).unwrap();
    for what in ["# TYPE", "# HELP", "# UNIT"] {
        assert_eq!(heads(&text, what), heads(&own, what), "{what}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_batcher_that_is_added_later_is_in_the_next_scrape() {
    let observers = Observers::new();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(BatcherCollector::new(observers.clone())));
    let scrape = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    assert_eq!(scrape(), "# EOF\n");
    observers.add(at_work::ended("orders"));
    assert!(scrape().contains("batcher_items_total{batcher=\"orders\",outcome=\"handled\"} "));
    assert!(observers.remove("orders"));
    assert_eq!(scrape(), "# EOF\n");
}
