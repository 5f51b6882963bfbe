//! What the batcher costs compared with the bare channel that it is built on.
//!
//! Each figure is a ratio of two runs, interleaved A B A B, so that a busy machine slows both
//! alike. A line has the median over all pairs with its quartiles, and the figures of both runs.
//!
//! `cargo bench --bench channel -- [--quick] [--check] [--growth] [SECTION …]`
//!
//! `--quick` takes under a minute. With `--check` the exit code is 1 if a median misses its target.
//! The sections are `uncontended`, `add`, `many`, `submit`, `idle` and `paced`; the default is all.
//! `--growth` prints instead how the cost of an item changes as the work grows.

mod growth;
mod handover;
mod items;
mod paced;
mod saturated;
mod uncontended;

use std::process::ExitCode;
use std::time::Instant;

use testkit::pairs::Report;

/// How much is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Quick,
    Full,
}

impl Scale {
    pub(crate) fn pick<N>(self, quick: N, full: N) -> N {
        if self == Self::Quick { quick } else { full }
    }
}

type Section = fn(Scale, &mut Report);

const SECTIONS: [(&str, Section); 6] = [
    ("uncontended", uncontended::add),
    ("add", saturated::add),
    ("many", saturated::add_many),
    ("submit", saturated::submit),
    ("idle", handover::idle),
    ("paced", paced::paced),
];

fn main() -> ExitCode {
    let mut scale = Scale::Full;
    let (mut check, mut growth) = (false, false);
    let mut chosen = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => scale = Scale::Quick,
            "--check" => check = true,
            "--growth" => growth = true,
            // Cargo adds this one.
            "--bench" => {}
            section if SECTIONS.iter().any(|(name, _)| *name == section) => chosen.push(argument),
            _ => {
                eprintln!("unknown argument {argument}");
                return ExitCode::from(2);
            }
        }
    }
    if growth {
        growth::growth(scale);
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let mut report = Report::default();
    for (name, section) in SECTIONS {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            section(scale, &mut report);
        }
    }
    let missed = report.missed();
    println!(
        "{} lines in {:.0?}, {} missed their target",
        report.lines(),
        begun.elapsed(),
        missed.len()
    );
    for line in missed {
        println!("MISSED {line}");
    }
    if check && !missed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
