//! The tree is the architecture: imports point down, and one door leads to concurrency.

use std::fs;
use std::path::Path;

/// Each module with those that it may import, beside the plain data and the doors that all may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("error", &[]),
    ("feedback", &[]),
    ("policy", &["setpoint"]),
    ("batch_id", &[]),
    ("rows", &["batch_id", "ticket"]),
    ("batch", &["batch_id", "rows", "ticket"]),
    ("retry", &[]),
    ("search", &["batch_id", "retry", "rows"]),
    ("unwind", &[]),
    ("workers", &["batch", "unwind"]),
    ("classify", &[]),
    ("ticket", &[]),
    ("doorbell", &[]),
    ("ring", &[]),
    ("setpoint", &["doorbell", "policy"]),
    ("stats", &["batch", "policy", "setpoint"]),
    ("reporter", &["doorbell", "ring"]),
    ("ages", &[]),
    ("flushes", &[]),
    ("waiters", &[]),
    ("stall", &[]),
    ("regroup", &[]),
    ("dead_letters", &["batch"]),
    ("credit", &["weight_room"]),
    ("weight_room", &[]),
    ("sensor", &["close", "reporter", "unwind"]),
    ("sink", &["batch", "builder", "sensor", "workers"]),
    ("producer", &["intake", "line", "queue", "ticket"]),
    ("message", &["ticket"]),
    ("channel", &["message"]),
    ("refused", &["stats"]),
    ("weigher", &[]),
    (
        "queue",
        &[
            "channel",
            "credit",
            "doorbell",
            "intake",
            "message",
            "refused",
            "stall",
            "ticket",
            "waiters",
            "weigher",
            "weight_room",
        ],
    ),
    (
        "intake",
        &[
            "ages",
            "batch",
            "batch_id",
            "channel",
            "dead_letters",
            "flushes",
            "message",
            "queue",
            "rows",
            "search",
            "stats",
            "ticket",
            "waiters",
        ],
    ),
    (
        "gather",
        &[
            "batch", "channel", "intake", "message", "queue", "retry", "rows", "search",
        ],
    ),
    ("line", &["intake", "queue", "ticket", "unwind"]),
    (
        "settle",
        &[
            "batch", "gather", "intake", "queue", "retry", "rows", "search", "ticket",
        ],
    ),
    (
        "close",
        &[
            "batch",
            "controller",
            "error",
            "intake",
            "queue",
            "reporter",
            "unwind",
        ],
    ),
    (
        "flusher",
        &[
            "batch", "close", "gather", "intake", "queue", "regroup", "reporter", "retry",
            "setpoint", "settle", "unwind", "workers",
        ],
    ),
    (
        "controller",
        &["policy", "reporter", "ring", "setpoint", "unwind"],
    ),
    ("sim", &["policy", "setpoint"]),
];

/// All may import these.
const EVERYWHERE: &[&str] = &["error", "feedback", "sync"];

/// What only the door may name.
const BEHIND_THE_DOOR: &[&str] = &[
    "std::thread",
    "std::sync",
    "crossbeam_channel",
    "crossbeam_utils",
    "arc_swap",
    "atomic_float",
    "loom::",
    "shuttle::",
];

/// Policies, retry, the classes of errors and the simulator are pure: no door, no clock.
const PURE: &[&str] = &["policy", "retry", "classify", "sim"];

/// The longest file, in lines that are neither blank nor a comment.
const CODE_LINES_MAX: usize = 475;
/// The same in a file of tests.
const TEST_LINES_MAX: usize = 510;

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push((
                    path.to_str().unwrap().replace('\\', "/"),
                    fs::read_to_string(&path).unwrap(),
                ));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 15, "the sources are where they are expected");
    found
}

/// The module under `src` that a file belongs to, `policy` for `src/policy/fixed.rs`.
fn module(path: &str) -> &str {
    let inside = path.rsplit_once("/src/").unwrap().1;
    inside.split(['/', '.']).next().unwrap()
}

/// The code of a file: without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(all(test, not(").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn imported(code: &str) -> Vec<String> {
    code.match_indices("crate::")
        .map(|(at, _)| {
            code[at + 7..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    // A file of tests may name what it puts together.
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| !path.contains("/tests"))
    {
        let own = module(&path);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == own) else {
            continue;
        };
        for import in imported(&code(&text)) {
            if import != own && !allowed.contains(&&*import) && !EVERYWHERE.contains(&&*import) {
                wrong.push(format!("{own} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_door_names_concurrency() {
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| module(path) != "sync")
    {
        for name in BEHIND_THE_DOOR {
            assert!(!code(&text).contains(name), "{path} names {name}");
        }
    }
}

/// They are woven into a copy: see loom-tests/mutants.list.
#[test]
fn the_sources_hold_no_mutants() {
    for (path, text) in sources() {
        assert!(!text.contains("mutant("), "{path} holds a mutant");
    }
}

#[test]
fn policies_retry_and_the_simulator_are_pure() {
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| PURE.contains(&module(path)) && !path.contains("/tests"))
    {
        for name in ["crate::sync", "Instant", "SystemTime", "rand"] {
            assert!(!code(&text).contains(name), "{path} names {name}");
        }
    }
}

/// Comments and blank lines are free: an example in the documentation is no reason to split a file.
#[test]
fn files_stay_readable() {
    for (path, text) in sources() {
        let lines = text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count();
        let most = if path.ends_with("tests.rs") {
            TEST_LINES_MAX
        } else {
            CODE_LINES_MAX
        };
        assert!(lines <= most, "{path} has {lines} lines of code: split it");
    }
}

/// Public functions whose one sentence says all, or that stand in another's example: questions
/// with a yes or no, plain setters, the second of a pair. The simulator has examples as a whole.
const WITHOUT_EXAMPLE: &[(&str, &[&str])] = &[
    ("src/batch.rs", &["parent", "deadline"]),
    ("src/batch_id.rs", &["as_u128"]),
    ("src/batcher.rs", &["builder"]),
    ("src/classify.rs", &["error"]),
    ("src/classify/mysql.rs", &["mysql_verdict"]),
    ("src/classify/sqlite.rs", &["sqlite_verdict"]),
    ("src/classify/sqlstate.rs", &["sqlstate_verdict"]),
    (
        "src/controller.rs",
        &["min_batch_size", "max_batch_size", "linger"],
    ),
    (
        "src/error.rs",
        &[
            "is_full",
            "is_timeout",
            "is_closed",
            "is_reentrant",
            "is_too_heavy",
            "is_stalled",
        ],
    ),
    (
        "src/error/batch_error.rs",
        &[
            "class",
            "is_transient",
            "is_permanent",
            "is_in_doubt",
            "is_unavailable",
            "is_misconfigured",
            "is_panic",
            "is_handler_broken",
            "wait_asked",
        ],
    ),
    (
        "src/feedback.rs",
        &[
            "new",
            "cpu_load",
            "queue_depth",
            "processing_time",
            "error_rate",
            "db_locks",
            "failed_share",
        ],
    ),
    ("src/policy.rs", &["hold", "resize"]),
    ("src/policy/aimd.rs", &["increase", "decrease"]),
    ("src/policy/cost_model.rs", &["new"]),
    (
        "src/policy/load_threshold.rs",
        &[
            "queue_scale",
            "lock_scale",
            "normalise",
            "error_floor",
            "grow_only_when_full",
            "halve_on_failure",
        ],
    ),
    ("src/stats.rs", &["total"]),
    ("src/workers.rs", &["index", "times"]),
];

#[test]
fn public_functions_have_an_example() {
    let mut missing = Vec::new();
    for (path, text) in sources() {
        let file = format!("src/{}", path.rsplit_once("/src/").unwrap().1);
        let mut documentation = String::new();
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("///") {
                documentation.push_str(line);
            } else if let (Some(rest), false) =
                (line.strip_prefix("pub fn "), documentation.is_empty())
            {
                let name = rest.split(['(', '<']).next().unwrap();
                let excepted = file.starts_with("src/sim")
                    || WITHOUT_EXAMPLE
                        .iter()
                        .any(|(of, names)| *of == file && names.contains(&name));
                if !documentation.contains("```") && !excepted {
                    missing.push(format!("{file}: {name}"));
                }
                documentation.clear();
            } else if !line.starts_with("#[") {
                documentation.clear();
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// What a program that links the crate builds besides it.
#[test]
fn the_core_has_four_dependencies_at_run_time() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(path).unwrap();
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
            let other = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
            assert!(
                inside || !other || line == "[workspace.dependencies]",
                "{line} adds to what is built"
            );
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside) {
            names.push(name.trim());
        }
    }
    let expected = [
        "arc-swap",
        "atomic_float",
        "crossbeam-channel",
        "crossbeam-utils",
    ];
    assert_eq!(names, expected);
}
