//! What is promised of the laws, as checks on a finished bench.
//!
//! The promises are about medians of at least five rounds, and with so many they are taken at their
//! word. Fewer rounds, as in a quick bench, miss a promise only where the noise cannot explain it:
//! that of the fixed sizes for a share or a p99, not the law's own, since a law that does well
//! every other time is at fault; and that of so few calls for the share of failed ones.
//!
//! The threshold law promises half of the best fixed size where the host is its own. On a host that
//! is busy with others, the bench's own threads among them, it holds a small size, by its
//! definition: that is printed as a known limit and fails nothing.

use std::fmt;

use crate::comparison::{Compared, Comparison};
use crate::laws::Law;
use crate::run::{AFTER, CALM, PHASES, STORM};

/// How a figure stands to what is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Kept,
    Missed,
    /// Missed where that is known and documented.
    KnownLimit,
}

pub struct Verdict {
    pub standing: Standing,
    what: String,
}

impl Verdict {
    fn new(kept: bool, what: String) -> Self {
        Self {
            standing: if kept {
                Standing::Kept
            } else {
                Standing::Missed
            },
            what,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = match self.standing {
            Standing::Kept => "kept",
            Standing::Missed => "MISSED",
            Standing::KnownLimit => "known limit",
        };
        write!(f, "{standing:<11} {}", self.what)
    }
}

/// Every promise about every law that learns, and about the threshold law.
pub fn judge(comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for comparison in comparisons {
        for law in comparison
            .laws
            .iter()
            .filter(|compared| !matches!(compared.law, Law::Fixed(_)))
        {
            verdicts.extend(judge_one(comparison, law).into_iter().map(|verdict| {
                let what = format!(
                    "{} {} {}: {}",
                    comparison.backend,
                    comparison.storm.name(),
                    law.law,
                    verdict.what
                );
                Verdict { what, ..verdict }
            }));
        }
    }
    if !verdicts
        .iter()
        .any(|verdict| verdict.standing != Standing::KnownLimit)
    {
        verdicts.push(Verdict::new(
            false,
            "there is nothing to judge: no law that learns beside a fixed size".to_owned(),
        ));
    }
    verdicts
}

fn judge_one(comparison: &Comparison<'_>, own: &Compared<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let strict = comparison.rounds >= 5;
    for phase in [CALM, STORM, AFTER] {
        let (Some(best), Some(share)) = (&comparison.best[phase], own.share(phase)) else {
            continue;
        };
        let target = match (own.law, phase) {
            (Law::Threshold, _) => 0.5,
            (_, CALM) => 0.95,
            _ => 0.9,
        };
        let name = PHASES[phase];
        let rounds = own.shares[phase]
            .iter()
            .map(|share| format!("{share:.2}"))
            .collect::<Vec<_>>()
            .join(" ");
        let few = if strict {
            0.0
        } else {
            shares_scatter(comparison.noise[phase], comparison.rounds)
        };
        let kept = share >= target - 2.0 * few;
        let within = if kept && share < target {
            format!(", within the noise, {:.2}", 2.0 * few)
        } else {
            String::new()
        };
        let what = format!(
            "{share:.2} of {} in {name}, target {target:.2}{within} (by round {rounds})",
            best.law
        );
        if own.law == Law::Threshold {
            verdicts.push(Verdict {
                standing: if kept {
                    Standing::Kept
                } else {
                    Standing::KnownLimit
                },
                what,
            });
            continue;
        }
        verdicts.push(Verdict::new(kept, what));
        let (p99, bound) = (own.figures[phase].p99_ms, 1.5 * best.p99_ms);
        let few = if strict {
            0.0
        } else {
            shares_scatter(comparison.p99_noise[phase], comparison.rounds)
        };
        let kept = p99 <= bound * (1.0 + 2.0 * few);
        let within = if kept && p99 > bound {
            format!(", within the noise, {:.2}", 2.0 * few)
        } else {
            String::new()
        };
        let what = format!(
            "p99 {p99:.0} ms in {name}, at most {bound:.0}{within}, 1.5 times that of {}",
            best.law
        );
        verdicts.push(Verdict::new(kept, what));
    }
    if own.law != Law::Threshold && !verdicts.is_empty() {
        let failed = own.failed_share(STORM);
        let what = format!(
            "{:.1} % of its calls failed in the storm, {} of {}, at most 5 %",
            100.0 * failed,
            own.figures[STORM].failed_calls,
            own.figures[STORM].calls
        );
        let few = if strict {
            0.0
        } else {
            (0.05 * 0.95 / own.figures[STORM].calls.max(1) as f64).sqrt()
        };
        verdicts.push(Verdict::new(failed <= 0.05 + 2.0 * few, what));
        let back = own.back_after_s;
        verdicts.push(Verdict::new(
            back <= 2.0,
            format!("back at 90 % after {back:.2} s, at most 2"),
        ));
    }
    verdicts
}

/// The standard error of the median of so many shares, each a quotient of two runs; a median's is
/// 1.25 times a mean's. On a machine noisier than the bound nothing can be judged with so few
/// rounds, and then that is what a miss says.
fn shares_scatter(noise: f64, rounds: usize) -> f64 {
    (1.25 * noise * (2.0 / rounds.max(1) as f64).sqrt()).min(0.075)
}
