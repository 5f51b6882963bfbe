//! One number of processes: the default policy beside the fixed sizes, round by round.

use crate::Failure;
use crate::database::Database;
use crate::fairness::median;
use crate::joining::{Joining, join};
use crate::options::Plan;
use crate::run::{Account, Run, run};
use crate::way::Way;

/// The runs of one round.
pub struct Round {
    pub default: Run,
    /// One for each size of the grid, in its order.
    pub fixed: Vec<Run>,
}

/// The figures of one number of processes.
pub struct Comparison {
    pub processes: usize,
    pub sizes: &'static [usize],
    pub rounds: Vec<Round>,
    /// `None` for one process: there are no others to join.
    pub joining: Option<Joining>,
}

impl Comparison {
    /// Every round begins with another way, so that none is always the first.
    pub fn of(database: &mut Database, processes: usize, plan: &Plan) -> Result<Self, Failure> {
        let fixed = plan.sizes.iter().map(|size| Way::Fixed(*size));
        let ways: Vec<Way> = std::iter::once(Way::Default).chain(fixed).collect();
        let mut rounds = Vec::new();
        for round in 0..plan.rounds {
            let mut runs: Vec<Option<Run>> = vec![None; ways.len()];
            for turn in 0..ways.len() {
                let place = (turn + round) % ways.len();
                let way = ways[place];
                let span = match way {
                    Way::Default => plan.default,
                    Way::Fixed(_) => plan.fixed,
                };
                let one = run(database, processes, way, span)?;
                eprintln!(
                    "{processes} processes, {way}: {:.0} rows/s, fairness {:.3}, sizes {:?}",
                    one.sum(),
                    one.jain(),
                    one.sizes
                );
                runs[place] = Some(one);
            }
            let mut runs = runs.into_iter().flatten();
            let default = runs.next().ok_or("a round without a run")?;
            rounds.push(Round {
                default,
                fixed: runs.collect(),
            });
        }
        let joining = (processes > 1).then(|| join(database, processes, plan));
        Ok(Self {
            processes,
            sizes: plan.sizes,
            rounds,
            joining: joining.transpose()?,
        })
    }

    /// The median rate of the default policy, of all processes together.
    pub fn default_rate(&self) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| round.default.sum())
                .collect(),
        )
    }

    /// The median rate of one of the grid's sizes.
    pub fn fixed_rate(&self, place: usize) -> f64 {
        self.rate_without(place, None)
    }

    fn rate_without(&self, place: usize, left_out: Option<usize>) -> f64 {
        let rounds = self.rounds.iter().enumerate();
        let rounds = rounds.filter(|(round, _)| Some(*round) != left_out);
        median(rounds.map(|(_, round)| round.fixed[place].sum()).collect())
    }

    fn best_without(&self, left_out: Option<usize>) -> usize {
        let rate = |place: &usize| self.rate_without(*place, left_out);
        let places = 0..self.sizes.len();
        places
            .max_by(|a, b| rate(a).total_cmp(&rate(b)))
            .unwrap_or(0)
    }

    /// The place in the grid of the size with the highest median rate.
    pub fn best(&self) -> usize {
        self.best_without(None)
    }

    /// The default policy against the best fixed size: the median over the rounds. In each round
    /// the best size is the one that was best in the others: the largest of several noisy figures
    /// is too large.
    pub fn share(&self) -> f64 {
        let shares = self.rounds.iter().enumerate().map(|(place, round)| {
            let best = &round.fixed[self.best_without(Some(place))];
            round.default.sum() / best.sum()
        });
        median(shares.collect())
    }

    /// Jain's index of the default policy: the median over the rounds.
    pub fn jain(&self) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| round.default.jain())
                .collect(),
        )
    }

    /// The least and the most of the sizes in force at the end of the default policy's runs.
    pub fn sizes_at_end(&self) -> (usize, usize) {
        let sizes = self.rounds.iter().flat_map(|round| &round.default.sizes);
        sizes.fold((usize::MAX, 0), |(least, most), size| {
            (least.min(*size), most.max(*size))
        })
    }

    /// Of every run.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        let runs = self.rounds.iter();
        let runs = runs.flat_map(|round| round.fixed.iter().chain([&round.default]));
        let joining = self.joining.iter().map(|joining| joining.account);
        runs.map(|run| run.account).chain(joining)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two processes with the same rate each, and an account without a fault.
    pub fn run_of(sum: f64) -> Run {
        Run {
            rates: vec![sum / 2.0; 2],
            sizes: vec![300, 700],
            account: Account::default(),
        }
    }

    pub fn comparison(rounds: &[(f64, [f64; 2])]) -> Comparison {
        let rounds = rounds.iter().map(|(default, fixed)| Round {
            default: run_of(*default),
            fixed: fixed.iter().map(|sum| run_of(*sum)).collect(),
        });
        Comparison {
            processes: 2,
            sizes: &[200, 1_000],
            rounds: rounds.collect(),
            joining: None,
        }
    }

    #[test]
    fn the_default_is_compared_within_its_round() {
        // A machine that is slow for a whole round changes nothing.
        let three = comparison(&[
            (90.0, [50.0, 100.0]),
            (9.0, [5.0, 10.0]),
            (190.0, [90.0, 200.0]),
        ]);
        assert_eq!(three.best(), 1);
        assert!((three.share() - 0.9).abs() < 1e-9, "{}", three.share());
        assert_eq!((three.default_rate(), three.fixed_rate(1)), (90.0, 100.0));
    }

    #[test]
    fn the_best_size_of_a_round_is_chosen_by_the_other_rounds() {
        // Each size is lucky once; the luck of its own round does not choose it.
        let lucky = comparison(&[
            (100.0, [150.0, 100.0]),
            (100.0, [100.0, 100.0]),
            (100.0, [90.0, 150.0]),
        ]);
        let shares = [100.0 / 100.0, 100.0 / 100.0, 100.0 / 90.0];
        assert!((lucky.share() - median(shares.to_vec())).abs() < 1e-9);
        assert!(lucky.share() > 100.0 / 150.0);
    }

    #[test]
    fn accounts_are_of_every_run() {
        let mut two = comparison(&[(1.0, [1.0, 1.0]), (1.0, [1.0, 1.0])]);
        two.rounds[1].fixed[0].account.failed_rows = 3;
        two.rounds[0].default.account.failed_rows = 4;
        let failed: u64 = two.accounts().map(|account| account.failed_rows).sum();
        assert_eq!((two.accounts().count(), failed), (6, 7));
    }
}
