//! Real databases, on the same machine and over a slow network: how many rows several calls at once
//! store, and how close `CostModel` comes to the best fixed size and concurrency.
//!
//! ```text
//! cargo run --release --manifest-path benches/parallel/Cargo.toml -- --quick --check
//! cargo run --release --manifest-path benches/parallel/Cargo.toml
//! ```
//!
//! The first takes under four minutes, the second half an hour.
//!
//! Each cell of the table is a situation and a bound of the size. In each, rows are added as fast
//! as they are taken. The runs of a cell have every fixed size n and concurrency k of a grid,
//! `CostModel` with one call at a time, `CostModel` with 1 to 8 calls, and the best of the grid
//! once more. The ratios are to that last run. The sinks write the rows, with a key, as a program
//! would.

mod backend;
mod cells;
mod comparison;
mod mariadb;
mod measure;
mod options;
mod postgres;
mod proxy;
mod run;
mod tables;
mod targets;

use std::process::ExitCode;

use backend::Backend;
use comparison::Comparison;
use options::{Name, Options, USAGE};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1).collect()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("parallel: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let before = load();
    let mut comparisons = Vec::new();
    for name in &options.backends {
        let Some(mut backend) = open(*name) else {
            continue;
        };
        for cell in &options.cells {
            let comparison = Comparison::of(&mut *backend, *cell, &options.plan);
            println!("{}", tables::runs(&comparison));
            comparisons.push(comparison);
        }
    }
    if comparisons.is_empty() {
        eprintln!("parallel: nothing was run: neither database is installed");
        return ExitCode::FAILURE;
    }
    print!("{}", tables::gains(&comparisons));
    println!(
        "\nLoad of the machine before and after: {before}, {}",
        load()
    );
    if !options.check {
        return ExitCode::SUCCESS;
    }
    println!();
    let verdicts = targets::judge(&comparisons);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().all(|verdict| verdict.is_met) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn open(name: Name) -> Option<Box<dyn Backend>> {
    match name {
        Name::Postgres => postgres::open(),
        Name::Mariadb => mariadb::open(),
    }
}

/// The mean number of runnable threads over the last minute. Read before the bench, it shows
/// whether the machine had other work.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or("unknown").to_owned()
}
