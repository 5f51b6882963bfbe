//! What is promised of many processes, as checks on a finished bench.

use std::fmt;

use crate::comparison::Comparison;
use crate::joining::{FAIR_SHARE, Joining};

/// The least share of the best fixed size.
const SHARE: f64 = 0.9;
/// The least value of Jain's index.
const JAIN: f64 = 0.9;
/// The latest moment at which a late joiner has its share, in seconds.
const JOINED_S: f64 = 30.0;

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

/// Every target, one number of processes after the other.
pub fn judge(comparisons: &[Comparison]) -> Vec<Verdict> {
    comparisons.iter().flat_map(judge_one).collect()
}

fn judge_one(comparison: &Comparison) -> Vec<Verdict> {
    let name = match comparison.processes {
        1 => "1 process".to_owned(),
        many => format!("{many} processes"),
    };
    let (share, jain) = (comparison.share(), comparison.jain());
    let best = comparison.sizes[comparison.best()];
    let mut verdicts = vec![Verdict {
        is_met: share >= SHARE,
        what: format!("{name}: {share:.2} of the best fixed size, {best}; at least {SHARE}"),
    }];
    if comparison.processes > 1 {
        verdicts.push(Verdict {
            is_met: jain >= JAIN,
            what: format!("{name}: fairness (Jain) {jain:.3}, at least {JAIN}"),
        });
    }
    verdicts.extend(comparison.joining.as_ref().map(|of| joined(&name, of)));
    let (mut rows, mut calls, mut unequal) = (0, 0, 0);
    for account in comparison.accounts() {
        rows += account.failed_rows;
        calls += account.failed_calls;
        unequal += u32::from(account.stored != account.acknowledged);
    }
    verdicts.push(Verdict {
        is_met: rows == 0 && calls == 0,
        what: format!("{name}: {rows} rows and {calls} calls failed, none may"),
    });
    verdicts.push(Verdict {
        is_met: unequal == 0,
        what: format!("{name}: in {unequal} runs the table has other rows than were acknowledged"),
    });
    verdicts
}

fn joined(name: &str, joining: &Joining) -> Verdict {
    let reached = joining.reached_s.map_or_else(
        || format!("not within {:.0} s", joining.lasted_s),
        |s| format!("after {s:.1} s"),
    );
    Verdict {
        is_met: joining.reached_s.is_some_and(|s| s <= JOINED_S)
            && joining.last_share >= FAIR_SHARE,
        what: format!(
            "{name}: the last to join has {FAIR_SHARE} of its share {reached}, at most {JOINED_S} s; \
             {:.2} of it at the end",
            joining.last_share
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::comparison;
    use crate::run::Account;

    fn good() -> Comparison {
        let mut good = comparison(&[(95.0, [50.0, 100.0]), (95.0, [50.0, 100.0])]);
        good.joining = Some(Joining {
            lasted_s: 30.0,
            reached_s: Some(4.0),
            last_share: 0.95,
            account: Account::default(),
        });
        good
    }

    type Spoil<'a> = &'a dyn Fn(&mut Comparison);

    /// The targets that are missed once `spoil` is done.
    fn missed(spoil: impl Fn(&mut Comparison)) -> Vec<String> {
        let mut spoilt = good();
        spoil(&mut spoilt);
        let missed = judge(&[spoilt]).into_iter().filter(|one| !one.is_met);
        missed.map(|one| one.what).collect()
    }

    #[test]
    fn a_good_run_meets_every_target() {
        assert_eq!(missed(|_| {}), [] as [&str; 0]);
        assert_eq!(judge(&[good()]).len(), 5);
    }

    #[test]
    fn each_fault_is_one_missed_target_that_names_it() {
        let slow = |of: &mut Comparison| {
            of.rounds
                .iter_mut()
                .for_each(|round| round.default.rates = vec![44.0; 2])
        };
        let unfair = |of: &mut Comparison| {
            of.rounds
                .iter_mut()
                .for_each(|round| round.default.rates = vec![75.0, 20.0]);
        };
        let late = |of: &mut Comparison| of.joining.as_mut().unwrap().reached_s = None;
        let fell_back = |of: &mut Comparison| of.joining.as_mut().unwrap().last_share = 0.5;
        let failed_row = |of: &mut Comparison| of.rounds[1].fixed[1].account.failed_rows = 1;
        let timed_out = |of: &mut Comparison| of.rounds[0].default.account.failed_calls = 1;
        let lost = |of: &mut Comparison| of.rounds[0].default.account.acknowledged = 1;
        let doubled = |of: &mut Comparison| of.joining.as_mut().unwrap().account.stored = 1;
        let faults: [(Spoil<'_>, &str); 8] = [
            (&slow, "0.88 of the best fixed size, 1000"),
            (&unfair, "fairness (Jain) 0.749"),
            (&late, "not within 30 s"),
            (&fell_back, "0.50 of it at the end"),
            (&failed_row, "1 rows and 0 calls failed"),
            (&timed_out, "0 rows and 1 calls failed"),
            (&lost, "in 1 runs the table has other rows"),
            (&doubled, "in 1 runs the table has other rows"),
        ];
        for (spoil, part) in faults {
            let missed = missed(spoil);
            assert_eq!(missed.len(), 1, "{part}: {missed:?}");
            assert!(missed[0].contains(part), "{part}: {missed:?}");
        }
    }
}
