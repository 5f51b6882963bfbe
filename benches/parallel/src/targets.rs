//! The targets for several calls at once, as checks on a finished bench.

use std::fmt;

use crate::comparison::Comparison;

/// The least share of the rate of the best fixed size and concurrency.
const SHARE: f64 = 0.93;
/// The seconds within which 0.9 of that rate must be reached.
const ARRIVAL_S: f64 = 10.0;
/// The largest mean number of calls at once where one or two use the cores fully.
const FULL_CORES: f64 = 2.0;

pub struct Verdict {
    pub is_met: bool,
    what: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = if self.is_met { "met" } else { "MISSED" };
        write!(f, "{standing:<7} {}", self.what)
    }
}

/// Every target, cell by cell.
pub fn judge(comparisons: &[Comparison]) -> Vec<Verdict> {
    comparisons.iter().flat_map(judge_one).collect()
}

fn judge_one(comparison: &Comparison) -> Vec<Verdict> {
    let name = format!("{}, {}", comparison.backend, comparison.cell);
    let range = &comparison.range;
    let share = comparison.ratio(range);
    let mut verdicts = vec![Verdict {
        is_met: share >= SHARE,
        what: format!(
            "{name}: {share:.2} of {}, at least {SHARE}",
            comparison.best.way
        ),
    }];
    let arrived = comparison.arrived_s();
    let when = arrived.map_or("never".to_owned(), |s| format!("after {s:.1} s"));
    verdicts.push(Verdict {
        is_met: arrived.is_some_and(|s| s <= ARRIVAL_S),
        what: format!("{name}: 0.9 of it {when}, at most {ARRIVAL_S} s"),
    });
    if comparison.cell.situation.fills_the_cores() {
        let calls = range.mean_calls;
        verdicts.push(Verdict {
            is_met: calls <= FULL_CORES,
            what: format!("{name}: {calls:.1} calls at once in the mean, at most {FULL_CORES}"),
        });
    }
    verdicts
}
