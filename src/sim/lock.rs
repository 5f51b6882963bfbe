//! Another client that holds the lock which every call needs, and the lock itself while a simulation
//! runs.

use std::time::Duration;

/// Another client that takes a lock which every call needs. It holds the lock for a time, leaves it
/// free for a time, and takes it again.
///
/// The holder waits for the calls in flight and then has the lock. A call that begins after the
/// holder asked waits until the lock is free. Its latency and work come after that. The wait does
/// not depend on the size of the call. Where calls are short, few of them meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LockHolder {
    pub(super) held: Duration,
    pub(super) free: Duration,
    pub(super) begin: Duration,
    pub(super) lasting: Duration,
    pub(super) poll: Duration,
    pub(super) patience: Option<Duration>,
}

impl LockHolder {
    /// Holds the lock for `held`, and asks for it again `free` after the release, for the whole
    /// run.
    pub fn new(held: Duration, free: Duration) -> Self {
        let (begin, lasting, poll) = (Duration::ZERO, Duration::MAX, Duration::ZERO);
        Self {
            held,
            free,
            begin,
            lasting,
            poll,
            patience: None,
        }
    }

    /// Asks for the lock only from `begin` on, for the time `lasting`.
    pub fn between(mut self, begin: Duration, lasting: Duration) -> Self {
        (self.begin, self.lasting) = (begin, lasting);
        self
    }

    /// Waiting calls poll the lock at this interval, as in SQLite. So a call gets it up to one
    /// interval late. Default zero: waiting calls are woken.
    pub fn polled(mut self, every: Duration) -> Self {
        self.poll = every;
        self
    }

    /// A call that has waited this long for the lock fails as a whole, whatever its size. Default
    /// never.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.patience = Some(timeout);
        self
    }

    /// Whether it asks for the lock at this time.
    pub(super) fn asks_at(&self, time: Duration) -> bool {
        time.checked_sub(self.begin)
            .is_some_and(|since| since < self.lasting)
    }

    /// How long a call waits that begins when the lock is taken. Returns the seconds in attempts
    /// that are given up, the number of these, and the seconds in the attempt that gets the lock.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> (f64, f64, f64) {
        let wait = self.held.as_secs_f64() + self.poll.as_secs_f64() / 2.0;
        let patience = [self.patience, timeout].into_iter().flatten().min();
        let Some(patience) = patience.map(|patience| patience.as_secs_f64()) else {
            return (0.0, 0.0, wait);
        };
        let given_up = (wait / patience).floor();
        (given_up * patience, given_up, wait - given_up * patience)
    }
}

/// The calls that hold the lock, and those that wait.
#[derive(Default)]
pub(super) struct Lock {
    inside: usize,
    /// The holder has asked for the lock, or has it. No call enters.
    wanted: bool,
    waiting: Vec<usize>,
}

impl Lock {
    /// Whether a call enters. If not, `release` returns it.
    pub(super) fn enter(&mut self, call: usize) -> bool {
        if self.wanted {
            self.waiting.push(call);
        } else {
            self.inside += 1;
        }
        !self.wanted
    }

    /// A call leaves. True if the holder has the lock now.
    pub(super) fn leave(&mut self) -> bool {
        self.inside -= 1;
        self.wanted && self.inside == 0
    }

    /// The holder asks for the lock. True if it has the lock now.
    pub(super) fn ask(&mut self) -> bool {
        self.wanted = true;
        self.inside == 0
    }

    /// The holder releases the lock. Returns the calls that waited.
    pub(super) fn release(&mut self) -> Vec<usize> {
        self.wanted = false;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::LockHolder;
    use crate::policy::Fixed;
    use crate::sim::{Backend, Costs, Report, Simulation};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// 10 ms for 100 items, without a background load.
    fn quiet() -> Backend {
        let costs = Costs::of_secs(0.001, 0.004, 0.000_05);
        Backend::new()
            .costs(costs)
            .load(crate::sim::Load::Constant(0.0))
            .noise(0.0)
            .timeout(None)
    }

    fn run(backend: &Backend, size: usize, batchers: usize) -> Report {
        Simulation::new(backend.clone())
            .max_batch_size(5_000)
            .run_all(vec![Fixed(size); batchers])
    }

    fn times(report: &Report) -> Vec<u128> {
        report
            .calls()
            .iter()
            .map(|call| call.service_time.as_micros())
            .collect()
    }

    #[test]
    fn a_call_that_meets_the_holder_waits_for_it_and_no_other_does() {
        // The holder asks at 100 ms and has the lock at once, since a call ends then. It releases
        // the lock at 170 and asks again at 270. Seven calls fit in between.
        let backend =
            quiet().lock_holder(LockHolder::new(ms(70), ms(100)).between(ms(95), ms(300)));
        let times = times(&run(&backend, 100, 1));
        assert!(times[..10].iter().all(|time| *time == 10_000), "{times:?}");
        assert_eq!(times[10], 80_000);
        assert!(
            times[11..20].iter().all(|time| *time == 10_000),
            "{times:?}"
        );
        assert_eq!(times[20], 80_000);
        assert_eq!(
            times.iter().filter(|time| **time != 10_000).count(),
            2,
            "past its time it asks no more"
        );
    }

    #[test]
    fn a_wait_is_added_to_a_call_whatever_its_size() {
        let backend = quiet().lock_holder(LockHolder::new(ms(70), ms(100)));
        for (size, alone) in [(1, 5_050), (100, 10_000), (2_000, 105_000)] {
            let times = times(&run(&backend, size, 1));
            let longest = times.iter().max().unwrap();
            assert_eq!(
                (*times.iter().min().unwrap().min(&alone), *longest),
                (alone, alone + 70_000),
                "{size}"
            );
        }
    }

    #[test]
    fn a_call_that_polls_is_late_by_up_to_an_interval() {
        let backend = quiet().lock_holder(LockHolder::new(ms(70), ms(100)).polled(ms(20)));
        let times = times(&run(&backend, 100, 1));
        let late: Vec<_> = times
            .iter()
            .filter(|time| **time > 10_000)
            .map(|time| time - 80_000)
            .collect();
        assert!(late.iter().all(|late| *late <= 20_000), "{late:?}");
        assert!(
            late.iter().any(|late| *late < 5_000) && late.iter().any(|late| *late > 15_000),
            "{late:?}"
        );
    }

    #[test]
    fn a_lock_timeout_fails_those_that_wait_and_only_those() {
        let backend = quiet().lock_holder(LockHolder::new(ms(70), ms(100)).lock_timeout(ms(30)));
        for size in [1, 100, 2_000] {
            let report = run(&backend, size, 1);
            let (failed, through): (Vec<_>, Vec<_>) =
                report.calls().iter().partition(|call| call.failed > 0);
            assert!(
                failed
                    .iter()
                    .all(|call| call.service_time == ms(30) && call.failed == size),
                "{size}"
            );
            // In each turn two attempts give up, and the third one waits for 10 ms.
            let alone = Duration::from_micros(5_000 + 50 * size as u64);
            let waited = through
                .iter()
                .filter(|call| call.service_time > alone)
                .count();
            assert!(
                failed.len().abs_diff(2 * waited) <= 2,
                "{size}: {} and {waited}",
                failed.len()
            );
        }
    }

    /// The engine's events and the oracle's formula lead to the same figure.
    #[test]
    fn a_fixed_size_alongside_a_holder_has_the_throughput_of_the_formula() {
        let holder = LockHolder::new(ms(70), ms(100));
        let noisy = quiet().noise(0.15);
        let table = [
            (noisy.clone().lock_holder(holder), 1, 100),
            (noisy.clone().lock_holder(holder), 1, 500),
            (noisy.clone().lock_holder(holder), 1, 4_000),
            (noisy.clone().lock_holder(holder), 3, 500),
            (noisy.clone().lock_holder(holder.polled(ms(20))), 1, 100),
            (
                noisy.clone().lock_holder(holder.lock_timeout(ms(30))),
                1,
                100,
            ),
            (noisy.clone().lock_holder(holder).timeout(ms(100)), 1, 400),
            (noisy.clone().lock_holder(holder).timeout(ms(100)), 1, 800),
            (noisy.clone().lock_holder(holder).timeout(ms(50)), 1, 400),
            (noisy.clone().lock_holder(holder).timeout(ms(50)), 1, 700),
        ];
        for (backend, batchers, size) in table {
            let expected = backend.expected(Duration::ZERO, batchers, size, None) * 60.0;
            let ratio = run(&backend, size, batchers).handled() as f64 / expected;
            assert!(
                (ratio - 1.0).abs() < 0.03,
                "{batchers} of {size}: {ratio} of the formula, {backend:?}"
            );
        }
    }

    #[test]
    fn the_oracle_knows_when_there_is_a_holder() {
        let backend = quiet()
            .noise(0.15)
            .lock_holder(LockHolder::new(ms(70), ms(100)).between(ms(20_000), ms(20_000)));
        let report = run(&backend, 1_000, 1);
        for (from, to) in [(0, 20_000), (20_000, 40_000), (40_000, 60_000)] {
            let share = report.handled_between(ms(from), ms(to)) as f64
                / (20.0 * backend.expected(ms(from + 1), 1, 1_000, None));
            assert!((share - 1.0).abs() < 0.03, "from {from}: {share}");
        }
        let best = |at| backend.best(ms(at), 1, 5_000, None).throughput;
        assert!(best(30_000) < 0.8 * best(10_000) && best(50_000) == best(10_000));
        let whole = report.oracle_between(ms(0), ms(60_000), None);
        let parts = 20.0 * (best(10_000) + best(30_000) + best(50_000));
        assert!((whole / parts - 1.0).abs() < 0.01, "{whole} of {parts}");
    }
}
