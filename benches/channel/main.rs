//! What the batcher costs beside the bare channel that it is built on.
//!
//! Each figure is a ratio of two runs side by side, interleaved A B A B, so that a busy machine
//! slows both alike: the median over all pairs with its quartiles, and beside it what each of the
//! two did.
//!
//! `cargo bench --bench channel -- [--quick] [--check] [--growth] [SECTION …]`
//!
//! `--quick` takes under a minute. `--check` exits 1 if a median is beyond its target. Sections:
//! `uncontended`, `add`, `many`, `submit`, `idle`, `paced`; all by default. `--growth` prints
//! instead how the cost of an item changes as the work grows.

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
            // Cargo's own.
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
        "{} lines in {:.0?}, {} beyond their target",
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
