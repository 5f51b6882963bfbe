//! What an operator reads beside the questions: each metric in the state that it is for.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, Cadence, CallEvent, Decision, Listener, LoadFeedback,
    LoadThreshold, Observer, Policy, Retry, Setpoint, Window,
};
use testkit::{Gate, LONG, NEVER, Reply, directed, ends, fixed};

use crate::scrape::{scrape, until, value};

const MS: Duration = Duration::from_millis(1);

fn ok(_: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
    Ok(LoadFeedback::new())
}

/// Until the sample is above 0.
fn moves(observer: &Observer, name: &str, label: Option<(&str, &str)>) {
    until(observer, name, label, |value| value > 0.0);
}

#[test]
fn what_made_the_batches_go_shows() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2).spawn(handler).unwrap();
        let observer = batcher.observer();
        let is_one = |trigger| {
            let label = Some(("trigger", trigger));
            until(&observer, "batcher_batches_total", label, |batches| {
                batches == 1.0
            });
        };
        batcher.add_many([1, 2]).unwrap();
        director.answer(Reply::Ok);
        is_one("size");
        batcher.add(3).unwrap();
        batcher.request_flush();
        director.answer(Reply::Ok);
        is_one("flush");
        std::thread::scope(|scope| {
            let ticket = batcher.submit(4).unwrap();
            let waiting = scope.spawn(move || ticket.wait());
            director.answer(Reply::Ok);
            is_one("wait");
            waiting.join().unwrap();
        });
        batcher.add(5).unwrap();
        drop(director);
        assert!(batcher.shutdown(LONG).is_clean());
        is_one("close");
        let samples = scrape(&observer);
        assert_eq!(value(&samples, "batcher_batch_items_count", None), 4.0);
        assert_eq!(value(&samples, "batcher_batch_items_sum", None), 5.0);

        let batcher = fixed(2).linger(Duration::ZERO).spawn(ok).unwrap();
        batcher.add(1).unwrap();
        let observer = batcher.observer();
        moves(
            &observer,
            "batcher_batches_total",
            Some(("trigger", "linger")),
        );
    });
}

#[test]
fn each_result_of_a_call_shows_and_so_do_the_attempts_after_it() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1)
            .idempotent(true)
            .retry(Retry::default().backoff(Duration::ZERO, Duration::ZERO))
            .on_failed(|_| {})
            .spawn(handler)
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        for (result, error) in [
            ("transient", BatchError::transient("busy")),
            ("in_doubt", BatchError::in_doubt("lost")),
            ("unclassified", BatchError::new("who knows")),
            ("unavailable", BatchError::unavailable("away")),
            ("misconfigured", BatchError::misconfigured("no table")),
        ] {
            director.answer(Reply::Err(error));
            moves(&observer, "batcher_calls_total", Some(("result", result)));
        }
        director.answer(Reply::Panic);
        moves(
            &observer,
            "batcher_calls_total",
            Some(("result", "panicked")),
        );
        moves(&observer, "batcher_retries_total", Some(("kind", "again")));
        director.answer(Reply::Err(BatchError::permanent("no")));
        moves(
            &observer,
            "batcher_calls_total",
            Some(("result", "permanent")),
        );
        batcher.add(2).unwrap();
        director.answer(Reply::Ok);
        moves(&observer, "batcher_calls_total", Some(("result", "ok")));
    });
}

#[test]
fn bad_rows_show_with_what_it_took_to_find_them() {
    ends(|| {
        // One among eight fails its call, one is rejected, one is asked for again.
        let mut asked = false;
        let batcher = fixed(8)
            .retry(Retry::default().backoff(Duration::ZERO, Duration::ZERO))
            .spawn(move |batch: &mut Batch<u64>| {
                if batch.contains(&3) {
                    return Err(BatchError::permanent("three"));
                }
                if let Some(index) = batch.iter().position(|row| *row == 5) {
                    batch.reject(index, BatchError::permanent("five"));
                }
                if let Some(index) = batch.iter().position(|row| *row == 7) {
                    if !std::mem::replace(&mut asked, true) {
                        batch.retry(index, BatchError::transient("seven"));
                    }
                }
                batch.reject(99, BatchError::permanent("none such"));
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let observer = batcher.observer();
        batcher.add_many(1..=8).unwrap();
        let _ = batcher.flush(LONG);
        let samples = scrape(&observer);
        for (outcome, items) in [("handled", 6.0), ("failed", 1.0), ("rejected", 1.0)] {
            let label = Some(("outcome", outcome));
            assert_eq!(value(&samples, "batcher_items_total", label), items);
        }
        for name in [
            "batcher_bisections_total",
            "batcher_items_retried_total",
            "batcher_bad_rejects_total",
        ] {
            assert!(value(&samples, name, None) > 0.0, "{name}");
        }
        assert_eq!(value(&samples, "batcher_failed_kept", None), 2.0);

        let (handler, director) = directed();
        let batcher = fixed(2)
            .retry(
                Retry::default()
                    .split_on_retry(true)
                    .backoff(Duration::ZERO, Duration::ZERO),
            )
            .spawn(handler)
            .unwrap();
        batcher.add_many([1, 2]).unwrap();
        director.answer(Reply::Err(BatchError::transient("busy")));
        let observer = batcher.observer();
        moves(
            &observer,
            "batcher_retries_total",
            Some(("kind", "in_halves")),
        );
        drop(director);
    });
}

#[test]
fn failures_that_a_ticket_returned_and_rows_that_came_too_late_show() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::none())
            .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
            .unwrap();
        let observer = batcher.observer();
        batcher.submit(1).unwrap().wait();
        moves(&observer, "batcher_items_told_total", None);
        assert_eq!(value(&scrape(&observer), "batcher_failed_kept", None), 0.0);

        let (handler, director) = directed();
        let batcher = fixed(1).retry(Retry::none()).spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        director.call();
        assert_eq!(batcher.shutdown(Duration::ZERO).abandoned, 1);
        director.reply(Reply::Err(BatchError::permanent("late")));
        moves(&observer, "batcher_dropped_late_total", None);
        assert_eq!(
            value(&scrape(&observer), "batcher_items_abandoned", None),
            0.0
        );
    });
}

#[test]
fn each_reason_for_a_refusal_shows() {
    ends(|| {
        let by = |reason| Some(("reason", reason));
        let name = "batcher_refused_total";
        let (handler, director) = directed();
        let batcher = fixed(1)
            .queue_capacity(1)
            .max_batch_weight(10, |item: &u64| *item as usize)
            .refuse_too_heavy(true)
            .spawn(handler)
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        director.call();
        while batcher.try_add(1).is_ok() {}
        moves(&observer, name, by("full"));
        assert!(batcher.add_timeout(1, MS).is_err());
        moves(&observer, name, by("timeout"));
        assert!(batcher.add(99).is_err());
        moves(&observer, name, by("too_heavy"));
        let _ = batcher.shutdown(Duration::ZERO);
        assert!(batcher.add(1).is_err());
        moves(&observer, name, by("closed"));

        // The flusher's thread adds, and would wait for itself once the queue is full.
        let (give, given) = mpsc::channel::<load_aware_batcher::Producer<u64>>();
        let batcher = fixed(1)
            .retry(Retry::none())
            .keep_failed(1)
            .queue_capacity(1)
            .stall_timeout(Duration::ZERO)
            .spawn(move |_: &mut Batch<u64>| {
                if let Ok(own) = given.recv() {
                    while own.add(2).is_ok() {}
                }
                Err::<LoadFeedback, _>(BatchError::permanent("no"))
            })
            .unwrap();
        let observer = batcher.observer();
        give.send(batcher.producer()).unwrap();
        drop(give);
        batcher.add(1).unwrap();
        moves(&observer, name, by("reentrant"));
        moves(&observer, "batcher_stalled", None);
        while batcher.add(1).is_ok() {}
        moves(&observer, name, by("stalled"));
    });
}

#[test]
fn what_the_policy_sees_and_does_shows_with_its_limits() {
    ends(|| {
        // Boxed: chosen at run time.
        let policy: Box<dyn Policy> = Box::new(LoadThreshold::new().grow_only_when_full(false));
        let batcher = Batcher::builder()
            .initial_batch_size(100)
            .min_batch_size(10)
            .max_batch_size(200)
            .queue_capacity(300)
            .linger(Duration::from_secs(2))
            .load_check_interval(MS)
            .policy(policy)
            .spawn(ok)
            .unwrap();
        let observer = batcher.observer();
        assert_eq!(observer.stats().thresholds, Some((0.3, 0.7)));
        let samples = scrape(&observer);
        for (name, expected) in [
            ("batcher_batch_size", 100.0),
            ("batcher_batch_size_min", 10.0),
            ("batcher_batch_size_max", 200.0),
            ("batcher_queue_capacity", 300.0),
            ("batcher_linger_seconds", 2.0),
            ("batcher_concurrency", 1.0),
            ("batcher_concurrency_min", 1.0),
            ("batcher_concurrency_max", 1.0),
            ("batcher_info", 1.0),
        ] {
            assert_eq!(value(&samples, name, None), expected, "{name}");
        }
        assert_eq!(
            value(&samples, "batcher_info", Some(("policy", "LoadThreshold"))),
            1.0
        );
        assert!(
            samples.keys().all(|(name, _)| name != "batcher_load_score"),
            "no decision had a score"
        );
        let decided = |direction| Some(("direction", direction));
        moves(&observer, "batcher_decisions_total", decided("hold"));
        let cpu_load = Some(("signal", "cpu_load"));
        for (load, direction, zone) in [(0.9, "shrink", "high"), (0.1, "grow", "low")] {
            let begun = std::time::Instant::now();
            loop {
                // Each check needs a report of its own.
                batcher.report(LoadFeedback::new().cpu_load(load));
                let samples = scrape(&observer);
                let decided = value(&samples, "batcher_decisions_total", decided(direction));
                let seen = decided > 0.0
                    && (value(&samples, "batcher_load_score", None) - load).abs() < 1e-9
                    && (value(&samples, "batcher_signal", cpu_load) - load).abs() < 1e-9
                    && value(&samples, "batcher_policy_zone", Some(("zone", zone))) == 1.0;
                if seen {
                    break;
                }
                assert!(begun.elapsed() < LONG, "{:?}", observer.stats());
            }
        }
    });
}

#[test]
fn measurements_that_are_wrong_or_lost_show() {
    ends(|| {
        let batcher = fixed(1)
            .feedback_capacity(1)
            .load_check_interval(Duration::from_millis(20))
            .spawn(ok)
            .unwrap();
        let observer = batcher.observer();
        batcher.report(LoadFeedback::new().cpu_load(2.0));
        moves(&observer, "batcher_values_corrected_total", None);
        batcher.report(LoadFeedback::new().custom("undeclared", 0.5));
        moves(&observer, "batcher_unknown_signals_total", None);
        while value(&scrape(&observer), "batcher_samples_lost_total", None) == 0.0 {
            (0..100).for_each(|_| {
                batcher.report(LoadFeedback::new().cpu_load(0.5));
            });
        }
    });
}

/// Asks for a probe, for a pause after each call, and panics when it has seen a batch.
struct Troublesome;

impl Policy for Troublesome {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        if window.samples.iter().any(|sample| sample.batch.is_some()) {
            std::panic::resume_unwind(Box::new("the policy"));
        }
        Decision {
            pause_ratio: 1e12,
            probe: Some(current.batch_size + 1),
            ..Decision::hold(current, "a pause and a probe")
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}

/// Panics in its drop.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("an item"));
        }
    }
}

#[test]
fn pauses_probes_and_the_panics_of_all_that_is_the_users_show() {
    ends(|| {
        let panics = |observer: &Observer, place| {
            moves(observer, "batcher_panics_total", Some(("where", place)));
        };
        let batcher = fixed(1)
            .load_check_interval(MS)
            .policy(Troublesome)
            .sensor(MS, |_: LoadFeedback| -> LoadFeedback {
                std::panic::resume_unwind(Box::new("the sensor"))
            })
            .retry(Retry::none())
            .on_failed(|_| std::panic::resume_unwind(Box::new("the hook")))
            .spawn(
                |batch: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
                    std::thread::sleep(MS);
                    match batch[0] {
                        0 => std::panic::resume_unwind(Box::new("the handler")),
                        _ => Ok(LoadFeedback::new()),
                    }
                },
            )
            .unwrap();
        let observer = batcher.observer();
        moves(&observer, "batcher_pause_ratio", None);
        moves(&observer, "batcher_probes_total", None);
        batcher.add(0).unwrap();
        for place in ["handler", "hook", "policy", "sensor"] {
            panics(&observer, place);
        }
        batcher.add(1).unwrap();
        moves(&observer, "batcher_pause_seconds_total", None);

        let batcher = fixed(1)
            .spawn(|_: &mut Batch<Fragile>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.add(Fragile).unwrap();
        panics(&batcher.observer(), "drop");
    });
}

/// Waits in the first call that it hears of.
struct Slow(mpsc::Sender<()>, Gate);

impl Listener for Slow {
    fn call(&mut self, _: &CallEvent) {
        let _ = self.0.send(());
        self.1.wait();
    }
}

#[test]
fn events_that_a_slow_listener_misses_show() {
    ends(|| {
        let ((entered, inside), gate) = (mpsc::channel(), Gate::default());
        let batcher = Batcher::builder()
            .load_check_interval(NEVER)
            .linger(Duration::ZERO)
            .listener(Slow(entered, gate.clone()))
            .spawn(ok)
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        inside.recv_timeout(LONG).unwrap();
        assert_eq!(
            value(&scrape(&observer), "batcher_events_dropped_total", None),
            0.0
        );
        // Each is a decision that changes the size.
        for size in (0..1_100).map(|round| 10 + round % 2) {
            batcher
                .reconfigure(|limits| {
                    limits.min_batch_size(size);
                    limits.max_batch_size(size);
                })
                .unwrap();
        }
        moves(&observer, "batcher_events_dropped_total", None);
        gate.open();
    });
}
