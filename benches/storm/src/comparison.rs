//! Each candidate compared with the best fixed size of the phase.
//!
//! # The best fixed size, without selection bias
//! The highest of several noisy figures is too high. It may be the luckiest one instead of the
//! best. So the size is chosen by other figures than those it is compared by. For each round it is
//! the size with the highest median over the *other* rounds, and its figure in this round counts. A
//! candidate's share is taken within one round. There the candidates take turns, so a change of the
//! machine's speed affects them all. The median over the rounds is the share. A single round has no
//! other rounds: its highest figure is taken, and the candidates look worse than they are.
//!
//! # Back after
//! A candidate is back when the throughput of half a second is 90 % of the best fixed size's
//! throughput in the whole phase after the storm, in the same round. It is not compared with the
//! phase before, since a table that has grown may take rows more slowly forever. It is never back
//! if there is no such half second. Half a second is ten calls or more. The rows of a call count
//! evenly over its time.
//!
//! # Noise
//! The noise of a phase is how far the runs of the same fixed size scatter, as a share of their
//! mean. The machine causes it, not a candidate. It is printed after the best size, and shows how
//! much a difference means.
//!
//! # In an open loop
//! Throughput equals the rate, and exceeds it while a candidate catches up. The share is that of
//! the rate. A candidate is back when at most a quarter of a second's rows are overdue.

use crate::candidates::Candidate;
use crate::competitors::Storm;
use crate::measure::median;
use crate::run::{AFTER, BEFORE, DURING, Figures, Plan, Run};

/// One storm on one database.
pub struct Comparison<'a> {
    pub backend: &'static str,
    pub storm: Storm,
    /// The best fixed size of each phase; `None` if no fixed size was run, or in an open loop.
    pub best: [Option<Best>; 3],
    /// How far a fixed size's throughput, and its p99, scatter from round to round in each phase,
    /// as a share of the mean.
    pub noise: [f64; 3],
    pub p99_noise: [f64; 3],
    pub rounds: usize,
    /// In the order in which the candidates ran first.
    pub candidates: Vec<Compared<'a>>,
}

/// The best fixed size of a phase.
pub struct Best {
    /// The best by the median over all rounds. It is only printed.
    pub candidate: Candidate,
    /// The figures by round, each of the size that was best in the other rounds.
    by_round: Vec<Figures>,
    pub rows_per_s: f64,
    pub p99_ms: f64,
}

/// All runs of one candidate, as medians over the rounds.
pub struct Compared<'a> {
    pub candidate: Candidate,
    pub runs: Vec<&'a Run>,
    pub figures: [Figures; 3],
    /// Of the best fixed size, or in an open loop of the rate, by round.
    pub shares: [Vec<f64>; 3],
    /// Seconds; infinite is never.
    pub back_after_s: f64,
    pub competitors_per_s: f64,
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
    let mut candidates: Vec<(Candidate, Vec<&Run>)> = Vec::new();
    for run in runs
        .iter()
        .filter(|run| (run.backend, run.storm) == (backend, storm))
    {
        match candidates
            .iter_mut()
            .find(|(candidate, _)| *candidate == run.candidate)
        {
            Some((_, own)) => own.push(run),
            None => candidates.push((run.candidate, vec![run])),
        }
    }
    let best = [BEFORE, DURING, AFTER].map(|phase| {
        if rate.is_some() {
            None
        } else {
            best_fixed(&candidates, phase)
        }
    });
    let p99_noise =
        [BEFORE, DURING, AFTER].map(|phase| noise(&candidates, &|run| run.figures[phase].p99_ms));
    let noise = [BEFORE, DURING, AFTER]
        .map(|phase| noise(&candidates, &|run| run.figures[phase].rows_per_s));
    let rounds = candidates
        .iter()
        .map(|(_, runs)| runs.len())
        .min()
        .unwrap_or(0);
    let candidates = candidates
        .into_iter()
        .map(|(candidate, runs)| compared(candidate, runs, &best, rate))
        .collect();
    Comparison {
        backend,
        storm,
        best,
        noise,
        p99_noise,
        rounds,
        candidates,
    }
}

/// The standard deviation of all fixed sizes' runs, each from its own size's mean.
fn noise(candidates: &[(Candidate, Vec<&Run>)], figure: &dyn Fn(&Run) -> f64) -> f64 {
    let (mut squares, mut freedom) = (0.0, 0);
    for (_, runs) in candidates
        .iter()
        .filter(|(candidate, runs)| matches!(candidate, Candidate::Fixed(_)) && runs.len() > 1)
    {
        let mean = runs.iter().map(|run| figure(run)).sum::<f64>() / runs.len() as f64;
        if mean <= 0.0 {
            // A size that stored nothing shows nothing about the machine.
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

fn best_fixed(candidates: &[(Candidate, Vec<&Run>)], phase: usize) -> Option<Best> {
    let fixed: Vec<&(Candidate, Vec<&Run>)> = candidates
        .iter()
        .filter(|(candidate, _)| matches!(candidate, Candidate::Fixed(_)))
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
    let (candidate, runs) = fastest(None)?;
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
        candidate: *candidate,
        by_round,
        rows_per_s,
        p99_ms,
    })
}

fn compared<'a>(
    candidate: Candidate,
    runs: Vec<&'a Run>,
    best: &[Option<Best>; 3],
    rate: Option<f64>,
) -> Compared<'a> {
    let middle =
        |of: &dyn Fn(&Run) -> f64| median(&mut runs.iter().map(|run| of(run)).collect::<Vec<_>>());
    let figures = [BEFORE, DURING, AFTER].map(|phase| Figures {
        rows_per_s: middle(&|run| run.figures[phase].rows_per_s),
        // Shares of calls are taken over all rounds together.
        calls: runs.iter().map(|run| run.figures[phase].calls).sum(),
        failed_calls: runs.iter().map(|run| run.figures[phase].failed_calls).sum(),
        p50_ms: middle(&|run| run.figures[phase].p50_ms),
        p99_ms: middle(&|run| run.figures[phase].p99_ms),
        batch_size: middle(&|run| run.figures[phase].batch_size),
        behind: middle(&|run| run.figures[phase].behind),
    });
    let shares = [BEFORE, DURING, AFTER].map(|phase| {
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
    let competitors_per_s = middle(&|run| run.competitors_per_s);
    let failed_rows = runs.iter().map(|run| run.failed_rows).sum();
    Compared {
        candidate,
        runs,
        figures,
        shares,
        back_after_s,
        competitors_per_s,
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

/// Seconds from the end of the storm to the first half second that is `right`. Infinite without
/// one.
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
