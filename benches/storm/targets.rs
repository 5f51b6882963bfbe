//! What is promised of the laws, as checks on a finished bench.
//!
//! The threshold law promises half of the best fixed size where the host is its own. On a host that is busy with others it
//! holds a small size, by its definition: that is printed as a known limit and fails nothing.

use crate::laws::Law;
use crate::run::Run;
use crate::tables::{Summary, best_fixed, groups, summaries};

const PHASES: [&str; 3] = ["calm", "storm", "after"];

#[derive(Default)]
pub struct Verdict {
    /// Targets that were missed.
    pub missed: Vec<String>,
    /// Where the threshold law is known to be of no use.
    pub known: Vec<String>,
}

pub fn check(runs: &[Run]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut checked = 0;
    for group in groups(runs) {
        let summaries = summaries(runs, group);
        for summary in summaries.iter().filter(|summary| !summary.law.is_fixed()) {
            let place = format!("{} {}: {}", group.0, group.1.name(), summary.law);
            let missed = missed_by(summary, &summaries).into_iter().map(|what| format!("{place}: {what}"));
            if summary.law == Law::Threshold {
                verdict.known.extend(missed);
            } else {
                checked += 1;
                verdict.missed.extend(missed);
            }
        }
    }
    if checked == 0 {
        verdict.missed.push("everything: no law that learns was run".to_owned());
    }
    verdict
}

/// Shares of the best fixed size of each phase; for a law that learns also its failures, its times and its way back.
fn missed_by(summary: &Summary, all: &[Summary]) -> Vec<String> {
    let mut missed = Vec::new();
    for (phase, name) in PHASES.iter().enumerate() {
        let Some(best) = best_fixed(all, phase) else { continue };
        let share = summary.figures[phase].rows_per_s / best.figures[phase].rows_per_s;
        let target = match (summary.law, *name) {
            (Law::Threshold, _) => 0.5,
            (_, "calm") => 0.95,
            _ => 0.9,
        };
        if share.is_nan() || share < target {
            missed.push(format!("{share:.2} of {} in {name}, under {target:.2}", best.law));
        }
        let (own, bound) = (summary.figures[phase].p99_ms, 1.5 * best.figures[phase].p99_ms);
        if summary.law != Law::Threshold && own > bound {
            missed.push(format!("p99 {own:.0} ms in {name}, over {bound:.0}, 1.5 times that of {}", best.law));
        }
    }
    if summary.law == Law::Threshold {
        return missed;
    }
    if summary.failed_share[1] > 0.05 {
        missed.push(format!("{:.0} % of its calls failed in the storm, over 5 %", 100.0 * summary.failed_share[1]));
    }
    if summary.recovery_s > 2.0 {
        missed.push(format!("back to 90 % after {:.2} s, over 2", summary.recovery_s));
    }
    missed
}
