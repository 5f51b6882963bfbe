//! What is promised of the laws, as checks on a finished bench.

use crate::laws::Law;
use crate::run::Run;
use crate::tables::{Summary, best_fixed, groups, summaries};

const PHASES: [&str; 3] = ["calm", "storm", "after"];

/// The targets that were missed, in words.
pub fn check(runs: &[Run]) -> Vec<String> {
    let mut missed = Vec::new();
    for group in groups(runs) {
        let summaries = summaries(runs, group);
        for summary in summaries.iter().filter(|summary| !summary.law.is_fixed()) {
            let place = format!("{} {}: {}", group.0, group.1.name(), summary.law);
            missed.extend(missed_by(summary, &summaries).into_iter().map(|what| format!("{place}: {what}")));
        }
    }
    if runs.is_empty() {
        missed.push("anything at all: nothing was run".to_owned());
    }
    missed
}

fn missed_by(summary: &Summary, all: &[Summary]) -> Vec<String> {
    let mut missed = Vec::new();
    for (phase, name) in PHASES.iter().enumerate() {
        let Some(best) = best_fixed(all, phase) else { continue };
        let share = summary.figures[phase].rows_per_s / best.figures[phase].rows_per_s;
        let target = match summary.law {
            Law::Threshold => 0.5,
            _ => 0.9,
        };
        if share.is_nan() || share < target {
            missed.push(format!("{share:.2} of {} in {name}, under {target:.2}", best.law));
        }
    }
    missed
}
