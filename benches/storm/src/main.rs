//! Real databases under real competing load: which policy sizes batches well before the load,
//! during it and after it. Such a load is called a storm here.
//!
//! ```text
//! cargo run --release --manifest-path benches/storm/Cargo.toml -- --quick --check
//! cargo run --release --manifest-path benches/storm/Cargo.toml
//! ```
//!
//! The first takes under three minutes. The second runs everything, in two and a half hours.
//!
//! A round has four phases: warm-up, before, during and after the storm. The candidates go through
//! them together and take turns, each on a fresh table. Every round begins with another candidate,
//! so that none is always the first. The figures are medians over the rounds, and shares of the
//! best fixed size of the phase. `comparison.rs` says how that size is chosen without a selection
//! bias, and what "back after" means.
//!
//! In a closed loop, rows are added as fast as they are taken. In an open loop (`--rate N`), N rows
//! a second are due, taken or not. A row's time counts from when it was due. Rows that still wait
//! at the end count with the time that they have waited.

mod backend;
mod candidates;
mod chart;
mod comparison;
mod competitors;
mod host_cpu;
mod mariadb;
mod measure;
mod options;
mod postgres;
mod run;
mod sqlite;
mod tables;
mod targets;

use std::path::Path;
use std::process::ExitCode;

use backend::Backend;
use candidates::Candidate;
use competitors::Storm;
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
            &[Candidate::Fixed(1_000)],
            0,
            &Plan::rehearsal(),
        ));
        for storm in options.storms(*name) {
            for round in 0..options.rounds {
                let mut candidates = options.candidates.clone();
                candidates.rotate_left(round % options.candidates.len());
                // In an open loop, candidates cannot take turns.
                let together = if options.plan.rate.is_some() {
                    1
                } else {
                    candidates.len()
                };
                for candidates in candidates.chunks(together) {
                    let own = run::round(&mut *backend, storm, candidates, round, &options.plan);
                    own.iter()
                        .for_each(|run| eprintln!("{}", tables::line(run)));
                    runs.extend(own);
                }
            }
        }
    }
    if runs.is_empty() {
        eprintln!("storm: nothing was run: none of the databases is installed");
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
