//! How several calls at once affect each other, as the user describes it.

use std::time::Duration;

use super::backend::Backend;

/// How calls at once affect each other, apart from sharing the cores.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parallel {
    /// How long a flush to disk takes that commits every call which waits for it.
    pub(super) flush: Option<Duration>,
    /// The two coefficients of the Universal Scalability Law.
    pub(super) contention: f64,
    pub(super) coherency: f64,
    pub(super) connections: Option<usize>,
    pub(super) conflicts: f64,
    pub(super) cores: Vec<(Duration, u32)>,
    pub(super) backoff: Duration,
    pub(super) cpu_only: bool,
}

impl Parallel {
    /// The share of its speed that each of this many calls at work keeps.
    pub(super) fn speed(&self, at_work: usize) -> f64 {
        if self.contention == 0.0 && self.coherency == 0.0 {
            return 1.0;
        }
        let (calls, others) = (at_work as f64, at_work as f64 - 1.0);
        1.0 / (1.0 + self.contention * others + self.coherency * calls * others)
    }

    /// The probability that a call of `n` items conflicts with this many others.
    pub(super) fn conflict(&self, n: usize, others: usize) -> f64 {
        1.0 - (-self.conflicts * n as f64 * others as f64).exp()
    }
}

impl Backend {
    /// After its work, a call waits for a flush to disk that takes this long. One flush commits all
    /// calls that waited when it began. Default none.
    ///
    /// With one call at once there is one commit a flush. With two there is still one, since each
    /// waits for the other's flush. With more, half of them are in each flush.
    pub fn group_commit(mut self, flush: Duration) -> Self {
        self.parallel.flush = Some(flush);
        self
    }

    /// Calls at work slow each other down: each of `k` needs `1 + contention·(k−1) +
    /// coherency·k·(k−1)` times its time, the Universal Scalability Law (Gunther: "Guerrilla Capacity
    /// Planning", 2007). Defaults 0 and 0.
    pub fn contention(mut self, contention: f64, coherency: f64) -> Self {
        self.parallel.contention = contention.max(0.0);
        self.parallel.coherency = coherency.max(0.0);
        self
    }

    /// If this many calls are connected, a further one fails at the end of its latency, and its
    /// items are lost. Default no limit.
    pub fn connections(mut self, most: usize) -> Self {
        self.parallel.connections = Some(most.max(1));
        self
    }

    /// A call of `n` items fails at its end with probability `1 − exp(−gain·n·others)`, where
    /// `others` are the other calls in the backend. Default 0.
    pub fn conflicts(mut self, gain: f64) -> Self {
        self.parallel.conflicts = gain;
        self
    }

    /// How many calls can work at full speed at once from this time on. Times must be given in
    /// ascending order.
    pub fn cores_from(mut self, time: Duration, cores: u32) -> Self {
        self.parallel.cores.push((time, cores.max(1)));
        self
    }

    /// After a failed call its lane waits for a random time of up to this long. Its permit is not
    /// used meanwhile. Default zero.
    pub fn backoff(mut self, most: Duration) -> Self {
        self.parallel.backoff = most;
        self
    }

    /// Whether the handler reports only the CPU. Default false.
    pub fn cpu_only(mut self, reported: bool) -> Self {
        self.parallel.cpu_only = reported;
        self
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::Fixed;
    use crate::sim::{Backend, Costs, Load, Report, Simulation};

    use super::*;

    /// 1 ms a call and 10 µs an item, without noise, timeout and background load.
    fn backend(cores: u32) -> Backend {
        Backend::new()
            .costs(Costs::of_secs(0.0, 0.001, 1e-5))
            .cores(cores)
            .noise(0.0)
            .load(Load::Constant(0.0))
            .timeout(None)
    }

    fn run(backend: Backend, calls: usize) -> Report {
        Simulation::new(backend)
            .duration(Duration::from_secs(10))
            .concurrency(calls)
            .run(Fixed(100))
    }

    fn throughput(backend: &Backend, calls: usize) -> f64 {
        run(backend.clone(), calls).handled() as f64 / 10.0
    }

    #[test]
    fn throughput_grows_with_the_calls_at_once_up_to_the_cores() {
        for (calls, expected) in [(1, 50e3), (2, 100e3), (4, 200e3), (8, 200e3)] {
            let measured = throughput(&backend(4), calls);
            assert!(
                (measured / expected - 1.0).abs() < 0.01,
                "{calls}: {measured}"
            );
        }
    }

    #[test]
    fn two_calls_share_a_flush_without_more_throughput_and_four_have_more() {
        let flush = backend(4).group_commit(Duration::from_millis(20));
        let one = throughput(&flush, 1);
        assert!((one - 100.0 / 0.022).abs() < 50.0, "{one}");
        for (calls, low, high) in [(2, 0.95, 1.15), (4, 2.0, 2.3), (8, 4.0, 4.5)] {
            let ratio = throughput(&flush, calls) / one;
            assert!((low..=high).contains(&ratio), "{calls}: {ratio}");
        }
    }

    #[test]
    fn contention_follows_the_universal_scalability_law() {
        let slow = backend(16).contention(0.05, 0.02);
        for calls in [1_usize, 4, 7, 12] {
            let k = calls as f64;
            let expected = 50e3 * k / (1.0 + 0.05 * (k - 1.0) + 0.02 * k * (k - 1.0));
            let measured = throughput(&slow, calls);
            assert!(
                (measured / expected - 1.0).abs() < 0.01,
                "{calls}: {measured}"
            );
        }
    }

    #[test]
    fn a_call_over_the_connections_fails_and_the_others_do_not() {
        let limited = backend(8).connections(3).backoff(Duration::from_millis(50));
        assert_eq!(run(limited.clone(), 3).failed(), 0);
        let report = run(limited, 4);
        assert!(report.failed() > 0);
        let failed = |call: &&crate::sim::Call| call.failed > 0;
        assert!(
            report
                .calls()
                .iter()
                .filter(failed)
                .all(|call| call.service_time.is_zero())
        );
    }

    #[test]
    fn conflicts_grow_with_the_other_calls() {
        let share = |calls| {
            let report = run(backend(8).noise(0.2).conflicts(1e-3), calls);
            report.failed() as f64 / (report.failed() + report.handled()) as f64
        };
        assert_eq!(share(1), 0.0);
        // 1 − exp(−0.1 · others).
        assert!((share(2) - 0.095).abs() < 0.02, "{}", share(2));
        assert!((share(5) - 0.330).abs() < 0.02, "{}", share(5));
    }

    #[test]
    fn cores_change_at_their_time() {
        let report = run(backend(2).cores_from(Duration::from_secs(5), 8), 8);
        let half = Duration::from_secs(5);
        let before = report.handled_between(Duration::ZERO, half);
        let after = report.handled_between(half, 2 * half);
        assert!((after as f64 / before as f64 - 4.0).abs() < 0.1);
    }

    #[test]
    fn batchers_begin_one_after_the_other() {
        let report = Simulation::new(backend(4))
            .duration(Duration::from_secs(10))
            .start_interval(Duration::from_secs(4))
            .run_all(vec![Fixed(100), Fixed(100)]);
        let first = |batcher| report.calls().iter().find(|call| call.batcher == batcher);
        assert!(first(0).unwrap().at < Duration::from_secs(1));
        assert_eq!(first(1).unwrap().at, Duration::from_millis(4_002));
    }

    #[test]
    fn arrivals_are_handed_over_once_whatever_the_calls_at_once() {
        for calls in [1, 4] {
            let report = Simulation::new(backend(4))
                .duration(Duration::from_secs(10))
                .arrivals_per_second(20e3)
                .linger(Duration::from_millis(20))
                .concurrency(calls)
                .run(Fixed(100));
            let total = report.handled() + report.backlog();
            assert!(
                (195e3..=205e3).contains(&(total as f64)),
                "{calls}: {total}"
            );
            assert!(report.backlog() < 2_000, "{calls}: {}", report.backlog());
        }
    }
}
