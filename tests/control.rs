//! The control loop with real threads, from a handler's feedback to the size of the batches.
//!
//! No test here waits for a fixed time. The check interval is short, and each test waits until it
//! sees the expected effect.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, BatchError, Batcher, Cadence, Decision, Fixed, LoadFeedback, LoadThreshold, Policy,
    Retry, Setpoint, Stats, Window, Zone,
};

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(1);

/// Adds items until the statistics are as expected. The time limit matters only if the test fails.
fn feed_until(batcher: &Batcher<u64>, mut expected: impl FnMut(&Stats) -> bool) -> Stats {
    let begun = Instant::now();
    loop {
        let stats = batcher.stats();
        if expected(&stats) {
            return stats;
        }
        assert!(begun.elapsed() < LONG, "not seen: {stats:#?}");
        batcher.add_many(0..64).unwrap();
    }
}

#[test]
fn an_idle_backend_makes_batches_grow_to_the_maximum_and_a_stressed_one_to_the_minimum() {
    for (load, goal, zone) in [(0.1, 200, Zone::Low), (0.9, 5, Zone::High)] {
        let batcher = Batcher::builder()
            .initial_batch_size(20)
            .min_batch_size(5)
            .max_batch_size(200)
            .load_check_interval(SOON)
            .policy(LoadThreshold::new().adjustment_factor(0.3))
            .spawn(move |_: &mut Batch<u64>| Ok(LoadFeedback::new().cpu_load(load)))
            .unwrap();
        let stats = feed_until(&batcher, |stats| stats.batch_size == goal);
        let average = stats.average_load.unwrap();
        assert!(
            (average - load).abs() < 1e-9,
            "the mean of equal loads: {average}"
        );
        let decisions = batcher.decisions();
        assert!(
            decisions
                .iter()
                .any(|decision| decision.zone == zone && decision.from != decision.to),
            "{decisions:?}"
        );
        assert!(decisions.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert!(batcher.close(LONG).is_clean());
    }
}

#[test]
fn a_monitor_counts_like_a_handler() {
    let batcher = Batcher::builder()
        .policy(LoadThreshold::new())
        .initial_batch_size(20)
        .load_check_interval(SOON)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    let begun = Instant::now();
    while batcher.stats().batch_size > 1 {
        batcher.report(LoadFeedback::new().db_locks(50));
        assert!(begun.elapsed() < LONG);
    }
    assert_eq!(batcher.stats().added, 0, "no item was needed for it");
}

#[test]
fn a_failed_batch_halves_the_size_without_waiting_for_a_check() {
    let batcher = Batcher::builder()
        .policy(LoadThreshold::new())
        .initial_batch_size(64)
        .load_check_interval(Duration::from_secs(3_600))
        .retry(Retry::none())
        // Without a hook the flusher would stop at 10 000 kept rows, and this test would hang.
        .on_failed(drop)
        .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("the backend is down")))
        .unwrap();
    feed_until(&batcher, |stats| stats.batch_size == 1);
    assert!(
        batcher
            .decisions()
            .iter()
            .any(|d| d.reason.to_string() == "a batch failed: halved")
    );
}

/// A user's own policy: one item more at each decision, and a probe of three items until it sees
/// one.
struct OneMore {
    cadence: Cadence,
    seen: mpsc::Sender<(usize, bool, usize)>,
    probe: Option<usize>,
}

impl Policy for OneMore {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        for batch in window.samples.iter().filter_map(|sample| sample.batch) {
            let _ = self.seen.send((batch.len, batch.probe, batch.cut_at));
            self.probe = self.probe.filter(|_| !batch.probe);
        }
        Decision {
            probe: self.probe,
            ..Decision::resize(current.batch_size + 1, "one more")
        }
    }

    fn cadence(&self) -> Cadence {
        self.cadence
    }
}

#[test]
fn a_users_policy_decides_at_every_check_and_its_size_is_clamped() {
    let (seen, _samples) = mpsc::channel();
    let batcher = Batcher::builder()
        .initial_batch_size(5)
        .max_batch_size(9)
        .load_check_interval(SOON)
        .policy(OneMore {
            cadence: Cadence::EveryCheck,
            seen,
            probe: None,
        })
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    let stats = feed_until(&batcher, |stats| stats.batch_size == 9);
    assert_eq!(stats.reason().to_string(), "one more");
    let sizes: Vec<_> = batcher
        .decisions()
        .iter()
        .map(|decision| (decision.from, decision.to))
        .take(4)
        .collect();
    assert_eq!(sizes, [(5, 6), (6, 7), (7, 8), (8, 9)]);
}

#[test]
fn a_policy_may_decide_on_every_batch_and_its_probe_is_one_batch() {
    let (seen, samples) = mpsc::channel();
    let batcher = Batcher::builder()
        .initial_batch_size(10)
        .max_batch_size(1_000)
        .load_check_interval(Duration::from_secs(3_600))
        .policy(OneMore {
            cadence: Cadence::EveryBatch,
            seen,
            probe: Some(3),
        })
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    // Few at a time, so that no sample is overwritten. The policy gets each one, the first ones
    // included.
    let mut shown = Vec::new();
    while batcher.stats().batch_size < 20 || !shown.iter().any(|(_, probe, _)| *probe) {
        batcher.add_many(0..64).unwrap();
        batcher.flush(LONG).unwrap();
        while (shown.len() as u64) < batcher.stats().calls {
            shown.push(samples.recv_timeout(LONG).unwrap());
        }
    }
    drop(batcher);
    shown.extend(samples.iter());
    shown.retain(|(_, probe, _)| *probe);
    assert_eq!(
        shown,
        [(3, true, 3)],
        "asked for again and again until it was seen, used for one batch"
    );
}

#[test]
fn a_pause_is_cut_by_a_flush_and_by_close() {
    struct Pausing;
    impl Policy for Pausing {
        fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
            Decision {
                pause_ratio: 1e12,
                ..Decision::hold(current, "rest for ages")
            }
        }
    }
    let (begun, calls) = mpsc::channel();
    let batcher = Batcher::builder()
        .initial_batch_size(1)
        .load_check_interval(SOON)
        .policy(Pausing)
        .spawn(move |batch: &mut Batch<u64>| {
            begun.send(batch[0])?;
            // The pause is a multiple of this time.
            std::thread::sleep(SOON);
            Ok(LoadFeedback::new())
        })
        .unwrap();
    while batcher.stats().setpoint.pause_ratio == 0.0 {
        std::thread::yield_now();
    }
    batcher.add(1).unwrap();
    assert_eq!(calls.recv_timeout(LONG), Ok(1));
    batcher.add(2).unwrap();
    assert_eq!(
        batcher.flush(LONG),
        Ok(()),
        "the pause behind item 1 is cut"
    );
    assert_eq!(calls.recv_timeout(LONG), Ok(2));
    batcher.add(3).unwrap();
    assert!(batcher.close(LONG).is_clean(), "and the one behind item 2");
}

#[test]
fn limits_change_while_it_runs() {
    let batcher = Batcher::builder()
        .initial_batch_size(50)
        .policy(Fixed(50))
        .queue_capacity(100)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    batcher
        .reconfigure(|limits| limits.max_batch_size = 10)
        .unwrap();
    assert_eq!(batcher.stats().batch_size, 10);
    batcher
        .reconfigure(|limits| {
            limits.max_batch_size(80);
            limits.min_batch_size(60);
        })
        .unwrap();
    assert_eq!(batcher.stats().batch_size, 60);
    let refused = [
        (
            batcher.reconfigure(|limits| limits.min_batch_size = 0),
            "min_batch_size is 0: must be at least 1",
        ),
        (
            batcher.reconfigure(|limits| limits.max_batch_size = 20),
            "min_batch_size is 60 and max_batch_size is 20: the smallest must not exceed the largest",
        ),
        (
            batcher.reconfigure(|limits| limits.max_batch_size = 101),
            "queue_capacity is 100 and max_batch_size is 101: the queue must hold a whole batch",
        ),
        (
            batcher.reconfigure(|limits| {
                limits.policy(LoadThreshold::new().adjustment_factor(7.0));
            }),
            "adjustment_factor is 7: must be greater than 0 and at most 1",
        ),
    ];
    for (result, expected) in refused {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
    assert_eq!(batcher.stats().batch_size, 60, "a refusal changes nothing");
    batcher
        .reconfigure(|limits| {
            limits.policy(Fixed(70));
        })
        .unwrap();
    let begun = Instant::now();
    while batcher.stats().batch_size != 70 {
        assert!(begun.elapsed() < LONG, "the new policy decides at once");
        std::thread::yield_now();
    }
}

#[test]
fn a_shorter_linger_and_a_smaller_size_reach_a_sleeping_flusher() {
    for shrink in [true, false] {
        let (begun, calls) = mpsc::channel();
        let batcher = Batcher::builder()
            .initial_batch_size(10)
            .policy(Fixed(10))
            .linger(Duration::from_secs(3_600))
            .spawn(move |batch: &mut Batch<u64>| {
                begun.send(batch.len())?;
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add_many(0..3).unwrap();
        batcher
            .reconfigure(|limits| {
                if shrink {
                    limits.max_batch_size = 3
                } else {
                    limits.linger = Duration::ZERO
                }
            })
            .unwrap();
        assert_eq!(calls.recv_timeout(LONG), Ok(3));
    }
}

#[test]
fn custom_signals_and_bad_values_are_counted() {
    let batcher = Batcher::builder()
        .custom_signal("replica_lag", 1.0)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    batcher.report(
        LoadFeedback::new()
            .custom("replica_lag", 0.5)
            .custom("typo", 0.5),
    );
    batcher.report(LoadFeedback::new().cpu_load(7.0).error_rate(f64::NAN));
    let stats = batcher.stats();
    assert_eq!((stats.unknown_signals, stats.values_corrected), (1, 2));
}

#[test]
fn close_does_not_wait_for_the_next_check() {
    let batcher = Batcher::builder()
        .load_check_interval(Duration::from_secs(3_600))
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    // Otherwise it would take an hour.
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn the_average_load_has_an_age() {
    let batcher = Batcher::builder()
        .load_check_interval(SOON)
        .policy(LoadThreshold::new())
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    let stats = batcher.stats();
    assert_eq!((stats.average_load, stats.load_age), (None, None));
    let reported = Instant::now();
    let until = |reports: bool, expected: &dyn Fn(&Stats) -> bool| loop {
        if reports {
            batcher.report(LoadFeedback::new().cpu_load(0.9));
        }
        let stats = batcher.stats();
        if expected(&stats) {
            return stats;
        }
        assert!(reported.elapsed() < LONG, "not seen: {stats:#?}");
    };
    until(true, &|stats| stats.average_load.is_some());
    // No more reports follow. The load stays, with an age of at most the time since the first
    // report.
    let old = until(false, &|stats| stats.load_age > Some(SOON * 50));
    assert!(old.average_load.is_some());
    assert!(old.load_age <= Some(reported.elapsed()));
    until(true, &|stats| stats.load_age < old.load_age);
}
