//! T23 to T27: backends with an edge (a cliff in the cost, or a length that is refused at once),
//! calls that are refused at random, and a low arrival rate.

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Costs, Load, Report, Simulation};
use load_aware_batcher::{Fixed, Policy};

use crate::candidates::Candidate;
use crate::random::Draw;
use crate::runs::{Figures, secs};

/// When the edge has to be found, and the end.
const FOUND: Duration = secs(5);
const END: Duration = secs(30);
const MAX: usize = 10_000;

/// 2 ms a call and 5 µs an item, without a signal.
fn plain(call: f64, item: f64) -> Backend {
    let costs = Costs::of_secs(call / 4.0, call * 0.75, item);
    Backend::new()
        .costs(costs)
        .cores(1)
        .load(Load::Constant(0.0))
        .noise(0.05)
        .timeout(None)
        .signals(false)
}

fn database() -> Backend {
    plain(0.002, 5e-6)
}

/// Shares of the oracle until the edge has to be found, and from then on.
fn shares(backend: Backend, max: usize, candidate: Candidate, seed: u64) -> Figures {
    let report = Simulation::new(backend)
        .max_batch_size(max)
        .duration(END)
        .seed(seed)
        .run(candidate.policy(None));
    vec![
        report.share_of_oracle_between(Duration::ZERO, FOUND),
        report.share_of_oracle_between(FOUND, END),
    ]
}

/// Six times as long over 1 500 items.
pub fn cliff(candidate: Candidate, seed: u64) -> Figures {
    shares(database().cliff(1_500, 6.0), MAX, candidate, seed)
}

/// Over 700 items a call is refused at once.
pub fn limit(candidate: Candidate, seed: u64) -> Figures {
    shares(database().length_limit(700), MAX, candidate, seed)
}

/// Every tenth call is refused within 0.1 ms. Scenario 60.
pub fn refused(candidate: Candidate, seed: u64) -> Figures {
    shares(database().refusals(0.1), MAX, candidate, seed)
}

/// A cliff of 3 to 10 times, or a limit. It lies between a tenth and all of the size that has 95 %
/// efficiency. A call costs 0.5 to 10 ms, as much as 40 to 800 items.
pub fn edges(candidate: Candidate, seed: u64) -> Figures {
    let mut draw = Draw::new(seed ^ 0x5eed);
    let call = draw.scale(0.5e-3, 10e-3);
    let worth = draw.scale(40.0, 800.0);
    let edge = (19.0 * worth * draw.scale(0.1, 1.0)) as usize;
    let times = draw.scale(3.0, 10.0);
    let backend = plain(call, call / worth).noise(draw.uniform(0.02, 0.15));
    let backend = if seed % 2 == 0 {
        backend.cliff(edge, times)
    } else {
        backend.length_limit(edge)
    };
    shares(backend, MAX, candidate, seed)
}

/// 400 items a second and a linger of a second: the median wait, as a multiple of that of batching
/// without a linger, and in milliseconds.
pub fn trickle(candidate: Candidate, seed: u64) -> Figures {
    let run = Simulation::new(database())
        .max_batch_size(MAX)
        .duration(secs(60))
        .arrivals_per_second(400.0)
        .seed(seed);
    let natural = run.clone().linger(Duration::ZERO).run(Fixed(MAX));
    let p50 = |report: &Report| {
        report
            .latency(0.5)
            .map_or(f64::NAN, |wait| wait.as_secs_f64())
    };
    let policy: Box<dyn Policy> = candidate.policy(None);
    let report = run.run(policy);
    vec![p50(&report) / p50(&natural), p50(&report) * 1e3]
}
