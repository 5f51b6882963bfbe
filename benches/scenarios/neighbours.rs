//! T18 to T22: what was met on real databases. Calm, then neighbours for a while, then calm again.

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Costs, Load, LockHolder, Report, Simulation};

use crate::laws::Law;
use crate::runs::{Figures, secs};

/// When the calm is measured from, when the neighbours come and go, and the end.
struct Times {
    calm: Duration,
    storm: Duration,
    over: Duration,
    end: Duration,
}

const LONG: Times = Times {
    calm: secs(5),
    storm: secs(15),
    over: secs(30),
    end: secs(45),
};
/// As in the bench of real databases.
const SHORT: Times = Times {
    calm: secs(1),
    storm: secs(2),
    over: secs(4),
    end: secs(5),
};

/// Holds the lock 70 of every 170 ms.
fn holder(times: &Times) -> LockHolder {
    LockHolder::new(Duration::from_millis(70), Duration::from_millis(100))
        .between(times.storm, times.over - times.storm)
}

/// A file: a commit costs milliseconds, an item microseconds, and who waits polls every 2 ms.
fn file() -> Backend {
    let costs = Costs::of_secs(0.002, 0.003, 9e-6);
    Backend::new()
        .costs(costs)
        .cores(1)
        .load(Load::Constant(0.0))
        .timeout(None)
        .signals(false)
}

/// A server with a statement timeout of 100 ms.
fn server() -> Backend {
    let costs = Costs::of_secs(0.000_2, 0.000_3, 3.4e-6);
    let timeout = Duration::from_millis(100);
    Backend::new()
        .costs(costs)
        .cores(2)
        .load(Load::Constant(0.0))
        .timeout(timeout)
        .signals(false)
}

/// Shares of the oracle in calm, storm and after; seconds from the end of the storm until the size
/// in force is worth 90 % of the oracle; share of the calls that failed in the storm.
fn phases(backend: &Backend, max: usize, times: &Times, law: Law, seed: u64) -> Figures {
    let Times {
        calm,
        storm,
        over,
        end,
    } = *times;
    let report = Simulation::new(backend.clone())
        .max_batch_size(max)
        .duration(end)
        .seed(seed)
        .run(law.policy(None));
    let shares = [(calm, storm), (storm, over), (over, end)]
        .map(|(a, b)| report.share_of_oracle_between(a, b));
    let best = backend.best(over, 1, max, None).throughput;
    let mut back = report
        .calls()
        .iter()
        .filter(|call| call.at > over)
        .skip_while(|call| {
            backend.expected(over, 1, call.batch_size, None) / (1.0 + call.pause_ratio) < 0.9 * best
        });
    let recovery = back
        .next()
        .map_or(end - over, |call| call.at - over)
        .as_secs_f64();
    shares
        .into_iter()
        .chain([recovery, failed_share(&report, times)])
        .collect()
}

fn failed_share(report: &Report, times: &Times) -> f64 {
    let inside = report
        .calls()
        .iter()
        .filter(|call| call.at > times.storm && call.at <= times.over);
    let (mut calls, mut failed) = (0.0, 0.0);
    for call in inside {
        calls += 1.0;
        failed += f64::from(u8::from(call.failed == call.len));
    }
    failed / calls
}

pub fn t18(law: Law, seed: u64) -> Figures {
    phases(
        &file().lock_holder(holder(&LONG).polled(Duration::from_millis(2))),
        20_000,
        &LONG,
        law,
        seed,
    )
}

pub fn t19(law: Law, seed: u64) -> Figures {
    phases(
        &server().lock_holder(holder(&LONG)),
        5_000,
        &LONG,
        law,
        seed,
    )
}

/// SQLite as it was measured: an index of a thousand pages, which small batches write for every
/// row.
pub fn t20(law: Law, seed: u64) -> Figures {
    let costs = Costs::of_secs(0.000_05, 0.000_06, 6.5e-6);
    let backend = file()
        .costs(costs)
        .sub_linear(1_000, Duration::from_nanos(10_900));
    phases(
        &backend.lock_holder(holder(&LONG).polled(Duration::from_millis(2))),
        20_000,
        &LONG,
        law,
        seed,
    )
}

/// Twelve busy neighbours.
pub fn t21(law: Law, seed: u64) -> Figures {
    phases(
        &server().load(Load::spike(0.0, 0.87, LONG.storm, LONG.over - LONG.storm)),
        5_000,
        &LONG,
        law,
        seed,
    )
}

/// SQLite on a slower machine, where two batches of the largest size and a probe take as long as a
/// neighbour's round: the lock is always asked for in the probe. Hardly any noise, so that each
/// wait is a surprise.
pub fn t22(law: Law, seed: u64) -> Figures {
    let costs = Costs::of_secs(0.000_05, 0.000_06, 9e-6);
    let backend = file()
        .costs(costs)
        .sub_linear(1_000, Duration::from_nanos(18_000))
        .noise(0.03);
    phases(
        &backend.lock_holder(holder(&SHORT).polled(Duration::from_millis(2))),
        5_000,
        &SHORT,
        law,
        seed,
    )
}
