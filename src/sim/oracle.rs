//! The throughput of the best fixed size, computed from the description of the backend. It is the
//! baseline. No policy knows it.

use std::time::Duration;

use super::backend::Backend;
use super::lock::LockHolder;

/// The 95th percentile of a normal distribution, in deviations.
const P95_DEVIATIONS: f64 = 1.645;

/// How long a refused call takes, in seconds.
pub(super) const REFUSAL_SECONDS: f64 = 1e-4;

/// The best fixed size at one moment, and its throughput.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Best {
    /// The size, in items.
    pub batch_size: usize,
    /// Items handled per second by all batchers together. 0 if no call succeeds.
    pub throughput: f64,
}

impl Backend {
    /// The best fixed size of at most `max` for this many busy batchers, at a time since the start.
    /// With a `bound`, at most 5 % of the calls of that size take longer. Waits for a lock do not
    /// count here, since no size avoids them.
    #[must_use]
    pub fn best(&self, at: Duration, batchers: usize, max: usize, bound: Option<Duration>) -> Best {
        let evaluate = |n: usize| Best {
            batch_size: n,
            throughput: self.expected(at, batchers, n, bound),
        };
        let max = max.min(self.length_limit).max(1);
        let better = |one: Best, other: Best| {
            if other.throughput > one.throughput {
                other
            } else {
                one
            }
        };
        // Every small size, then steps of 4 %, then every size around the best of those.
        let mut best = Best::default();
        let mut n = 1;
        while n <= max {
            best = better(best, evaluate(n));
            n += (n / 25).max(1);
        }
        best = better(best, evaluate(max));
        if self.cliff.beyond < max {
            best = better(best, evaluate(self.cliff.beyond.max(1)));
        }
        let near = best.batch_size / 25 + 1;
        let (from, to) = (
            best.batch_size.saturating_sub(near).max(1),
            (best.batch_size + near).min(max),
        );
        (from..=to).map(evaluate).fold(best, better)
    }

    /// Items handled per second by all of this many busy batchers together, if each always sends
    /// `n`. It is 0 if more than 5 % of the calls exceed the bound.
    #[must_use]
    pub fn expected(
        &self,
        at: Duration,
        batchers: usize,
        n: usize,
        bound: Option<Duration>,
    ) -> f64 {
        if n > self.length_limit {
            return 0.0;
        }
        let load = self.load.at(at);
        let costs = self.costs_at(at);
        let latency = costs.latency.as_secs_f64();
        let mean_work =
            self.work(&costs, n) * (1.0 + self.outliers.share * (self.outliers.factor - 1.0));
        let batchers = batchers as f64;
        // The number of calls at work and the time of their work depend on each other.
        let (mut at_work, mut time, mut through) = (batchers, f64::INFINITY, 0.0);
        for _ in 0..if batchers > self.cores { 30 } else { 1 } {
            let rate = (1.0 - load) * (self.cores / at_work).min(1.0);
            if rate <= 0.0 {
                return 0.0;
            }
            (through, time) = self.call_within(latency, mean_work / rate, self.timeout);
            at_work = (at_work + batchers * (1.0 - latency / time).max(0.0)) / 2.0;
        }
        if let Some(bound) = bound {
            let rate = (1.0 - load) * (self.cores / at_work.max(1e-9)).min(1.0);
            let long = (P95_DEVIATIONS * self.noise - self.noise * self.noise / 2.0).exp();
            if latency + self.work(&costs, n) / rate * long > bound.as_secs_f64() {
                return 0.0;
            }
        }
        if let Some(holder) = self.holder_at(at) {
            let rate = (1.0 - load) * (self.cores / at_work.max(1e-9)).min(1.0);
            (through, time) = self.calls_between_locks(
                &holder,
                batchers,
                latency,
                mean_work / rate,
                (through, time),
            );
        }
        let items =
            n as f64 * (1.0 - self.item_failure(load, at_work)) * (1.0 - self.call_failure(n));
        let refused = REFUSAL_SECONDS * self.refusals / (1.0 - self.refusals);
        batchers * items * through / (time + refused)
    }

    /// The same as `call_within`, as means over all calls, where a holder takes the lock again and
    /// again. In each turn the first call waits, and others follow until the holder asks. The
    /// holder gets the lock when the last of the calls in flight has ended.
    fn calls_between_locks(
        &self,
        holder: &LockHolder,
        batchers: f64,
        latency: f64,
        work: f64,
        (through, time): (f64, f64),
    ) -> (f64, f64) {
        let (given_up_for, given_up, wait) = holder.wait(self.timeout);
        let left = self
            .timeout
            .map(|timeout| timeout.saturating_sub(Duration::from_secs_f64(wait)));
        let (first_through, first_time) = self.call_within(latency, work, left);
        // A call that polls finds the free lock late. The holder still takes it at the same time.
        let free = holder.free.as_secs_f64() - holder.poll.as_secs_f64() / 2.0;
        let others = (free - first_time) / time;
        // When the holder asks, the call in flight is half over on average. Of several calls, the last
        // ends later.
        let (calls, last) = (
            (others + 0.5).max(0.0),
            (others + batchers / (batchers + 1.0)).max(0.0),
        );
        let turn = given_up_for + wait + first_time + last * time;
        let all = given_up + 1.0 + calls;
        ((first_through + calls * through) / all, turn / all)
    }

    /// The probability that a call ends before the timeout, and the mean time of all calls, those
    /// given up included.
    fn call_within(&self, latency: f64, work: f64, timeout: Option<Duration>) -> (f64, f64) {
        let Some(timeout) = timeout.map(|timeout| timeout.as_secs_f64()) else {
            return (1.0, latency + work);
        };
        let room = timeout - latency;
        if room <= 0.0 {
            return (0.0, timeout);
        }
        if self.noise <= 0.0 {
            return if work <= room {
                (1.0, latency + work)
            } else {
                (0.0, timeout)
            };
        }
        // The work is lognormal with this mean. Below are the probability and the expectation of
        // the part that ends before the timeout.
        let z = ((room / work).ln() + self.noise * self.noise / 2.0) / self.noise;
        let through = normal(z);
        (
            through,
            latency + work * normal(z - self.noise) + room * (1.0 - through),
        )
    }
}

/// The normal distribution function, to 1e-7 (Abramowitz and Stegun, 26.2.17).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * series;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_the_table_in_every_book() {
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_345),
            (1.96, 0.975_002),
            (-1.645, 0.049_985),
            (-4.0, 0.000_032),
        ] {
            assert!((normal(z) - expected).abs() < 2e-6, "{z}: {}", normal(z));
        }
    }

    #[test]
    fn without_noise_the_best_size_is_what_just_ends_in_time() {
        // 4 ms + (16 + n)/0.8 ms <= 400 ms up to n = 300.8.
        let best = Backend::new().noise(0.0).best(Duration::ZERO, 1, 500, None);
        assert_eq!(best.batch_size, 300);
        assert!((best.throughput - 300.0 / 0.399).abs() < 0.1, "{best:?}");
        let free = Backend::new()
            .noise(0.0)
            .timeout(None)
            .best(Duration::ZERO, 1, 500, None);
        assert_eq!(free.batch_size, 500);
    }

    #[test]
    fn noise_keeps_the_best_size_away_from_the_timeout_and_a_bound_further() {
        let backend = Backend::new();
        let best = backend.best(Duration::ZERO, 1, 500, None);
        assert!((195..=210).contains(&best.batch_size), "{best:?}");
        let bound = backend.best(Duration::ZERO, 1, 500, Some(Duration::from_millis(200)));
        assert!((100..=125).contains(&bound.batch_size), "{bound:?}");
    }

    #[test]
    fn no_other_size_is_better_than_the_best() {
        for backend in [
            Backend::new(),
            Backend::new()
                .super_linear(80, Duration::from_micros(30))
                .noise(0.3),
        ] {
            for batchers in [1, 16] {
                let best = backend.best(Duration::ZERO, batchers, 500, None);
                for n in 1..=500 {
                    let other = backend.expected(Duration::ZERO, batchers, n, None);
                    assert!(
                        other <= best.throughput * 1.000_001,
                        "{n} brings {other}, more than {best:?}"
                    );
                }
            }
        }
    }
}
