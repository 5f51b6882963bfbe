//! Real databases under real neighbours: which way of sizing batches holds in calm, in a storm and
//! after it.
//!
//! ```text
//! cargo run --release --manifest-path benches/storm/Cargo.toml -- --quick --check
//! cargo run --release --manifest-path benches/storm/Cargo.toml
//! ```
//!
//! The first takes under three minutes, the second, which is all of it, two and a half hours.
//!
//! In each round the laws go through warm-up, calm, storm and after together, turn by turn, each on
//! a fresh table; every round begins with another law, so that none is always the first. What is
//! printed are medians over the rounds, and shares of the best fixed size of the phase:
//! `comparison.rs` says how that is found without flattering it, and what "back after" means.
//! Closed loop: rows are added as fast as they are taken. Open loop (`--rate`): so many a second
//! are due whatever happens, the times count from when a row was due, and rows that were still
//! waiting at the end count with the time that they had waited.

mod backend;
mod chart;
mod comparison;
mod host_cpu;
mod laws;
mod mariadb;
mod measure;
mod neighbours;
mod options;
mod postgres;
mod run;
mod sqlite;
mod tables;
mod targets;

use std::path::Path;
use std::process::ExitCode;

use backend::Backend;
use laws::Law;
use neighbours::Storm;
use options::{Name, Options, USAGE};
use run::{Plan, Run};
use targets::Standing;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1).collect()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("storm: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut runs: Vec<Run> = Vec::new();
    for name in &options.backends {
        let Some(mut backend) = open(*name) else {
            continue;
        };
        drop(run::round(
            &mut *backend,
            Storm::Locks,
            &[Law::Fixed(1_000)],
            0,
            &Plan::rehearsal(),
        ));
        for storm in options.storms(*name) {
            for round in 0..options.rounds {
                let mut laws = options.laws.clone();
                laws.rotate_left(round % options.laws.len());
                // An open loop cannot take turns.
                let together = if options.plan.rate.is_some() {
                    1
                } else {
                    laws.len()
                };
                for laws in laws.chunks(together) {
                    let own = run::round(&mut *backend, storm, laws, round, &options.plan);
                    own.iter()
                        .for_each(|run| eprintln!("{}", tables::line(run)));
                    runs.extend(own);
                }
            }
        }
    }
    if runs.is_empty() {
        eprintln!("storm: nothing was run: none of the databases is here");
        return ExitCode::FAILURE;
    }
    let comparisons = comparison::compare(&runs, &options.plan);
    for comparison in &comparisons {
        print!("{}", tables::table(comparison, options.plan.rate.is_some()));
    }
    let mut ok = true;
    if let Some(path) = &options.csv {
        ok &= saved(path, &tables::csv(&comparisons));
    }
    if let Some(path) = &options.svg {
        ok &= saved(path, &chart::svg(&comparisons, &options.plan));
    }
    if options.check {
        println!();
        for verdict in targets::judge(&comparisons) {
            println!("{verdict}");
            ok &= verdict.standing != Standing::Missed;
        }
    }
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn saved(path: &Path, text: &str) -> bool {
    let result = std::fs::write(path, text);
    if let Err(problem) = &result {
        eprintln!("storm: {}: {problem}", path.display());
    }
    result.is_ok()
}

fn open(name: Name) -> Option<Box<dyn Backend>> {
    match name {
        Name::Postgres => postgres::open(),
        Name::Mariadb => mariadb::open(),
        Name::Sqlite => Some(sqlite::open()),
    }
}
