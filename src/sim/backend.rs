//! The backend as the user describes it.

use std::time::Duration;

use super::load::Load;
use super::lock::LockHolder;
use super::parallel::Parallel;

/// What a call of `n` items costs: `latency + call + item·n` on an idle backend without noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Waiting that no load stretches: the network, a disk.
    pub latency: Duration,
    /// Work for the call itself, whatever it carries.
    pub call: Duration,
    /// Work for each item.
    pub item: Duration,
}

impl Costs {
    /// From three times in seconds.
    #[must_use]
    pub fn of_secs(latency: f64, call: f64, item: f64) -> Self {
        let time = Duration::from_secs_f64;
        Self {
            latency: time(latency),
            call: time(call),
            item: time(item),
        }
    }
}

/// A share of calls that need a multiple of their work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outliers {
    pub(super) share: f64,
    pub(super) factor: f64,
}

/// A length beyond which a call needs a multiple of its work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cliff {
    /// In items.
    pub(super) beyond: usize,
    pub(super) factor: f64,
}

/// Extra work below or beyond a number of items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ExtraWork {
    pub(super) items: usize,
    pub(super) time: Duration,
}

/// The description of a backend that batchers share. [`Simulation`](super::Simulation) runs it.
///
/// The default is a database of medium speed. A call has 4 ms of latency and 16 ms of work, and an
/// item 1 ms of work. There are 4 cores, of which a background load takes a fifth. The noise is 15
/// %, and calls longer than 400 ms fail.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Backend {
    pub(super) costs: Costs,
    pub(super) changes: Vec<(Duration, Costs)>,
    pub(super) cores: f64,
    pub(super) load: Load,
    pub(super) noise: f64,
    pub(super) outliers: Outliers,
    pub(super) timeout: Option<Duration>,
    pub(super) overload_errors: f64,
    pub(super) row_errors: f64,
    pub(super) call_errors: f64,
    pub(super) lock_conflicts: f64,
    pub(super) super_linear: ExtraWork,
    pub(super) sub_linear: ExtraWork,
    pub(super) cliff: Cliff,
    pub(super) length_limit: usize,
    pub(super) refusals: f64,
    pub(super) lock_holder: Option<LockHolder>,
    pub(super) locks: u64,
    pub(super) signals: bool,
    pub(super) parallel: Parallel,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            costs: Costs::of_secs(0.004, 0.016, 0.001),
            changes: Vec::new(),
            cores: 4.0,
            load: Load::Constant(0.2),
            noise: 0.15,
            outliers: Outliers {
                share: 0.0,
                factor: 1.0,
            },
            timeout: Some(Duration::from_millis(400)),
            overload_errors: 0.0,
            row_errors: 0.0,
            call_errors: 0.0,
            lock_conflicts: 0.0,
            super_linear: ExtraWork {
                items: usize::MAX,
                time: Duration::ZERO,
            },
            sub_linear: ExtraWork {
                items: 0,
                time: Duration::ZERO,
            },
            cliff: Cliff {
                beyond: usize::MAX,
                factor: 1.0,
            },
            length_limit: usize::MAX,
            refusals: 0.0,
            lock_holder: None,
            locks: 0,
            signals: true,
            parallel: Parallel::default(),
        }
    }
}

impl Backend {
    /// The default backend, see [`Backend`].
    pub fn new() -> Self {
        Self::default()
    }

    /// What a call costs from the start of the run.
    pub fn costs(mut self, costs: Costs) -> Self {
        self.costs = costs;
        self
    }

    /// What a call costs that begins at this time or later. Times must be given in ascending order.
    pub fn costs_from(mut self, time: Duration, costs: Costs) -> Self {
        self.changes.push((time, costs));
        self
    }

    /// How many calls can work at full speed at once. Default 4.
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = f64::from(cores.max(1));
        self
    }

    /// The background load. Default a constant 0.2.
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// How far the work of equal calls scatters: the standard deviation of its logarithm. Default
    /// 0.15.
    pub fn noise(mut self, deviation: f64) -> Self {
        self.noise = deviation;
        self
    }

    /// A share of the calls needs `times` as much work. Default none.
    pub fn outliers(mut self, share: f64, times: f64) -> Self {
        self.outliers = Outliers {
            share,
            factor: times,
        };
        self
    }

    /// How long a call may take. Then it is given up, and all its items are lost. `None` is no
    /// limit. Default 400 ms.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Under overload each item is refused with a probability: `gain` times the share by which the
    /// demand exceeds the capacity, at most 0.5. The demand is the background load, plus the calls
    /// at work per core. Default 0.
    pub fn overload_errors(mut self, gain: f64) -> Self {
        self.overload_errors = gain;
        self
    }

    /// Each item is refused with this probability, whatever the size and the load. Default 0.
    pub fn row_errors(mut self, probability: f64) -> Self {
        self.row_errors = probability;
        self
    }

    /// Each call fails as a whole with this probability, whatever the size and the load. Default 0.
    pub fn call_errors(mut self, probability: f64) -> Self {
        self.call_errors = probability;
        self
    }

    /// Each call fails as a whole with probability `1 − exp(−gain·n²)`, since every pair of its
    /// items may conflict. Default 0.
    pub fn lock_conflicts(mut self, gain: f64) -> Self {
        self.lock_conflicts = gain;
        self
    }

    /// Calls of more than `beyond` items need extra work: `extra` times the square of the number of
    /// items beyond it. Default none.
    pub fn super_linear(mut self, beyond: usize, extra: Duration) -> Self {
        self.super_linear = ExtraWork {
            items: beyond,
            time: extra,
        };
        self
    }

    /// Each of the `first` items of a call needs this much more work, as for the pages of an index:
    /// only a large batch writes several rows to one page. Throughput then grows with the size for
    /// small batches and again for large ones, and hardly in between. Default none.
    pub fn sub_linear(mut self, first: usize, extra: Duration) -> Self {
        self.sub_linear = ExtraWork {
            items: first,
            time: extra,
        };
        self
    }

    /// Calls of more than `beyond` items need `times` as much work, as for a sort that spills or a
    /// buffer that overflows. Default none.
    pub fn cliff(mut self, beyond: usize, times: f64) -> Self {
        self.cliff = Cliff {
            beyond,
            factor: times,
        };
        self
    }

    /// Calls of more items are refused after 0.1 ms with a plain error, as for a status 413 or too
    /// many parameters. [Refused calls](super#what-is-simulated) are tried again. Default none.
    pub fn length_limit(mut self, items: usize) -> Self {
        self.length_limit = items;
        self
    }

    /// Each call is refused after 0.1 ms with this probability, less than 1, with a plain error,
    /// whatever its size. [Refused calls](super#what-is-simulated) are tried again. Default 0.
    pub fn refusals(mut self, probability: f64) -> Self {
        self.refusals = probability;
        self
    }

    /// Another client that takes the lock which every call needs. Default none.
    pub fn lock_holder(mut self, holder: LockHolder) -> Self {
        self.lock_holder = Some(holder);
        self
    }

    /// How many waiting locks the handler reports. Default 0.
    pub fn locks(mut self, waiting: u64) -> Self {
        self.locks = waiting;
        self
    }

    /// Whether the handler reports CPU, queue, errors and locks. Times and failures are always
    /// measured. Default true.
    pub fn signals(mut self, reported: bool) -> Self {
        self.signals = reported;
        self
    }

    /// What a call that begins at this time costs.
    pub(super) fn costs_at(&self, time: Duration) -> Costs {
        self.changes
            .iter()
            .take_while(|(from, _)| *from <= time)
            .last()
            .map_or(self.costs, |(_, costs)| *costs)
    }

    /// The lock's holder, if it asks for the lock at this time.
    pub(super) fn holder_at(&self, time: Duration) -> Option<LockHolder> {
        self.lock_holder.filter(|holder| holder.asks_at(time))
    }

    /// The work of a call of `n` items, in seconds of one core without noise.
    pub(super) fn work(&self, costs: &Costs, n: usize) -> f64 {
        let over = n.saturating_sub(self.super_linear.items) as f64;
        let pages = n.min(self.sub_linear.items) as f64;
        let work = costs.call.as_secs_f64()
            + costs.item.as_secs_f64() * n as f64
            + self.super_linear.time.as_secs_f64() * over * over
            + self.sub_linear.time.as_secs_f64() * pages;
        if n > self.cliff.beyond {
            work * self.cliff.factor
        } else {
            work
        }
    }

    /// The probability that a call of `n` items fails for a reason other than time.
    pub(super) fn call_failure(&self, n: usize) -> f64 {
        let pairs = (n as f64) * (n as f64);
        1.0 - (1.0 - self.call_errors) * (-self.lock_conflicts * pairs).exp()
    }

    /// The probability that an item of a call that succeeds is refused.
    pub(super) fn item_failure(&self, load: f64, at_work: f64) -> f64 {
        let over = (load + at_work / self.cores - 1.0).max(0.0);
        (self.row_errors + self.overload_errors * over).min(self.row_errors.max(0.5))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn items_that_share_pages_cost_more_up_to_so_many() {
        let costs = Costs::of_secs(0.0, 0.001, 5e-6);
        let backend = Backend::new().sub_linear(1_000, Duration::from_micros(10));
        for (n, expected) in [(1, 0.001_015), (1_000, 0.016), (5_000, 0.036)] {
            assert!(
                (backend.work(&costs, n) - expected).abs() < 1e-9,
                "{n}: {}",
                backend.work(&costs, n)
            );
        }
    }
}
