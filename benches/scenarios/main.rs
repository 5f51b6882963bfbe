//! The scenarios that the policies are judged by, in virtual time: `cargo bench --bench scenarios`.
//!
//! Prints one table for each scenario and one line for each target. The exit code is 1 if
//! `CostModel` misses a target that it has to meet; a stretch target is only reported. Options:
//! `--seeds N` (20), `--only T5,T6`, and `--csv FILE` for every single figure.
//!
//! `--parallel` runs the scenarios of many calls at once instead, on 3 seeds. There a missed target
//! makes the exit code 1 only with `--check`.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

mod candidates;
mod competing;
mod golden;
mod parallel;
mod random;
mod refusing;
mod runs;
mod targets;

use candidates::Candidate;
use runs::Figures;
use targets::{Scenario, Table, Target};

struct Arguments {
    seeds: Option<u64>,
    parallel: bool,
    check: bool,
    first_seed: u64,
    only: Option<Vec<String>>,
    csv: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: None,
        parallel: false,
        check: false,
        first_seed: 1,
        only: None,
        csv: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let seeds = value()?
                    .parse()
                    .map_err(|error| format!("--seeds: {error}"))?;
                arguments.seeds = Some(seeds);
            }
            "--first-seed" => {
                arguments.first_seed = value()?
                    .parse()
                    .map_err(|error| format!("--first-seed: {error}"))?
            }
            "--only" => arguments.only = Some(value()?.split(',').map(str::to_uppercase).collect()),
            "--parallel" => arguments.parallel = true,
            "--check" => arguments.check = true,
            "--csv" => arguments.csv = Some(value()?),
            // What cargo adds.
            "--bench" | "--test" => {}
            _ => {
                return Err(format!(
                    "unknown argument {word}: must be --seeds N, --first-seed N, --only T5,T6, --csv FILE, --parallel or --check"
                ));
            }
        }
    }
    if arguments.seeds == Some(0) || arguments.first_seed == 0 {
        return Err("--seeds and --first-seed must be at least 1".into());
    }
    Ok(arguments)
}

fn main() {
    let arguments = arguments().unwrap_or_else(|problem| {
        eprintln!("{problem}");
        std::process::exit(2);
    });
    let begun = Instant::now();
    if arguments.parallel {
        let seeds = arguments.seeds.unwrap_or(3);
        let missed = parallel::run(seeds, arguments.first_seed);
        println!(
            "\n{seeds} seeds from {}, {:.1} s, {missed} missed",
            arguments.first_seed,
            begun.elapsed().as_secs_f64()
        );
        std::process::exit(i32::from(arguments.check && missed > 0));
    }
    let seeds = arguments.seeds.unwrap_or(20);
    let wanted = |id: &str| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| only.iter().any(|name| *name == id.to_uppercase()))
    };
    let scenarios: Vec<_> = targets::scenarios()
        .into_iter()
        .filter(|scenario| wanted(scenario.id))
        .collect();
    let tables = run(&scenarios, seeds, arguments.first_seed);
    let mut missed = 0;
    for (scenario, table) in scenarios.iter().zip(&tables) {
        print_table(scenario, table);
        for target in (scenario.targets)(table) {
            missed += u32::from(print_target(scenario.id, &target));
        }
    }
    for (id, targets) in golden::targets().into_iter().filter(|(id, _)| wanted(id)) {
        println!();
        for target in targets {
            missed += u32::from(print_target(id, &target));
        }
    }
    if let Some(path) = &arguments.csv {
        if let Err(error) = write_csv(path, &scenarios, &tables, arguments.first_seed) {
            eprintln!("{path}: {error}");
            std::process::exit(2);
        }
    }
    println!(
        "\n{} seeds from {}, {:.1} s, {missed} missed",
        seeds,
        arguments.first_seed,
        begun.elapsed().as_secs_f64()
    );
    std::process::exit(i32::from(missed > 0));
}

/// Runs every policy and seed of every scenario, on all cores. The largest jobs first would be no
/// faster.
fn run(scenarios: &[Scenario], seeds: u64, first_seed: u64) -> Vec<Table> {
    let mut jobs = Vec::new();
    for (place, scenario) in scenarios.iter().enumerate() {
        for candidate in Candidate::ALL {
            let first = (first_seed - 1) * scenario.per_seed + 1;
            jobs.extend(
                (first..first + seeds * scenario.per_seed).map(|seed| (place, candidate, seed)),
            );
        }
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Figures>>> = Mutex::new(vec![None; jobs.len()]);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(place, candidate, seed)) =
                    jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let job = (place, candidate, seed);
                    let figures = (scenarios[place].run)(candidate, seed);
                    let index = jobs.iter().position(|other| *other == job);
                    if let (Some(index), Ok(mut results)) = (index, results.lock()) {
                        results[index] = Some(figures);
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_default();
    let mut tables: Vec<Table> = scenarios
        .iter()
        .map(|_| Table {
            rows: Candidate::ALL
                .iter()
                .map(|candidate| (*candidate, Vec::new()))
                .collect(),
        })
        .collect();
    for ((place, candidate, _), figures) in jobs.into_iter().zip(results) {
        let row = tables[place]
            .rows
            .iter_mut()
            .find(|(of, _)| *of == candidate);
        if let (Some((_, seeds)), Some(figures)) = (row, figures) {
            seeds.push(figures);
        }
    }
    tables
}

fn print_table(scenario: &Scenario, table: &Table) {
    println!("\n{}: {}", scenario.id, scenario.title);
    print!("  {:<22}", "");
    for column in &scenario.columns {
        print!(" {:>11}", column.title());
    }
    println!();
    for (candidate, _) in &table.rows {
        print!("  {:<22}", candidate.name());
        for column in &scenario.columns {
            print!(" {:>11}", short(column.value(table, *candidate)));
        }
        println!();
    }
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// Prints a target's line. True if the target had to be met and was missed.
fn print_target(id: &str, target: &Target) -> bool {
    let met = target.is_met();
    let verdict = match (target.stretch, met) {
        (false, true) => "pass",
        (false, false) => "FAIL",
        (true, true) => "stretch reached",
        (true, false) => "stretch missed",
    };
    let relation = if target.at_least { ">=" } else { "<=" };
    println!(
        "{id} {verdict} {} {relation} {} {}",
        short(target.value),
        target.limit,
        target.what
    );
    !met && !target.stretch
}

fn write_csv(
    path: &str,
    scenarios: &[Scenario],
    tables: &[Table],
    first_seed: u64,
) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "scenario,policy,seed,figure,value")?;
    for (scenario, table) in scenarios.iter().zip(tables) {
        for (candidate, seeds) in &table.rows {
            let first = (first_seed - 1) * scenario.per_seed + 1;
            for (seed, figures) in (first..).zip(seeds) {
                for (place, value) in figures.iter().enumerate() {
                    writeln!(
                        file,
                        "{},{},{},{place},{value}",
                        scenario.id,
                        candidate.name(),
                        seed
                    )?;
                }
            }
        }
    }
    file.flush()
}
