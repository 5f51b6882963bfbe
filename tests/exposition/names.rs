//! The table of names, its page, and promtool's word on them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use load_aware_batcher::metrics::{self, Metric, MetricKind, NAMES};
use load_aware_batcher::{Batch, LoadFeedback};
use testkit::{LONG, ends, fixed};

/// Where promtool is: in the path, or where `PROMTOOL` says.
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

/// A metric that nobody has seen move may be one that never does.
#[test]
fn every_name_of_the_table_is_read_from_a_scrape_by_a_test_that_provokes_its_state() {
    let tests = [include_str!("questions.rs"), include_str!("states.rs")].concat();
    for Metric { name, .. } in NAMES {
        // A histogram is read by its count or its buckets.
        let read = ["", "_count", "_bucket"]
            .iter()
            .any(|suffix| tests.contains(&format!("\"{name}{suffix}\"")));
        assert!(read, "{name}");
    }
}
