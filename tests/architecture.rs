//! Rules for the source tree. Imports point down, and only `sync` imports concurrency.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each folder, and each file next to the folders, with those that it may import. All may import
/// `EVERYWHERE`. An item goes through `queue` and `flush`, a sample through `exchange` and
/// `control`. A module without a row fails the test.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "batcher",
        &[
            "batch",
            "control",
            "events",
            "exchange",
            "flush",
            "journal",
            "listeners",
            "observer",
            "policy",
            "queue",
            "snapshot",
            "stats",
            "ticket",
            "wakeup",
        ],
    ),
    (
        "flush",
        &[
            "batch",
            "events",
            "exchange",
            "journal",
            "listeners",
            "observe",
            "policy",
            "queue",
            "snapshot",
            "stats",
            "ticket",
            "wakeup",
        ],
    ),
    ("queue", &["stats", "ticket", "wakeup"]),
    (
        "control",
        &[
            "events", "exchange", "journal", "policy", "snapshot", "stats",
        ],
    ),
    ("observer", &["events", "journal", "stats"]),
    ("journal", &["events", "listeners"]),
    ("listeners", &["events"]),
    ("events", &["batch", "policy"]),
    ("metrics", &["policy", "stats"]),
    ("exchange", &["policy", "wakeup"]),
    ("snapshot", &["observe", "policy", "stats"]),
    ("observe", &["batch", "stats"]),
    ("stats", &["batch", "policy"]),
    ("batch", &["ticket"]),
    ("sim", &["policy"]),
    ("policy", &[]),
    ("classify", &[]),
    ("ticket", &[]),
    ("wakeup", &[]),
    ("error", &[]),
    ("feedback", &[]),
    ("unwind", &[]),
    ("sync", &[]),
];

/// All may import these.
const EVERYWHERE: &[&str] = &["error", "feedback", "sync", "unwind"];

/// What only `sync` may name.
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

/// Policies, retry, the classes of errors and the simulator are pure. They use neither `sync` nor a
/// clock.
const PURE: &[&str] = &["policy", "flush::retry", "classify", "sim"];

fn is_pure(module: &str) -> bool {
    PURE.contains(&module) || PURE.contains(&folder(module))
}

/// The longest file, in lines that are neither blank nor a comment.
const CODE_LINES_MAX: usize = 475;
/// The same for a file of tests.
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

/// The module of a file under `src`: `flush::lane` for `src/flush/lane.rs`.
fn module(path: &str) -> String {
    let inside = path.rsplit_once("/src/").unwrap().1;
    inside.trim_end_matches(".rs").replace('/', "::")
}

/// The folder that a module belongs to, or the module itself.
fn folder(module: &str) -> &str {
    module.split("::").next().unwrap()
}

/// The code of a file: without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(all(test, not(").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The paths behind `crate::`.
fn imported(code: &str) -> Vec<String> {
    let in_path = |c: &char| c.is_alphanumeric() || matches!(c, '_' | ':');
    code.match_indices("crate::")
        .map(|(at, _)| code[at + 7..].chars().take_while(in_path).collect())
        .collect()
}

/// Each module with its code. Files of tests are left out, since they may name all that they need.
fn modules() -> BTreeMap<String, String> {
    sources()
        .into_iter()
        .filter(|(path, _)| !path.contains("/tests") && !path.ends_with("/lib.rs"))
        .map(|(path, text)| (module(&path), code(&text)))
        .collect()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (module, code) in modules() {
        let own = folder(&module);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == own) else {
            wrong.push(format!("no row names {own}"));
            continue;
        };
        for import in imported(&code) {
            let import = folder(&import);
            if import != own && !allowed.contains(&import) && !EVERYWHERE.contains(&import) {
                wrong.push(format!("{module} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a module reaches by imports, directly or not.
fn reached<'a>(from: &'a str, imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&str> = imports[from].iter().copied().collect();
    while let Some(next) = left.pop() {
        if reached.insert(next) {
            left.extend(&imports[next]);
        }
    }
    reached
}

#[test]
fn no_modules_import_each_other() {
    let modules = modules();
    let mut imports = BTreeMap::new();
    for (module, code) in &modules {
        let mut named = BTreeSet::new();
        for import in imported(code) {
            // The longest part of the path that is a module.
            let mut path = import.trim_end_matches(':');
            while !modules.contains_key(path) {
                let Some((shorter, _)) = path.rsplit_once("::") else {
                    break;
                };
                path = shorter;
            }
            if let Some((found, _)) = modules
                .get_key_value(path)
                .filter(|(found, _)| *found != module)
            {
                named.insert(found.as_str());
            }
        }
        imports.insert(module.as_str(), named);
    }
    let mut wrong = Vec::new();
    for module in imports.keys() {
        for other in reached(module, &imports) {
            if other != *module && reached(other, &imports).contains(module) {
                wrong.push(format!("{module} and {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_sync_names_concurrency() {
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| folder(&module(path)) != "sync")
    {
        for name in BEHIND_THE_DOOR {
            assert!(!code(&text).contains(name), "{path} names {name}");
        }
    }
}

/// Mutants are woven into a copy, see loom-tests/mutants.list.
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
        .filter(|(path, _)| is_pure(&module(path)) && !path.contains("/tests"))
    {
        for name in ["crate::sync", "Instant", "SystemTime", "rand"] {
            assert!(!code(&text).contains(name), "{path} names {name}");
        }
    }
}

/// Comments and blank lines do not count. An example in the documentation is no reason to split a
/// file.
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

/// The simulator has examples as a whole.
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
                if !documentation.contains("```") && !file.starts_with("src/sim") {
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

/// What a program that links the crate builds in addition.
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
