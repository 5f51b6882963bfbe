//! The text of both formats, held by files, and the escapes.

use std::time::{Duration, Instant};

use super::*;
use crate::observe::{Counts, Event};
use crate::policy::Zone;
use crate::policy::setpoint::Setpoint;
use crate::snapshot::{ControlPart, Identity, LanePart};
use crate::stats::{DecisionCounts, Phase, Refused, SignalValue};

/// A snapshot with a different number in every place.
pub(crate) fn stats() -> Stats {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut counts = Counts::new(start);
    for len in [1, 40, 40, 60_000] {
        counts.observe(Event::Gathered {
            trigger: crate::batch::Trigger::Linger,
            len,
        });
    }
    for (now, ms) in [(1, 1), (2, 30), (3, 45_000)] {
        counts.observe(Event::CallEnded {
            now: at(now),
            service_time: Duration::from_millis(ms),
            queue_wait: Some(Duration::from_millis(ms * 2)),
            bad_rejects: 1,
            error: None,
        });
    }
    counts.handled = 101;
    counts.failed = 16;
    counts.in_doubt = 5;
    counts.rejected = 7;
    counts.rejected_in_doubt = 2;
    counts.unsent = 8;
    counts.abandoned = 9;
    counts.paused = Duration::from_millis(1_500);
    let lane = LanePart {
        counts,
        added: 140,
        refused: Refused::default(),
        capacity: 1_024,
        calls_in_flight: 1,
        items_in_flight: 3,
        call_begun: Some(at(8)),
        oldest_since: Some(at(9)),
        producers_blocked: 2,
        producer_wait: Duration::from_millis(250),
        retrying: None,
        kept_failed: 4,
        stalled: true,
        phase: Phase::Closing,
    };
    let control = ControlPart {
        identity: Identity {
            name: "readings".to_owned(),
            idempotent: true,
            retry: "patience",
        },
        policy: "CostModel",
        concurrency: crate::policy::Concurrency::from(1..=1),
        setpoint: Setpoint {
            concurrency: 1,
            batch_size: 50,
            linger: Duration::from_millis(100),
            pause_ratio: 0.5,
            probe: None,
            zone: Zone::High,
            score: Some(0.75),
            reason: "a test".into(),
        },
        min_batch_size: 1,
        max_batch_size: 10_000,
        score: Some((0.75, start)),
        thresholds: Some((0.3, 0.7)),
        signals: vec![SignalValue::new("cpu_load", 0.5)],
        decisions: DecisionCounts::default(),
        probes: 6,
        policy_panics: 0,
        listener_panics: 0,
        events_dropped: 7,
        sensor_panics: 0,
        samples_lost: 0,
        values_corrected: 0,
        unknown_signals: 0,
    };
    control.with(vec![lane], at(10))
}

fn one_and_another() -> [(&'static str, Stats); 2] {
    let (mut other, mut idle) = (stats(), stats());
    idle.average_load = None;
    other.name.clear();
    [("readings", other), ("orders", idle)]
}

#[test]
fn the_prometheus_text_is_that_of_the_file() {
    let mut text = String::new();
    write_prometheus(&mut text, &one_and_another()).unwrap();
    held("golden.prom", include_str!("golden.prom"), &text);
}

#[test]
fn the_openmetrics_text_is_that_of_the_file() {
    let mut text = String::new();
    write_openmetrics(&mut text, &one_and_another()).unwrap();
    held(
        "golden.openmetrics",
        include_str!("golden.openmetrics"),
        &text,
    );
}

/// With `UPDATE_GOLDEN=1` the file is written instead: a change of a name breaks what people built.
fn held(file: &str, expected: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics");
        std::fs::write(format!("{folder}/{file}"), text).unwrap();
        return;
    }
    for (number, (expected, line)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of {file}", number + 1);
    }
    assert_eq!(text.len(), expected.len(), "{file}");
}

#[test]
fn a_name_is_escaped() {
    let mut text = String::new();
    let name = "a \"quoted\\\" name\nin two lines";
    write_prometheus(&mut text, &[(name, stats())]).unwrap();
    let line = r#"batcher_items_pending{batcher="a \"quoted\\\" name\nin two lines"} 6"#;
    assert!(text.lines().any(|own| own == line), "{text}");
}

#[test]
fn every_row_of_the_table_is_written_and_each_once() {
    let mut text = String::new();
    stats().write_prometheus(&mut text).unwrap();
    for metric in NAMES {
        let head = format!("# TYPE {} ", metric.name);
        assert_eq!(text.matches(&head).count(), 1, "{}", metric.name);
        let is_sample = |line: &&str| {
            line.strip_prefix(metric.name)
                .is_some_and(|rest| rest.starts_with(['{', '_']))
        };
        assert!(text.lines().any(|line| is_sample(&line)), "{}", metric.name);
    }
}

#[test]
fn a_row_in_doubt_that_was_rejected_has_one_outcome() {
    let mut text = String::new();
    stats().write_prometheus(&mut text).unwrap();
    let of = |outcome: &str| {
        let head = format!("batcher_items_total{{batcher=\"readings\",outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&head));
        line.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((of("failed"), of("rejected"), of("in_doubt")), (6, 5, 5));
}
