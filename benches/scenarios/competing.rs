//! T18 to T22: competing load as it was measured on real databases. Each run has three phases:
//! before, during and after the competing load.

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Costs, Load, LockHolder, Report, Simulation};

use crate::candidates::Candidate;
use crate::runs::{Figures, secs};

/// When the measurement begins, when the competing load comes and goes, and the end of the run.
struct Times {
    before: Duration,
    during: Duration,
    after: Duration,
    end: Duration,
}

const LONG: Times = Times {
    before: secs(5),
    during: secs(15),
    after: secs(30),
    end: secs(45),
};
/// As in the bench of real databases.
const SHORT: Times = Times {
    before: secs(1),
    during: secs(2),
    after: secs(4),
    end: secs(5),
};

/// Holds the lock 70 of every 170 ms.
fn holder(times: &Times) -> LockHolder {
    LockHolder::new(Duration::from_millis(70), Duration::from_millis(100))
        .between(times.during, times.after - times.during)
}

/// A file: a commit costs milliseconds, an item microseconds, and a waiting call polls every 2 ms.
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

/// The shares of the oracle before, during and after the load; the seconds from its end until the
/// size in force is worth 90 % of the oracle; the share of the calls that failed during it.
fn phases(
    backend: &Backend,
    max: usize,
    times: &Times,
    candidate: Candidate,
    seed: u64,
) -> Figures {
    let Times {
        before,
        during,
        after,
        end,
    } = *times;
    let report = Simulation::new(backend.clone())
        .max_batch_size(max)
        .duration(end)
        .seed(seed)
        .run(candidate.policy(None));
    let shares = [(before, during), (during, after), (after, end)]
        .map(|(a, b)| report.share_of_oracle_between(a, b));
    let best = backend.best(after, 1, max, None).throughput;
    let mut back = report
        .calls()
        .iter()
        .filter(|call| call.at > after)
        .skip_while(|call| {
            backend.expected(after, 1, call.batch_size, None) / (1.0 + call.pause_ratio)
                < 0.9 * best
        });
    let recovery = back
        .next()
        .map_or(end - after, |call| call.at - after)
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
        .filter(|call| call.at > times.during && call.at <= times.after);
    let (mut calls, mut failed) = (0.0, 0.0);
    for call in inside {
        calls += 1.0;
        failed += f64::from(u8::from(call.failed == call.len));
    }
    failed / calls
}

pub fn t18(candidate: Candidate, seed: u64) -> Figures {
    phases(
        &file().lock_holder(holder(&LONG).polled(Duration::from_millis(2))),
        20_000,
        &LONG,
        candidate,
        seed,
    )
}

pub fn t19(candidate: Candidate, seed: u64) -> Figures {
    phases(
        &server().lock_holder(holder(&LONG)),
        5_000,
        &LONG,
        candidate,
        seed,
    )
}

/// SQLite as it was measured: an index of a thousand pages. Small batches write one of them for
/// every row.
pub fn t20(candidate: Candidate, seed: u64) -> Figures {
    let costs = Costs::of_secs(0.000_05, 0.000_06, 6.5e-6);
    let backend = file()
        .costs(costs)
        .sub_linear(1_000, Duration::from_nanos(10_900));
    phases(
        &backend.lock_holder(holder(&LONG).polled(Duration::from_millis(2))),
        20_000,
        &LONG,
        candidate,
        seed,
    )
}

/// Twelve busy clients.
pub fn t21(candidate: Candidate, seed: u64) -> Figures {
    phases(
        &server().load(Load::spike(
            0.0,
            0.87,
            LONG.during,
            LONG.after - LONG.during,
        )),
        5_000,
        &LONG,
        candidate,
        seed,
    )
}

/// SQLite on a slower machine. Two batches of the largest size and a probe take as long as one turn
/// of the lock's holder, so it always asks for the lock during the probe. There is hardly any
/// noise, so each wait stands out.
pub fn t22(candidate: Candidate, seed: u64) -> Figures {
    let costs = Costs::of_secs(0.000_05, 0.000_06, 9e-6);
    let backend = file()
        .costs(costs)
        .sub_linear(1_000, Duration::from_nanos(18_000))
        .noise(0.03);
    phases(
        &backend.lock_holder(holder(&SHORT).polled(Duration::from_millis(2))),
        5_000,
        &SHORT,
        candidate,
        seed,
    )
}
