//! The dashboard and the alerts of docs/observability name what the table has, and promtool takes
//! them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use load_aware_batcher::metrics::{MetricKind, NAMES};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observability")
}

fn text(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).unwrap()
}

/// The value of `key` in every object of the tree.
fn collect<'a>(tree: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match tree {
        Value::Object(object) => {
            found.extend(object.get(key));
            object.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
        _ => (),
    }
}

/// The queries of the dashboard, with its variables replaced.
fn queries() -> Vec<String> {
    let board: Value = serde_json::from_str(&text("grafana.json")).unwrap();
    let mut queries = Vec::new();
    collect(&board["panels"], "expr", &mut queries);
    let queries = queries.iter().map(|query| {
        let query = query.as_str().unwrap().replace("$batcher", ".*");
        query.replace("$__rate_interval", "5m")
    });
    queries.collect()
}

/// The words of a text that begin as the table's names do.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
    words.filter(|word| word.starts_with("batcher_")).collect()
}

fn is_in_the_table(name: &str) -> bool {
    NAMES.iter().any(|metric| match metric.kind {
        MetricKind::Histogram => {
            let suffix = name.strip_prefix(metric.name);
            suffix.is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix))
        }
        _ => metric.name == name,
    })
}

#[test]
fn every_name_in_the_dashboard_and_in_the_alerts_is_in_the_table() {
    for file in ["grafana.json", "alerts.yml", "alerts.test.yml"] {
        let text = text(file);
        let names = names(&text);
        assert!(names.len() > 5, "{file}");
        for name in names {
            assert!(is_in_the_table(name), "{name} of {file}");
        }
    }
}

#[test]
fn every_label_value_in_the_dashboard_and_in_the_alerts_is_in_the_table() {
    let all = queries().join("\n") + &text("alerts.yml") + &text("alerts.test.yml");
    let mut selected = 0;
    for metric in NAMES {
        let Some((label, values)) = metric.label.filter(|(_, values)| !values.is_empty()) else {
            continue;
        };
        for (at, _) in all.match_indices(&format!("{}{{", metric.name)) {
            let selector = all[at..].split_once('}').unwrap().0;
            let Some((_, rest)) = selector
                .split_once(&format!("{label}="))
                .or_else(|| selector.split_once(&format!("{label}!=")))
            else {
                continue;
            };
            let rest = rest.trim_start_matches('~').trim_start_matches('"');
            for value in rest.split_once('"').unwrap().0.split('|') {
                assert!(values.contains(&value), "{value} of {selector}");
                selected += 1;
            }
        }
    }
    assert!(selected > 10, "{selected}");
}

#[test]
fn every_row_of_the_dashboard_has_its_place_and_its_source() {
    let board: Value = serde_json::from_str(&text("grafana.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for y in place("y")..place("y") + place("h") {
            for x in place("x")..place("x") + place("w") {
                assert!(taken.insert((x, y)), "{panel} lies on another");
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        }
    }
}

/// Where promtool is: in the path, or where `PROMTOOL` says.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("PROMTOOL").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("promtool"));
    let file = named.into_iter().chain(found).find(|file| file.is_file());
    if file.is_none() {
        eprintln!("SKIPPED: no promtool in the path or in PROMTOOL");
    }
    file
}

fn passes(promtool: &Path, what: &str, file: &Path) {
    let output = Command::new(promtool)
        .args([what, "rules"])
        .arg(file)
        .output()
        .unwrap();
    let remarks = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&remarks)
    );
}

#[test]
fn promtool_takes_the_alerts_and_each_fires_in_its_state_alone() {
    let Some(promtool) = promtool() else { return };
    passes(&promtool, "check", &folder().join("alerts.yml"));
    passes(&promtool, "test", &folder().join("alerts.test.yml"));
    let (alerts, tests) = (text("alerts.yml"), text("alerts.test.yml"));
    for line in alerts.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            let tested = format!("alertname: {name}\n");
            assert!(tests.matches(&tested).count() >= 2, "{name} has no test");
        }
    }
}

#[test]
fn promtool_takes_the_queries_of_the_dashboard() {
    let Some(promtool) = promtool() else { return };
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, query) in queries().iter().enumerate() {
        // A string of JSON is one of YAML.
        let query = Value::from(query.as_str());
        rules += &format!("  - record: query_{number}\n    expr: {query}\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    std::fs::write(&file, rules).unwrap();
    passes(&promtool, "check", &file);
}
