//! What a program gets with the defaults: builder, spawn, add, close. Each figure is a ratio to the
//! best that a setting gives on the same backend in the same run.
//!
//! `cargo bench --bench defaults -- [--check] [word …]` runs all lines, or those whose name
//! contains one of the words. With `--check` it names the lines that miss their target, and then
//! the exit code is 1. It takes less than two minutes, most of them for the real databases.
//!
//! SQLite, PostgreSQL and MariaDB are real; a server that is not installed is skipped. All other
//! backends sleep for what a call costs. The runs of a line take turns, and its ratio is the median
//! of its rounds.

mod bulk;
mod servers;
mod sleeping;
mod sqlite;
mod waiting;

use std::process::ExitCode;
use std::time::Duration;

use load_aware_batcher::{Batcher, Fixed};
use sleeping::Backend;
use testkit::pairs::{Pairs, Quartiles, Report, Target};
use testkit::servers::mariadb::Mariadb;
use testkit::servers::postgres::Postgres;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const ROUNDS: usize = 3;

/// A batcher with the defaults, or with one fixed size.
fn batcher(fixed: Option<usize>) -> load_aware_batcher::Builder<u64> {
    match fixed {
        None => Batcher::builder(),
        Some(size) => Batcher::builder().policy(Fixed(size)).max_batch_size(size),
    }
}

/// Runs the defaults and each fixed size in turn. Returns the pairs with the size that has the best
/// median, and that size. The slowest sizes drop out: two stay after the first round, one after the
/// second. So one unlucky run does not remove the best size.
fn against_best(sizes: &[usize], mut run: impl FnMut(Option<usize>) -> f64) -> (Pairs, usize) {
    let mut all: Vec<(Pairs, usize)> = sizes.iter().map(|size| (Pairs::default(), *size)).collect();
    for round in 1..=ROUNDS {
        let ours = run(None);
        for (pairs, size) in &mut all {
            pairs.push(ours, run(Some(*size)));
        }
        all.sort_by(|(a, _), (b, _)| b.theirs().median.total_cmp(&a.theirs().median));
        all.truncate(ROUNDS - round.min(ROUNDS - 1));
    }
    all.swap_remove(0)
}

/// The rate of the defaults against the best of a few fixed sizes.
fn rate(
    report: &mut Report,
    name: &str,
    sizes: &[usize],
    least: f64,
    run: impl FnMut(Option<usize>) -> f64,
) {
    let (pairs, best) = against_best(sizes, run);
    report.line(
        &format!("{name}, best Fixed({best})"),
        &pairs,
        "thousand rows/s",
        Target::AtLeast(least),
    );
}

fn main() -> ExitCode {
    let mut check = false;
    let mut words = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            "--bench" => {}
            word => words.push(word.to_owned()),
        }
    }
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut report = Report::default();

    let name = "a call of 2 ms + 5 µs an item";
    if wanted(name) {
        // Larger is faster here, so smaller sizes need no run.
        rate(&mut report, name, &[5_000], 0.9, |fixed| {
            sleeping::from_the_start(fixed, Backend::Plain, Duration::from_millis(1_500))
        });
    }
    let name = "the same, every tenth call refused at once";
    if wanted(name) {
        rate(&mut report, name, &[500], 0.85, |fixed| {
            sleeping::from_the_start(fixed, Backend::Refusing, Duration::from_secs(1))
        });
    }
    let name = "SQLite, eight lines";
    if wanted(name) {
        rate(
            &mut report,
            name,
            // Up to the default's largest batch: larger ones need more memory, which a program has
            // to ask for. On a disk that commits slowly, 50 000 rows are 1.7 times as fast.
            &[1_000, 5_000, 10_000],
            0.9,
            sqlite::sqlite,
        );
    }
    let sizes = [1_000, 5_000, 10_000];
    let name = "PostgreSQL, eight lines";
    if let Some(server) = wanted(name).then(|| Postgres::own(&[])).flatten() {
        rate(&mut report, name, &sizes, 0.9, |fixed| {
            servers::postgres(fixed, &server)
        });
    }
    let name = "MariaDB, eight lines";
    if let Some(server) = wanted(name).then(|| Mariadb::own(&[])).flatten() {
        rate(&mut report, name, &sizes, 0.9, |fixed| {
            servers::mariadb(fixed, &server)
        });
    }
    let name = "eight threads wait for their rows, p50 in calls";
    if wanted(name) {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| waiting::median_and_call()).collect();
        let ratio = Quartiles::of(rounds.iter().map(|(median, call)| median / call).collect());
        let (median, call) = rounds[0];
        report.ratio(
            name,
            ratio,
            &format!("{median:.1} of {call:.1} ms"),
            Target::AtMost(2.0),
        );
    }
    let name = "HTTP bulk, rows answered 429, requests answered 503";
    if wanted(name) {
        rate(&mut report, name, &[500], 0.9, bulk::documents_per_ms);
    }
    let name = "a cliff: six times as long over 1 500 items";
    if wanted(name) {
        let mut kept = sleeping::Kept::new(Backend::Cliff);
        // The largest below the cliff is the fastest.
        rate(&mut report, name, &[1_500], 0.9, |fixed| kept.window(fixed));
    }
    let name = "a hard limit: over 700 items refused at once";
    if wanted(name) {
        let mut kept = sleeping::Kept::new(Backend::Limit);
        rate(&mut report, name, &[700], 0.9, |fixed| kept.window(fixed));
    }

    if report.missed().is_empty() {
        println!("all {} lines meet their targets", report.lines());
        return ExitCode::SUCCESS;
    }
    println!("missed targets:");
    report.missed().iter().for_each(|line| println!("  {line}"));
    if check {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
