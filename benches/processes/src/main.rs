//! Many processes, one database, no coordination: K processes, each with a batcher that sets nothing
//! but its sink, write into one table of one PostgreSQL.
//!
//! ```text
//! cargo run --release --manifest-path benches/processes/Cargo.toml -- --quick --check
//! cargo run --release --manifest-path benches/processes/Cargo.toml
//! ```
//!
//! The first takes under four minutes, the second a quarter of an hour.
//!
//! For each K, the default policy and each size of a small grid run in turn, several rounds of them.
//! Every run has an empty table and new processes: this program, executed again as a worker. A worker
//! adds rows as fast as they are taken, until it is told to stop, and then reports its calls. Rows
//! count if their commit was answered, in the last part of the run. After the rounds, one more
//! process joins K − 1 that are at work.

mod calls;
mod comparison;
mod database;
mod fairness;
mod joining;
mod options;
mod process;
mod report;
mod run;
mod tables;
mod targets;
mod way;
mod worker;

use std::error::Error;
use std::process::ExitCode;

use comparison::Comparison;
use database::Database;
use options::{Options, USAGE};

/// Why the bench cannot go on.
pub type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == worker::NAME => ended(worker::work(rest)),
        _ => bench(arguments),
    }
}

fn bench(arguments: Vec<String>) -> ExitCode {
    match Options::parse(arguments) {
        Ok(Some(options)) => ended(measure(&options)),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("processes: {problem}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn ended(result: Result<bool, Failure>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("processes: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every target is met, or none was asked for.
fn measure(options: &Options) -> Result<bool, Failure> {
    let before = load();
    let mut database = Database::open().ok_or("there is no PostgreSQL to run")?;
    let mut comparisons = Vec::new();
    for &processes in &options.processes {
        let comparison = Comparison::of(&mut database, processes, &options.plan)?;
        comparisons.push(comparison);
    }
    println!("{}", tables::ways(&comparisons));
    println!("{}", tables::summary(&comparisons));
    println!("Load of the machine before and after: {before}, {}", load());
    if !options.check {
        return Ok(true);
    }
    println!();
    let verdicts = targets::judge(&comparisons);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    Ok(verdicts.iter().all(|verdict| verdict.is_met))
}

/// The mean number of threads that want a core, over the last minute. It says whether others were at
/// work, if it is read before.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or("unknown").to_owned()
}
