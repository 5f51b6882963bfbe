//! Weaves the mutants of `loom-tests/mutants.list` into copies of the tree and runs them.
//!
//! `cargo run --manifest-path loom-tests/weave/Cargo.toml --target-dir target/weave/tool -- [check]
//! [loom] [shuttle] [lib] [NAME]`
//!
//! There is one copy and one build for each kind of test. A copy holds every mutant of its kind,
//! each as a branch that the variable `MUTANT` selects. Each test that the list names must pass
//! without a mutant and must fail with each of its mutants.
//!
//! - `check` applies the entries and stops before the builds.
//! - Without a kind, all three kinds run.
//! - With a `NAME`, only the mutants whose names contain it run.

mod list;
mod tree;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use list::{Kind, Mutant};

/// How many mutants run at a time.
const PARALLEL: usize = 2;

/// A mutant that has neither passed nor failed by then counts as an error of its own.
const LIMIT: Duration = Duration::from_secs(600);

/// One run: the mutant's name and the test that must fail.
type Run<'a> = (&'a str, &'a str);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weave: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .map_err(|error| error.to_string())?;
    let (mut kinds, mut only_check, mut name) = (Vec::new(), false, None);
    for argument in std::env::args().skip(1) {
        match (argument.as_str(), Kind::named(&argument)) {
            ("check", _) => only_check = true,
            (_, Some(kind)) => kinds.push(kind),
            _ => name = Some(argument),
        }
    }
    if kinds.is_empty() {
        kinds = Kind::ALL.to_vec();
    }
    let path = root.join("loom-tests/mutants.list");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mutants = list::parse(&text)?;
    let known = |part: &String| mutants.iter().any(|mutant| mutant.name.contains(part));
    if let Some(part) = name.as_ref().filter(|part| !known(part)) {
        return Err(format!("no mutant's name contains {part:?}"));
    }
    for kind in kinds {
        let copy = root.join("target/weave").join(kind.name());
        let of_kind: Vec<_> = mutants
            .iter()
            .filter(|mutant| mutant.red.iter().any(|(of, _)| *of == kind))
            .collect();
        let woven = tree::weave(&root, &of_kind, kind != Kind::Lib)?;
        tree::copy(&root, &copy, "", &woven)
            .map_err(|error| format!("{}: {error}", copy.display()))?;
        println!("{}: {} mutants apply", kind.name(), of_kind.len());
        if !only_check {
            test(&root, &copy, kind, &of_kind, name.as_deref())?;
        }
    }
    Ok(())
}

/// Builds the copy's tests, runs them without a mutant and then each mutant.
fn test(
    root: &Path,
    copy: &Path,
    kind: Kind,
    mutants: &[&Mutant],
    name: Option<&str>,
) -> Result<(), String> {
    let runs: Vec<Run<'_>> = mutants
        .iter()
        .filter(|mutant| name.is_none_or(|part| mutant.name.contains(part)))
        .flat_map(|mutant| mutant.red.iter().map(move |(of, test)| (mutant, *of, test)))
        .filter(|(_, of, _)| *of == kind)
        .map(|(mutant, _, test)| (mutant.name.as_str(), test.as_str()))
        .collect();
    if runs.is_empty() {
        return Ok(());
    }
    let binary = build(root, copy, kind)?;
    let tests: BTreeSet<_> = runs.iter().map(|(_, test)| *test).collect();
    let existing = existing(&binary)?;
    if let Some(missing) = tests.iter().find(|test| !existing.contains(**test)) {
        return Err(format!("{}: there is no test {missing}", kind.name()));
    }
    let mut green = Command::new(&binary);
    green.current_dir(copy).env_remove("MUTANT");
    if name.is_some() || kind == Kind::Lib {
        green.arg("--exact").args(&tests);
    }
    println!("{}: without a mutant", kind.name());
    if !green.status().is_ok_and(|status| status.success()) {
        return Err(format!(
            "{}: a test fails without a mutant, or the binary does not run",
            kind.name()
        ));
    }
    fs::create_dir_all(copy.with_extension("logs")).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let errors = run_all(copy, &binary, kind, &runs);
    println!(
        "{}: {} mutants run in {:.0?}",
        kind.name(),
        runs.len(),
        begun.elapsed()
    );
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("\nweave: "))
    }
}

fn build(root: &Path, copy: &Path, kind: Kind) -> Result<PathBuf, String> {
    println!("{}: building", kind.name());
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--lib", "--no-run", "--message-format=json"])
        .current_dir(copy)
        // The tree's own folder: the dependencies are already built there.
        .env("CARGO_TARGET_DIR", root.join("target"))
        .stderr(Stdio::inherit());
    if kind == Kind::Lib {
        cargo.env_remove("RUSTFLAGS");
    } else {
        cargo
            .args(["--profile", "loom"])
            .env("RUSTFLAGS", format!("--cfg {}", kind.name()));
    }
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}: the woven copy does not build", kind.name()));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = messages
        .rsplit_once("\"executable\":\"")
        .ok_or("cargo names no test binary")?;
    let end = rest.find('"').ok_or("cargo names no test binary")?;
    Ok(PathBuf::from(&rest[..end]))
}

/// The tests of the binary.
fn existing(binary: &Path) -> Result<BTreeSet<String>, String> {
    let output = Command::new(binary)
        .arg("--list")
        .output()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// The mutants that are not found, with the reason.
fn run_all(copy: &Path, binary: &Path, kind: Kind, runs: &[Run<'_>]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let errors = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let result = run_one(copy, binary, kind, *run);
                    let (mutant, test) = run;
                    let word = if result.is_ok() { "found" } else { "NOT FOUND" };
                    println!("{word} in {:.1?}: {mutant} => {test}", begun.elapsed());
                    if let Err(why) = result {
                        let error = format!("{}: {mutant}: {test} {why}", kind.name());
                        errors.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    errors.into_inner().unwrap()
}

/// Runs one test with one mutant, in a process of its own: a deadlock that a checker finds ends in
/// a panic amid the test's own drops, which aborts the process.
fn run_one(copy: &Path, binary: &Path, kind: Kind, (mutant, test): Run<'_>) -> Result<(), String> {
    let log = copy
        .with_extension("logs")
        .join(format!("{mutant} {test}").replace([':', ' ', ','], "-"));
    let output = File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(binary);
    command
        .args([test, "--exact"])
        .current_dir(copy)
        .env("MUTANT", mutant)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    if kind == Kind::Shuttle {
        // Some mutants need more schedules than the gate draws; the first failure ends the test.
        command.env("SHUTTLE_SCHEDULES", "20000");
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("has no result after {LIMIT:?}"));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let printed = fs::read(&log).map_err(|error| error.to_string())?;
    if !String::from_utf8_lossy(&printed).contains("running 1 test") {
        return Err("did not run".to_owned());
    }
    if status.success() {
        return Err("passes".to_owned());
    }
    Ok(())
}
