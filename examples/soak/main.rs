//! Everything at once for a given time: nothing is lost, nothing is doubled, nothing grows.
//!
//! `cargo run --release --example soak -- --seconds 60 --seed 1`, with `--items 10000000` to go on
//! until so many items were accepted as well. Two things run side by side: one batcher that lives
//! from the first to the last second at full speed with every fault but a hang (`soak/steady.rs`),
//! and random programs, one after the other, that start, fail in every way, hang and close
//! (`testkit/src/program.rs`). Prints what it did and the account; exits 1 on any difference, 2
//! on a bad argument.
//!
//! The resident memory at the end may exceed that after the first tenth by [`SLACK_KIB`]: the
//! largest program comes at any time, and the allocator keeps what it needed. A leak of one byte an
//! item would be ten times that in a minute.

mod steady;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use steady::Steady;
use testkit::program::{Account, Program, Scale};

/// See the module's doc.
const SLACK_KIB: u64 = 8 * 1_024;

struct Arguments {
    seconds: u64,
    seed: u64,
    items: u64,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut arguments = Self {
            seconds: 60,
            seed: 1,
            items: 0,
        };
        let mut words = std::env::args().skip(1);
        while let Some(name) = words.next() {
            let field = match &*name {
                "--seconds" => &mut arguments.seconds,
                "--seed" => &mut arguments.seed,
                "--items" => &mut arguments.items,
                _ => {
                    return Err(format!(
                        "unknown argument {name}; there are --seconds, --seed and --items"
                    ));
                }
            };
            let value = words
                .next()
                .ok_or_else(|| format!("{name} needs a number"))?;
            *field = value
                .parse()
                .map_err(|_| format!("{name} {value}: not a number"))?;
        }
        Ok(arguments)
    }
}

/// Resident memory, where the system reports it.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let mut wrong = soak(&arguments);
    wrong.truncate(20);
    for violation in &wrong {
        println!("DIFFERENCE: {violation}");
    }
    println!(
        "{}",
        if wrong.is_empty() {
            "all accounted for"
        } else {
            "FAILED"
        }
    );
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Runs both; returns what was wrong.
fn soak(arguments: &Arguments) -> Vec<String> {
    let begun = Instant::now();
    let total = Duration::from_secs(arguments.seconds.max(1));
    let stop = AtomicBool::new(false);
    let mut wrong = Vec::new();
    let mut programs = Account::default();
    let mut early = None;
    let steady = Steady::start(arguments.seed);
    let steady = std::thread::scope(|scope| {
        steady.produce(scope, &stop);
        let mut shown = 0;
        for number in 0.. {
            let seed = arguments
                .seed
                .wrapping_mul(0x2545_f491_4f6c_dd1d)
                .wrapping_add(number);
            let account = Program::from_seed(seed, Scale::LARGE).run();
            if !account.violations.is_empty() {
                wrong.push(format!("program of seed {seed}: {account:#?}"));
            }
            programs.add(account);
            steady.check(seed, &mut wrong);
            let tenths = 10 * begun.elapsed().as_millis() / total.as_millis();
            if tenths >= 1 && early.is_none() {
                early = resident_kib();
            }
            if tenths > shown {
                shown = tenths;
                println!(
                    "{:>4} s: {} items in one batcher, {} in {} programs, {} KiB resident",
                    begun.elapsed().as_secs(),
                    steady.accepted(),
                    programs.accepted,
                    programs.programs,
                    resident_kib().unwrap_or(0),
                );
            }
            let enough = steady.accepted() + programs.accepted >= arguments.items;
            if !wrong.is_empty() || (enough && begun.elapsed() >= total) {
                break;
            }
        }
        // Relaxed: the join orders the rest.
        stop.store(true, Ordering::Relaxed);
        steady
    });
    let late = resident_kib();
    println!("programs: {programs:#?}");
    wrong.extend(steady.finish());
    match (early, late) {
        (Some(early), Some(late)) => {
            println!("resident: {early} KiB after the first tenth, {late} KiB at the end");
            if late > early + SLACK_KIB {
                wrong.push(format!("memory grew from {early} to {late} KiB"));
            }
        }
        _ => println!("resident: not measured here"),
    }
    wrong
}
