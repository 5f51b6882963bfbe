//! The snapshot shows the states that an operator needs to see.

use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, Decision, Fixed, LoadFeedback, Phase, Policy, Retry, Setpoint,
    Window,
};
use testkit::{LONG, NEVER, Reply, directed, ends, fixed, until};

const MS: Duration = Duration::from_millis(1);

/// Waits until the value is larger than it was, so that time passes without a sleep.
fn grows<V: PartialOrd>(read: impl Fn() -> V) {
    let before = read();
    while read() <= before {
        std::thread::yield_now();
    }
}

#[test]
fn a_call_that_runs_shows_its_age_and_its_items_and_none_does_after_it() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(3).spawn(handler).unwrap();
        let idle = batcher.stats();
        assert_eq!((idle.running_call_age, idle.calls_in_flight), (None, 0));
        assert_eq!(idle.last_success_age, None);
        batcher.add_many([1, 2, 3, 4]).unwrap();
        director.call();
        let stats = batcher.stats();
        assert_eq!((stats.items_in_flight, stats.calls_in_flight), (3, 1));
        assert_eq!((stats.pending, stats.ok_calls), (4, 0));
        grows(|| batcher.stats().running_call_age.unwrap());
        // The fourth item has waited since before the call.
        grows(|| batcher.stats().oldest_item_age.unwrap());
        director.reply(Reply::Ok);
        let stats = until(&batcher, |stats| stats.running_call_age.is_none());
        assert_eq!((stats.items_in_flight, stats.calls_in_flight), (0, 0));
        assert_eq!((stats.ok_calls, stats.batch_items.sum), (1, 3.0));
        assert!(stats.last_success_age.is_some());
    });
}

#[test]
fn a_producer_that_waits_is_counted_with_the_time_it_waits() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).queue_capacity(1).spawn(handler).unwrap();
        batcher.add(1).unwrap();
        director.call();
        while batcher.try_add(2).is_ok() {}
        let none = batcher.stats();
        assert_eq!(
            (none.producers_blocked, none.producer_wait),
            (0, Duration::ZERO),
            "a refusal is no wait"
        );
        let producer = batcher.producer();
        let waiting = std::thread::spawn(move || producer.add(3));
        until(&batcher, |stats| stats.producers_blocked == 1);
        grows(|| batcher.stats().producer_wait);
        drop(director);
        waiting.join().unwrap().unwrap();
        let stats = until(&batcher, |stats| stats.producers_blocked == 0);
        assert!(stats.producer_wait > Duration::ZERO);
        assert_eq!(stats.producer_wait, batcher.stats().producer_wait);
    });
}

#[test]
fn a_chunk_that_waits_for_permits_and_an_item_that_waits_for_room_by_weight_are_producers_that_wait()
 {
    ends(|| {
        let (handler, director) = directed();
        let builder = fixed(1).queue_capacity(1);
        let batcher = builder.spawn(handler).unwrap();
        batcher.add(0).unwrap();
        director.call();
        while batcher.try_add_many([1]).is_ok() {}
        let producer = batcher.producer();
        let waiting = std::thread::spawn(move || producer.add_many([3]));
        until(&batcher, |stats| stats.producers_blocked == 1);
        drop(director);
        waiting.join().unwrap().unwrap();

        let (handler, director) = directed();
        let builder = fixed(1).max_batch_weight(1, |_| 1).max_queue_weight(1);
        let batcher = builder.spawn(handler).unwrap();
        batcher.add(0).unwrap();
        director.call();
        while batcher.try_add(1).is_ok() {}
        let producer = batcher.producer();
        let waiting = std::thread::spawn(move || producer.add(3));
        until(&batcher, |stats| stats.producers_blocked == 1);
        drop(director);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn pauses_backoffs_and_stalls_are_timed_while_they_last() {
    ends(|| {
        let failing = |_: &mut Batch<u64>| Err(BatchError::transient("away"));
        let batcher = fixed(1)
            .retry(Retry::default().backoff(NEVER, NEVER))
            .spawn(failing)
            .unwrap();
        batcher.add(1).unwrap();
        until(&batcher, |stats| stats.backoff_time > Duration::ZERO);
        grows(|| batcher.stats().backoff_time);
        grows(|| batcher.stats().retrying_age);
        assert_eq!(batcher.stats().paused_time, Duration::ZERO);

        let failing = |_: &mut Batch<u64>| Err(BatchError::permanent("no"));
        let batcher = fixed(1)
            .retry(Retry::none())
            .keep_failed(1)
            .spawn(failing)
            .unwrap();
        batcher.add(1).unwrap();
        until(&batcher, |stats| stats.stalled_time > Duration::ZERO);
        grows(|| batcher.stats().stalled_time);
        batcher.add(2).unwrap();
        // No thread wakes for it, so its age is at most that of the stall.
        grows(|| batcher.stats().oldest_item_age.unwrap());
        batcher.take_failed();
        until(&batcher, |stats| stats.calls == 2);
        assert_eq!(batcher.stats().failed_calls.permanent, 2);

        let batcher = fixed(1)
            .policy(Pausing)
            .spawn(|_: &mut Batch<u64>| {
                std::thread::sleep(MS);
                Ok(LoadFeedback::new())
            })
            .unwrap();
        // A decision follows each batch. So a pause follows the third call at the latest.
        let mut next = 0;
        while batcher.stats().paused_time == Duration::ZERO {
            let _ = batcher.try_add(next);
            next += 1;
        }
        grows(|| batcher.stats().paused_time);
    });
}

/// Pauses forever after a call.
struct Pausing;

impl Policy for Pausing {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        Decision {
            pause_ratio: 1e12,
            ..Decision::hold(current, "paused")
        }
    }

    fn cadence(&self) -> load_aware_batcher::Cadence {
        load_aware_batcher::Cadence::EveryBatch
    }
}

/// Grows from 1 to 8 by doubling, then halves, then holds.
struct Steps(Vec<usize>);

impl Policy for Steps {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        match self.0.pop() {
            Some(size) => Decision::resize(size, "a step"),
            None => Decision::hold(current, "no more steps"),
        }
    }
}

#[test]
fn decisions_are_counted_by_direction_and_the_policy_and_the_last_signals_are_named() {
    ends(|| {
        let batcher = Batcher::builder()
            .name("readings")
            .initial_batch_size(10)
            .max_batch_size(100)
            .custom_signal("replica_lag", 0.5)
            .load_check_interval(MS)
            .policy(Steps(vec![5, 30, 20]))
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.report(
            LoadFeedback::new()
                .queue_depth(7)
                .custom("replica_lag", 0.25),
        );
        let stats = until(&batcher, |stats| {
            stats.decisions.hold > 0 && !stats.signals.is_empty()
        });
        assert_eq!((stats.decisions.grow, stats.decisions.shrink), (2, 1));
        let signals: Vec<_> = stats.signals.iter().map(|s| (s.name, s.value)).collect();
        assert_eq!(signals, [("queue_depth", 7.0), ("replica_lag", 0.25)]);
        assert_eq!((stats.name.as_str(), stats.policy), ("readings", "steps"));
        assert_eq!((stats.min_batch_size, stats.max_batch_size), (1, 100));
        assert_eq!((stats.queue_capacity, stats.retry), (1_024, "patience"));
        batcher
            .reconfigure(|limits| limits.policy(Fixed(9)))
            .unwrap();
        until(&batcher, |stats| stats.policy == "Fixed");
    });
}

#[test]
fn a_policy_without_a_name_is_called_by_its_type() {
    assert!(Pausing.name().ends_with("Pausing"), "{}", Pausing.name());
    let boxed: Box<dyn Policy> = Box::new(Steps(Vec::new()));
    assert_eq!(boxed.name(), "steps");
}

#[test]
fn an_unmeasured_wait_is_not_in_the_queue_wait() {
    ends(|| {
        let batcher = fixed(1)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        // Each item wakes an idle flusher.
        for item in 0..3 {
            batcher.submit(item).unwrap().wait();
            until(&batcher, |stats| stats.pending == 0);
        }
        let stats = batcher.stats();
        assert_eq!(stats.service_time.count, 3);
        for waits in [stats.queue_wait.count, stats.queue_wait_histogram.count] {
            assert!(waits < 3, "the first at least woke it: {stats:#?}");
        }
        if stats.queue_wait.count == 0 {
            assert_eq!(stats.queue_wait.p50, Duration::ZERO);
        }
    });
}

#[test]
fn the_phase_and_the_result_of_the_close_are_counted_once() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).spawn(handler).unwrap();
        assert_eq!(batcher.stats().phase, Phase::Open);
        batcher.add(1).unwrap();
        director.call();
        let report = batcher.shutdown(Duration::ZERO);
        assert_eq!(report.abandoned, 1);
        let stats = batcher.stats();
        assert_eq!((stats.phase, stats.closed.abandoned), (Phase::Abandoned, 1));
        director.reply(Reply::Ok);
        let stats = until(&batcher, |stats| stats.handled == 1);
        assert_eq!((stats.abandoned, stats.closed.abandoned), (0, 1));

        let batcher = fixed(1)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.add(1).unwrap();
        assert!(batcher.shutdown(LONG).is_clean() && batcher.shutdown(LONG).is_clean());
        let stats = batcher.stats();
        assert_eq!((stats.phase, stats.closed.clean), (Phase::Done, 1));
    });
}

#[test]
fn merged_snapshots_add_counts_and_take_the_worst_of_ages() {
    ends(|| {
        let (handler, director) = directed();
        let hung = fixed(2).name("hung").spawn(handler).unwrap();
        hung.add_many([1, 2, 3]).unwrap();
        director.call();
        let away = fixed(1)
            .retry(Retry::default().backoff(NEVER, NEVER))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("away")))
            .unwrap();
        away.add(1).unwrap();
        until(&away, |stats| stats.retrying.is_some());
        let (one, other) = (hung.stats(), away.stats());
        for (mut all, with) in [(one.clone(), &other), (other.clone(), &one)] {
            all.merge(with);
            assert_eq!((all.added, all.pending, all.items_in_flight), (4, 4, 2));
            assert_eq!(all.running_call_age, one.running_call_age);
            assert_eq!(all.retrying, other.retrying);
            assert_eq!(all.retrying_age, other.retrying_age);
            assert_eq!(all.batch_items.count, 2);
            assert_eq!(all.service_time_histogram.count, 1);
            assert_eq!(all.service_time.max, other.service_time.max);
            assert_eq!((all.min_batch_size, all.max_batch_size), (1, 2));
            assert_eq!(
                all.queue_capacity,
                one.queue_capacity + other.queue_capacity
            );
            let ended = all.handled + all.failed + all.unsent + all.abandoned;
            assert_eq!(all.added, ended + all.pending);
        }
    });
}
