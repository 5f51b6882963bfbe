//! Each law beside the best fixed size of the phase.
//!
//! # The best fixed size, without its luck
//! The highest of several noisy figures is too high: it is the best size's or the luckiest one's.
//! So the size is not chosen by the figure that it is compared by: for each round it is the one
//! with the highest median over the *other* rounds, and what it did in this round counts. A law's
//! share of it is taken within the round, in which the laws take turns, so that what the machine
//! does counts for all of them; the median over the rounds is the share. A single round has no
//! others: its best figure is taken as it is, luck included, and the laws look worse than they are.
//!
//! # Back after
//! The first moment after the storm from which on half a second's throughput is 90 % of the best
//! fixed size's throughput of the whole phase after, in the same round: not of the calm's, since a
//! table that has grown may take rows more slowly for good. Never, if there is no such half second.
//! Half a second is ten calls or more, and the rows of a call count evenly over its time.
//!
//! # Noise
//! How far the runs of one and the same fixed size scatter in a phase, as a share of their mean, is
//! the machine's doing and no law's. It is printed beside the best size, and says what a difference
//! is worth.
//!
//! # In an open loop
//! Throughput is what was asked for, and more where a law catches up: its share is that of the
//! rate. It is back when the rows behind are no more than a quarter of a second's.

use crate::laws::Law;
use crate::measure::median;
use crate::neighbours::Storm;
use crate::run::{AFTER, CALM, Figures, Plan, Run, STORM};

/// One storm on one database.
pub struct Comparison<'a> {
    pub backend: &'static str,
    pub storm: Storm,
    /// The best fixed size of each phase; `None` if no fixed size was run, or in an open loop.
    pub best: [Option<Best>; 3],
    /// By which share of itself a fixed size's throughput scatters from round to round, in each
    /// phase, and so its p99.
    pub noise: [f64; 3],
    pub p99_noise: [f64; 3],
    pub rounds: usize,
    /// In the order in which the laws ran first.
    pub laws: Vec<Compared<'a>>,
}

/// The best fixed size of a phase.
pub struct Best {
    /// By the median over all rounds: for the eye.
    pub law: Law,
    /// The figures by round, each of the size that was best in the other rounds.
    by_round: Vec<Figures>,
    pub rows_per_s: f64,
    pub p99_ms: f64,
}

/// All of one law, as medians over the rounds.
pub struct Compared<'a> {
    pub law: Law,
    pub runs: Vec<&'a Run>,
    pub figures: [Figures; 3],
    /// Of the best fixed size, or in an open loop of the rate, by round.
    pub shares: [Vec<f64>; 3],
    /// Seconds; infinite is never.
    pub back_after_s: f64,
    pub neighbours_per_s: f64,
    pub failed_rows: u64,
}

/// One for each storm on each database.
pub fn compare<'a>(runs: &'a [Run], plan: &Plan) -> Vec<Comparison<'a>> {
    let mut groups: Vec<(&'static str, Storm)> = Vec::new();
    for run in runs {
        if !groups.contains(&(run.backend, run.storm)) {
            groups.push((run.backend, run.storm));
        }
    }
    groups
        .into_iter()
        .map(|group| comparison(group, runs, plan.rate))
        .collect()
}

fn comparison<'a>(
    (backend, storm): (&'static str, Storm),
    runs: &'a [Run],
    rate: Option<f64>,
) -> Comparison<'a> {
    let mut laws: Vec<(Law, Vec<&Run>)> = Vec::new();
    for run in runs
        .iter()
        .filter(|run| (run.backend, run.storm) == (backend, storm))
    {
        match laws.iter_mut().find(|(law, _)| *law == run.law) {
            Some((_, own)) => own.push(run),
            None => laws.push((run.law, vec![run])),
        }
    }
    let best = [CALM, STORM, AFTER].map(|phase| {
        if rate.is_some() {
            None
        } else {
            best_fixed(&laws, phase)
        }
    });
    let p99_noise =
        [CALM, STORM, AFTER].map(|phase| noise(&laws, &|run| run.figures[phase].p99_ms));
    let noise =
        [CALM, STORM, AFTER].map(|phase| noise(&laws, &|run| run.figures[phase].rows_per_s));
    let rounds = laws.iter().map(|(_, runs)| runs.len()).min().unwrap_or(0);
    let laws = laws
        .into_iter()
        .map(|(law, runs)| compared(law, runs, &best, rate))
        .collect();
    Comparison {
        backend,
        storm,
        best,
        noise,
        p99_noise,
        rounds,
        laws,
    }
}

/// The standard deviation of all fixed sizes' runs, each from its own size's mean.
fn noise(laws: &[(Law, Vec<&Run>)], figure: &dyn Fn(&Run) -> f64) -> f64 {
    let (mut squares, mut freedom) = (0.0, 0);
    for (_, runs) in laws
        .iter()
        .filter(|(law, runs)| matches!(law, Law::Fixed(_)) && runs.len() > 1)
    {
        let mean = runs.iter().map(|run| figure(run)).sum::<f64>() / runs.len() as f64;
        if mean <= 0.0 {
            // A size that stored nothing says nothing of the machine.
            continue;
        }
        squares += runs
            .iter()
            .map(|run| (figure(run) / mean - 1.0).powi(2))
            .sum::<f64>();
        freedom += runs.len() - 1;
    }
    if freedom == 0 {
        0.0
    } else {
        (squares / freedom as f64).sqrt()
    }
}

fn best_fixed(laws: &[(Law, Vec<&Run>)], phase: usize) -> Option<Best> {
    let fixed: Vec<&(Law, Vec<&Run>)> = laws
        .iter()
        .filter(|(law, _)| matches!(law, Law::Fixed(_)))
        .collect();
    let fastest = |without: Option<usize>| {
        let figure = |runs: &[&Run]| {
            let others = runs.iter().filter(|run| Some(run.round) != without);
            median(
                &mut others
                    .map(|run| run.figures[phase].rows_per_s)
                    .collect::<Vec<_>>(),
            )
        };
        fixed
            .iter()
            .max_by(|a, b| figure(&a.1).total_cmp(&figure(&b.1)))
    };
    let (law, runs) = fastest(None)?;
    let held_out = |round: usize| {
        if runs.len() > 1 {
            fastest(Some(round))
        } else {
            fastest(None)
        }
    };
    let by_round: Vec<Figures> = (0..runs.len())
        .filter_map(|round| {
            held_out(round)?
                .1
                .iter()
                .find(|run| run.round == round)
                .map(|run| run.figures[phase])
        })
        .collect();
    let middle =
        |of: &dyn Fn(&Figures) -> f64| median(&mut by_round.iter().map(of).collect::<Vec<_>>());
    let (rows_per_s, p99_ms) = (
        middle(&|figures| figures.rows_per_s),
        middle(&|figures| figures.p99_ms),
    );
    Some(Best {
        law: *law,
        by_round,
        rows_per_s,
        p99_ms,
    })
}

fn compared<'a>(
    law: Law,
    runs: Vec<&'a Run>,
    best: &[Option<Best>; 3],
    rate: Option<f64>,
) -> Compared<'a> {
    let middle =
        |of: &dyn Fn(&Run) -> f64| median(&mut runs.iter().map(|run| of(run)).collect::<Vec<_>>());
    let figures = [CALM, STORM, AFTER].map(|phase| Figures {
        rows_per_s: middle(&|run| run.figures[phase].rows_per_s),
        // Shares of calls are taken over all rounds together.
        calls: runs.iter().map(|run| run.figures[phase].calls).sum(),
        failed_calls: runs.iter().map(|run| run.figures[phase].failed_calls).sum(),
        p50_ms: middle(&|run| run.figures[phase].p50_ms),
        p99_ms: middle(&|run| run.figures[phase].p99_ms),
        batch_size: middle(&|run| run.figures[phase].batch_size),
        behind: middle(&|run| run.figures[phase].behind),
    });
    let shares = [CALM, STORM, AFTER].map(|phase| {
        let whole = |run: &Run| match (rate, &best[phase]) {
            (Some(rate), _) => Some(rate),
            (None, best) => Some(best.as_ref()?.by_round.get(run.round)?.rows_per_s),
        };
        runs.iter()
            .filter_map(|run| Some(run.figures[phase].rows_per_s / whole(run)?))
            .collect()
    });
    let wanted = |run: &Run| {
        best[AFTER]
            .as_ref()
            .and_then(|best| best.by_round.get(run.round))
            .map_or(f64::INFINITY, |best| 0.9 * best.rows_per_s)
    };
    let back_after_s = middle(&|run| match rate {
        None => first_after(run, |from, to| {
            run.record.rows_per_s(from, to) >= wanted(run)
        }),
        Some(rate) => first_after(run, |from, _| run.record.behind(rate, from) <= rate / 4.0),
    });
    let neighbours_per_s = middle(&|run| run.neighbours_per_s);
    let failed_rows = runs.iter().map(|run| run.failed_rows).sum();
    Compared {
        law,
        runs,
        figures,
        shares,
        back_after_s,
        neighbours_per_s,
        failed_rows,
    }
}

impl Compared<'_> {
    pub fn share(&self, phase: usize) -> Option<f64> {
        let mut shares = self.shares[phase].clone();
        if shares.is_empty() {
            None
        } else {
            Some(median(&mut shares))
        }
    }

    pub fn failed_share(&self, phase: usize) -> f64 {
        let Figures {
            calls,
            failed_calls,
            ..
        } = self.figures[phase];
        if calls == 0 {
            0.0
        } else {
            failed_calls as f64 / calls as f64
        }
    }
}

/// Seconds after the storm to the first half second that is as it should be; infinite without one.
fn first_after(run: &Run, right: impl Fn(f64, f64) -> bool) -> f64 {
    const WINDOW: f64 = 0.5;
    const STEP: f64 = 0.05;
    let (from, to) = (run.bounds[AFTER], run.bounds[AFTER + 1]);
    let steps = ((to - from - WINDOW) / STEP).max(0.0) as usize;
    let mut begins = (0..=steps).map(|step| step as f64 * STEP);
    begins
        .find(|begin| right(from + begin, from + begin + WINDOW))
        .unwrap_or(f64::INFINITY)
}
