//! The targets of the policies, as checks on a finished bench.
//!
//! The targets are for medians of at least five rounds, and with that many they are exact. With
//! fewer rounds, as with `--quick`, a target is missed only if the noise cannot explain the miss.
//! For a share or a p99 that is the noise of the fixed sizes. The policy's own does not count: a
//! policy that does well every other time is at fault. For the share of failed calls it is the
//! standard error of that many calls.
//!
//! The target of `LoadThreshold` is half of the best fixed size on a host of its own. On a host
//! with other work, the bench's own threads among them, it keeps a small size by definition. Such a
//! miss is printed as a known limit, and the bench does not fail.

use std::fmt;

use crate::candidates::Candidate;
use crate::comparison::{Compared, Comparison};
use crate::run::{AFTER, BEFORE, DURING, PHASES};

/// How a figure compares with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Kept,
    Missed,
    /// Missed, as documented.
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

/// Every target of every policy that is no fixed size.
pub fn judge(comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for comparison in comparisons {
        for candidate in comparison
            .candidates
            .iter()
            .filter(|compared| !matches!(compared.candidate, Candidate::Fixed(_)))
        {
            verdicts.extend(judge_one(comparison, candidate).into_iter().map(|verdict| {
                let what = format!(
                    "{} {} {}: {}",
                    comparison.backend,
                    comparison.storm.name(),
                    candidate.candidate,
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
            "there is nothing to judge: it takes a fixed size and a policy that is none".to_owned(),
        ));
    }
    verdicts
}

fn judge_one(comparison: &Comparison<'_>, own: &Compared<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let strict = comparison.rounds >= 5;
    for phase in [BEFORE, DURING, AFTER] {
        let (Some(best), Some(share)) = (&comparison.best[phase], own.share(phase)) else {
            continue;
        };
        let target = match (own.candidate, phase) {
            (Candidate::Threshold, _) => 0.5,
            (_, BEFORE) => 0.95,
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
            best.candidate
        );
        if own.candidate == Candidate::Threshold {
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
            best.candidate
        );
        verdicts.push(Verdict::new(kept, what));
    }
    if own.candidate != Candidate::Threshold && !verdicts.is_empty() {
        let failed = own.failed_share(DURING);
        let what = format!(
            "{:.1} % of its calls failed during the storm, {} of {}, at most 5 %",
            100.0 * failed,
            own.figures[DURING].failed_calls,
            own.figures[DURING].calls
        );
        let few = if strict {
            0.0
        } else {
            (0.05 * 0.95 / own.figures[DURING].calls.max(1) as f64).sqrt()
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

/// The standard error of the median of this many shares. Each share is a quotient of two runs, and
/// a median's standard error is 1.25 times a mean's. It is bounded: on a machine with more noise,
/// so few rounds judge nothing, and the check reports a miss.
fn shares_scatter(noise: f64, rounds: usize) -> f64 {
    (1.25 * noise * (2.0 / rounds.max(1) as f64).sqrt()).min(0.075)
}
