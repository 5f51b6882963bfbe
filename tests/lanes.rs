//! Several calls at once: the promises about one queue hold for all of them together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, BuildError, Builder, DecisionRecord, Fixed, FlushError,
    Listener, LoadFeedback, Outcome, Retry,
};

const LONG: Duration = Duration::from_secs(60);

type Row = (u32, u32);

fn builder(concurrency: usize) -> Builder<Row> {
    Batcher::builder()
        .concurrency(concurrency)
        .policy(Fixed(16))
}

/// Starts a batcher with this handler, which gets its worker.
fn start(
    builder: Builder<Row>,
    handler: impl Fn(&mut Batch<Row>) -> Result<LoadFeedback, BatchError> + Send + Sync + 'static,
) -> Batcher<Row> {
    let handler = Arc::new(handler);
    builder
        .spawn_workers(move |_| {
            let handler = Arc::clone(&handler);
            Ok::<_, BatchError>(move |batch: &mut Batch<Row>| handler(batch))
        })
        .unwrap()
}

fn refused(result: Result<Batcher<Row>, BuildError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn several_calls_at_once_need_an_order_and_a_factory_of_handlers() {
    let worker = |_| Ok::<_, BatchError>(|_: &mut Batch<Row>| Ok(LoadFeedback::new()));
    let silent = refused(builder(4).spawn_workers(worker));
    for word in [
        "concurrency is 4",
        "order_by",
        "order_by_producer",
        "unordered",
    ] {
        assert!(silent.contains(word), "{silent}");
    }
    let one = refused(
        builder(4)
            .unordered()
            .spawn(|_: &mut Batch<Row>| Ok(LoadFeedback::new())),
    );
    assert!(one.contains("spawn_workers"), "{one}");
    let zero = refused(builder(0).unordered().spawn_workers(worker));
    assert_eq!(zero, "concurrency is 0: must be at least 1");
    let backwards = std::ops::RangeInclusive::new(4, 2);
    let backwards = Batcher::builder()
        .concurrency(backwards)
        .unordered()
        .spawn_workers(worker);
    assert!(refused(backwards).starts_with("concurrency is 4..=2"));
    assert!(
        builder(1).spawn_workers(worker).is_ok(),
        "one call needs no word"
    );
}

#[test]
fn exactly_as_many_calls_as_allowed_run_at_once() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let together = Arc::new(Barrier::new(3));
    let (now, top, met) = (
        Arc::clone(&running),
        Arc::clone(&most),
        Arc::clone(&together),
    );
    let calls = AtomicUsize::new(0);
    let batcher = start(builder(3).unordered(), move |_| {
        top.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if calls.fetch_add(1, Ordering::SeqCst) < 3 {
            met.wait();
        }
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(LoadFeedback::new())
    });
    for row in 0..480 {
        batcher.add((row, 0)).unwrap();
    }
    batcher.flush(LONG).unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let stats = batcher.stats();
    assert_eq!(
        (stats.concurrency, stats.lanes.len(), stats.handled),
        (3, 3, 480)
    );
    assert_eq!(
        stats.lanes.iter().map(|lane| lane.handled).sum::<u64>(),
        480
    );
}

#[test]
fn with_one_permit_among_many_lanes_one_call_runs_at_a_time() {
    let running = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&running);
    let batcher = Batcher::builder()
        .concurrency(1..=4)
        .policy(Held)
        .unordered()
        .spawn_workers(move |_| {
            let now = Arc::clone(&now);
            Ok::<_, BatchError>(move |_: &mut Batch<Row>| {
                assert_eq!(now.fetch_add(1, Ordering::SeqCst), 0, "alone");
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(LoadFeedback::new())
            })
        })
        .unwrap();
    thread::scope(|scope| {
        for producer in 0..4 {
            let batcher = &batcher;
            scope.spawn(move || (0..2_000).for_each(|row| batcher.add((producer, row)).unwrap()));
        }
    });
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.handled, 8_000);
}

/// A policy that changes nothing.
struct Held;

impl load_aware_batcher::Policy for Held {
    fn decide(
        &mut self,
        _: &load_aware_batcher::Window<'_>,
        current: &load_aware_batcher::Setpoint,
    ) -> load_aware_batcher::Decision {
        load_aware_batcher::Decision::hold(current, "held")
    }
}

/// The rows that each worker got, in order, by key.
type Seen = Arc<Mutex<BTreeMap<u32, Vec<u32>>>>;

/// Adds rows for each of 24 keys from one thread while calls fail at random, and asserts that the
/// rows of every key arrive in order.
fn keys_stay_in_order(builder: Builder<Row>, by_producer: bool) {
    let seen = Seen::default();
    let into = Arc::clone(&seen);
    let calls = AtomicUsize::new(0);
    let retry = Retry::attempts(1_000).backoff(Duration::from_micros(50), Duration::from_millis(1));
    let batcher = start(
        builder.retry(retry.keep_order(true)).idempotent(true),
        move |batch| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            if call % 3 == 1 {
                return Err(BatchError::unavailable("busy"));
            }
            let mut seen = into.lock().unwrap();
            for (key, row) in batch.iter() {
                seen.entry(*key).or_default().push(*row);
            }
            if call % 5 == 2 {
                batch.retry(0, BatchError::transient("this one again"));
                let (key, _) = batch[0];
                let rows = seen.get_mut(&key).unwrap();
                let place = rows.iter().rposition(|row| *row == batch[0].1).unwrap();
                rows.truncate(place + 1);
                rows.remove(place);
            }
            Ok(LoadFeedback::new())
        },
    );
    thread::scope(|scope| {
        for thread in 0..4 {
            let producer = batcher.producer();
            scope.spawn(move || {
                for row in 0..400 {
                    for key in 0..6 {
                        let key = if by_producer {
                            thread
                        } else {
                            thread * 6 + key
                        };
                        producer.add((key, row * 6 + key % 6)).unwrap();
                        if by_producer {
                            break;
                        }
                    }
                }
            });
        }
    });
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    for (key, rows) in seen.lock().unwrap().iter() {
        let mut kept = rows.clone();
        kept.dedup();
        assert!(kept.is_sorted(), "key {key}: {kept:?}");
    }
}

#[test]
fn items_of_one_key_stay_in_order_through_failures() {
    keys_stay_in_order(builder(4).order_by(|row: &Row| row.0), false);
}

#[test]
fn items_of_one_handle_stay_in_order_through_failures() {
    keys_stay_in_order(builder(4).order_by_producer(), true);
}

#[test]
fn items_of_one_key_are_never_in_two_calls_at_once() {
    let busy: Arc<[AtomicBool; 8]> = Arc::default();
    let flags = Arc::clone(&busy);
    let batcher = start(builder(4).order_by(|row: &Row| row.0), move |batch| {
        let mut keys: Vec<_> = batch.iter().map(|row| row.0 as usize).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            assert!(!flags[*key].swap(true, Ordering::SeqCst), "key {key} twice");
        }
        thread::yield_now();
        keys.iter()
            .for_each(|key| flags[*key].store(false, Ordering::SeqCst));
        Ok(LoadFeedback::new())
    });
    thread::scope(|scope| {
        for _ in 0..3 {
            let batcher = &batcher;
            scope.spawn(move || {
                let rows = (0..4_000).map(|row| (row % 8, row));
                assert_eq!(batcher.add_many(rows).unwrap(), 4_000);
            });
        }
    });
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn an_unordered_add_waits_for_no_lane_that_hangs() {
    let (release, stuck) = mpsc::channel::<()>();
    let (stuck, first) = (Mutex::new(stuck), AtomicBool::new(true));
    let batcher = start(
        builder(2).unordered().queue_capacity(64).max_batch_size(16),
        move |_| {
            if first.swap(false, Ordering::SeqCst) {
                stuck.lock().unwrap().recv().ok();
            }
            Ok(LoadFeedback::new())
        },
    );
    // Many times the capacity of both queues. One connection alone takes them.
    for row in 0..5_000 {
        batcher.add((row, 0)).unwrap();
    }
    let stats = batcher.stats();
    assert!(stats.handled > 4_000, "{stats:?}");
    drop(release);
    assert_eq!(batcher.close(LONG).handled, 5_000);
}

#[test]
fn a_trickle_without_order_fills_one_batch_and_not_one_in_each_lane() {
    let batcher = start(
        builder(4).unordered().linger(Duration::from_secs(3_600)),
        |_| Ok(LoadFeedback::new()),
    );
    thread::scope(|scope| {
        for producer in 0..4 {
            let batcher = &batcher;
            scope.spawn(move || (0..3).for_each(|row| batcher.add((producer, row)).unwrap()));
        }
    });
    batcher.flush(LONG).unwrap();
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.calls), (12, 1), "{stats:?}");
}

#[test]
fn a_burst_without_order_is_spread_over_the_lanes() {
    let (release, stuck) = mpsc::channel::<()>();
    let stuck = Mutex::new(stuck);
    let batcher = start(builder(4).unordered(), move |_| {
        stuck.lock().unwrap().recv().ok();
        Ok(LoadFeedback::new())
    });
    for row in 0..640 {
        batcher.add((row, 0)).unwrap();
    }
    let lanes = batcher.stats().lanes;
    assert!(lanes.iter().all(|lane| lane.added >= 16), "{lanes:?}");
    drop(release);
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn a_flush_covers_every_lane_and_reports_the_failures_of_all() {
    let batcher = start(builder(4).order_by(|row: &Row| row.0), |batch| {
        for (index, _) in batch.iter().enumerate().filter(|(_, row)| row.1 == 13) {
            batch.reject(index, BatchError::permanent("unlucky"));
        }
        Ok(LoadFeedback::new())
    });
    for key in 0..40 {
        batcher.add((key, 1)).unwrap();
    }
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().handled, 40);
    for key in 0..40 {
        batcher.add((key, 13)).unwrap();
    }
    let failed = batcher.flush(LONG);
    assert!(
        matches!(failed, Err(FlushError::Failed { items: 40, .. })),
        "{failed:?}"
    );
    assert_eq!(batcher.flush(LONG), Ok(()), "told once");
    assert_eq!(batcher.take_failed().len(), 40);
}

#[test]
fn a_flush_out_of_time_has_reported_no_failure() {
    let (release, stuck) = mpsc::channel::<()>();
    let stuck = Mutex::new(stuck);
    let batcher = start(builder(2).order_by(|row: &Row| row.0), move |batch| {
        if batch.iter().any(|row| row.1 == 99) {
            stuck.lock().unwrap().recv().ok();
        }
        Err(BatchError::permanent("no"))
    });
    // One key for each lane.
    let key = |lane: usize| {
        let place = |key: &u32| {
            let before: Vec<_> = batcher
                .stats()
                .lanes
                .iter()
                .map(|lane| lane.added)
                .collect();
            batcher.add((*key, 0)).unwrap();
            let after = batcher.stats();
            after.lanes[lane].added > before[lane]
        };
        (0..).find(place).unwrap()
    };
    let (one, other) = (key(0), key(1));
    let _ = batcher.flush(LONG);
    batcher.add((one, 0)).unwrap();
    batcher.add((other, 99)).unwrap();
    assert_eq!(batcher.flush(Duration::ZERO), Err(FlushError::Timeout));
    drop(release);
    let failed = batcher.flush(LONG);
    assert!(
        matches!(failed, Err(FlushError::Failed { items: 2, .. })),
        "{failed:?}"
    );
}

#[test]
fn tickets_of_every_lane_have_their_outcome() {
    let batcher = start(
        builder(4).order_by(|row: &Row| row.0).linger(LONG * 60),
        |batch| {
            if batch.iter().any(|row| row.1 == 13) {
                return Err(BatchError::permanent("unlucky"));
            }
            Ok(LoadFeedback::new())
        },
    );
    let tickets: Vec<_> = (0..64)
        .map(|key| {
            (
                key,
                batcher
                    .submit((key, if key % 7 == 3 { 13 } else { 0 }))
                    .unwrap(),
            )
        })
        .collect();
    for (key, ticket) in tickets {
        let outcome = ticket.wait();
        if key % 7 == 3 {
            assert!(matches!(outcome, Outcome::Failed(_)), "{key}: {outcome:?}");
        } else {
            assert_eq!(outcome, Outcome::Handled, "{key}");
        }
    }
    assert!(batcher.take_failed().is_empty(), "their tickets have told");
}

#[test]
fn kept_failed_rows_have_one_bound_for_all_lanes() {
    let batcher = start(
        builder(4)
            .order_by(|row: &Row| row.0)
            .keep_failed(8)
            .stall_timeout(Duration::ZERO)
            .queue_capacity(64)
            .max_batch_size(16),
        |_| Err(BatchError::permanent("no")),
    );
    let refused = (0..).find_map(|key| batcher.add((key, 0)).err());
    assert!(matches!(refused, Some(AddError::Stalled(_))), "{refused:?}");
    let kept = batcher.stats().kept_failed;
    // Each lane checks the bound before it gathers a batch. So each may exceed it by one batch.
    assert!((8..8 + 4 * 16).contains(&kept), "{kept}");
    let mut taken = 0;
    loop {
        taken += batcher.take_failed().len();
        if batcher.try_add((0, 1)).is_ok() {
            break;
        }
        thread::yield_now();
    }
    assert!(taken >= 8);
    let report = batcher.close(LONG);
    let stats_failed = report.failed_total;
    assert_eq!(taken as u64 + report.failed.len() as u64, stats_failed);
}

#[test]
fn a_handler_that_adds_to_a_full_lane_of_another_gets_reentrant() {
    let handle: Arc<Mutex<Option<load_aware_batcher::Producer<Row>>>> = Arc::default();
    let (result, results) = mpsc::channel();
    let (own, result) = (Arc::clone(&handle), Mutex::new(result));
    let (release, stuck) = mpsc::channel::<()>();
    let stuck = Mutex::new(stuck);
    let batcher = start(
        builder(2)
            .order_by(|row: &Row| row.0)
            .queue_capacity(32)
            .max_batch_size(16),
        move |batch| {
            if batch.iter().any(|row| row.1 == 1) {
                let refused = own.lock().unwrap().as_ref().unwrap().flush(LONG);
                result.lock().unwrap().send(refused).unwrap();
            } else if batch.iter().any(|row| row.1 == 2) {
                stuck.lock().unwrap().recv().ok();
            }
            Ok(LoadFeedback::new())
        },
    );
    *handle.lock().unwrap() = Some(batcher.producer());
    batcher.submit((0, 1)).unwrap().wait();
    assert_eq!(results.recv_timeout(LONG), Ok(Err(FlushError::Reentrant)));
    drop(release);
    handle.lock().unwrap().take();
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn a_handler_that_is_not_made_is_a_build_error_whichever_it_is() {
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::clone(&dropped);
    let refused = builder(4).unordered().spawn_workers(move |worker| {
        if worker.index() == 2 {
            return Err(BatchError::permanent("no connection left"));
        }
        let counted = Counted(Arc::clone(&count));
        Ok(move |_: &mut Batch<Row>| {
            let _ = &counted;
            Ok(LoadFeedback::new())
        })
    });
    let refused = refused.expect_err("a connection is missing").to_string();
    assert!(refused.contains("no connection left"), "{refused}");
    assert_eq!(dropped.load(Ordering::SeqCst), 3, "the others are closed");
}

#[test]
fn after_a_refusal_as_closed_no_add_of_that_thread_is_accepted() {
    for _ in 0..300 {
        let batcher = start(builder(4).order_by(|row: &Row| row.0), |_| {
            Ok(LoadFeedback::new())
        });
        let accepted = AtomicUsize::new(0);
        let begin = Barrier::new(3);
        let report = thread::scope(|scope| {
            for thread in 0..2 {
                let (producer, accepted, begin) = (batcher.producer(), &accepted, &begin);
                scope.spawn(move || {
                    begin.wait();
                    let mut closed = false;
                    for key in (0..).map(|row| row * 2 + thread) {
                        match producer.add((key, 0)) {
                            Ok(()) => {
                                assert!(!closed, "Ok after Closed");
                                accepted.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(refused) if closed => {
                                assert!(refused.is_closed());
                                if key > 40_000 || key % 16 < 2 {
                                    break;
                                }
                            }
                            Err(refused) => {
                                assert!(refused.is_closed());
                                closed = true;
                            }
                        }
                    }
                });
            }
            begin.wait();
            batcher.shutdown(LONG)
        });
        assert!(!report.timed_out, "{report:?}");
        assert_eq!(report.handled, accepted.load(Ordering::SeqCst) as u64);
    }
}

#[test]
fn a_close_out_of_time_accounts_for_every_lane() {
    let (release, stuck) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let stuck = Mutex::new(stuck);
    let batcher = Batcher::builder()
        .concurrency(1..=4)
        .policy(Held)
        .initial_batch_size(16)
        .order_by(|row: &Row| row.0)
        .spawn_workers({
            let stuck = Arc::new(stuck);
            move |_| {
                let (stuck, begins) = (Arc::clone(&stuck), begins.clone());
                Ok::<_, BatchError>(move |_: &mut Batch<Row>| {
                    let _ = begins.send(());
                    stuck.lock().unwrap().recv().ok();
                    Ok(LoadFeedback::new())
                })
            }
        })
        .unwrap();
    for key in 0..1_000 {
        batcher.add((key, 0)).unwrap();
    }
    begun.recv_timeout(LONG).expect("a call begins");
    // The other lanes wait for the permit of the lane that hangs.
    let report = batcher.shutdown(Duration::from_millis(50));
    assert!(report.timed_out);
    assert_eq!(report.abandoned, 16);
    assert_eq!(report.unsent.len() as u64 + report.abandoned, 1_000);
    drop(release);
    let last = batcher.shutdown(LONG);
    assert!(!last.timed_out, "every flusher has ended: {last:?}");
    assert_eq!((last.handled, last.unsent_total), (16, 984));
}

#[test]
fn handlers_that_no_producer_handle_uses_are_named_in_a_reason() {
    let batcher = start(
        builder(4)
            .order_by_producer()
            .load_check_interval(Duration::from_millis(5)),
        |_| Ok(LoadFeedback::new()),
    );
    let producer = batcher.producer();
    let says = |sentence: &str| {
        while !batcher
            .decisions()
            .iter()
            .any(|one| one.reason.to_string() == sentence)
        {
            producer.add((0, 0)).unwrap();
            thread::yield_now();
        }
    };
    says("1 producer handle uses 1 of 4 lanes");
    let others = [producer.clone(), producer.clone()];
    says("3 producer handles use 3 of 4 lanes");
    for other in &others {
        other.add((0, 0)).unwrap();
    }
    batcher.flush(LONG).unwrap();
    let used = batcher
        .stats()
        .lanes
        .iter()
        .filter(|lane| lane.added > 0)
        .count();
    assert_eq!(used, 3);
}

#[test]
fn a_hot_key_is_named_in_a_reason() {
    let batcher = start(
        builder(4)
            .order_by(|row: &Row| row.0)
            .load_check_interval(Duration::from_millis(5)),
        |_| Ok(LoadFeedback::new()),
    );
    while !batcher
        .decisions()
        .iter()
        .any(|one| matches!(one.reason, load_aware_batcher::Reason::HotKey { .. }))
    {
        batcher.add_many((0..64).map(|row| (7, row))).unwrap();
    }
    assert!(batcher.close(LONG).is_clean());
}

/// Sends the number of calls at once that each decision allows.
struct Concurrencies(mpsc::Sender<usize>);

impl Listener for Concurrencies {
    fn decision(&mut self, decision: &DecisionRecord) {
        let _ = self.0.send(decision.concurrency);
    }
}

#[test]
fn the_model_finds_that_a_backend_of_latency_alone_is_worth_more_calls() {
    let (decisions, decided) = mpsc::channel();
    let batcher = Batcher::builder()
        .concurrency(1..=8)
        .max_batch_size(100)
        .unordered()
        .listener(Concurrencies(decisions))
        .spawn_workers(|_| {
            Ok::<_, BatchError>(|_: &mut Batch<Row>| {
                thread::sleep(Duration::from_millis(2));
                Ok(LoadFeedback::new())
            })
        })
        .unwrap();
    let (enough, mut found) = (AtomicBool::new(false), false);
    thread::scope(|scope| {
        for producer in 0..2 {
            let (batcher, enough) = (&batcher, &enough);
            scope.spawn(move || {
                for row in 0.. {
                    if enough.load(Ordering::Relaxed) || batcher.add((producer, row)).is_err() {
                        break;
                    }
                }
            });
        }
        let mut calls = 0;
        while calls < 4 {
            calls = decided.recv_timeout(LONG).unwrap_or(usize::MAX);
        }
        found = calls != usize::MAX;
        // The producers continue until then.
        enough.store(true, Ordering::Relaxed);
    });
    assert!(found, "no decision allows four calls");
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn concurrency_is_changed_while_running_within_the_handlers_that_there_are() {
    let batcher = Batcher::builder()
        .concurrency(1..=4)
        .policy(Held)
        .unordered()
        .spawn_workers(|_| Ok::<_, BatchError>(|_: &mut Batch<Row>| Ok(LoadFeedback::new())))
        .unwrap();
    assert_eq!(batcher.stats().concurrency, 1);
    batcher.reconfigure(|limits| limits.concurrency(3)).unwrap();
    assert_eq!(batcher.stats().concurrency, 3);
    batcher
        .reconfigure(|limits| limits.concurrency = (2..=4).into())
        .unwrap();
    assert_eq!(batcher.stats().concurrency, 3);
    let refused = batcher
        .reconfigure(|limits| limits.concurrency(5))
        .unwrap_err();
    assert!(
        refused.to_string().starts_with("concurrency is 5: "),
        "{refused}"
    );
    assert_eq!(batcher.stats().concurrency, 3, "nothing has changed");
}

#[test]
fn an_owner_that_a_handler_drops_has_its_report_delivered_once() {
    let (sender, reports) = mpsc::channel();
    let owner: Arc<Mutex<Option<Batcher<Row>>>> = Arc::default();
    let own = Arc::clone(&owner);
    let batcher = start(
        builder(3)
            .order_by(|row: &Row| row.0)
            .on_close(move |report| sender.send(report.handled).unwrap()),
        move |_| {
            // The last owner is dropped on one of the batcher's own threads.
            drop(own.lock().unwrap().take());
            Ok(LoadFeedback::new())
        },
    );
    let producer = batcher.producer();
    for key in 0..30 {
        batcher.add((key, 0)).unwrap();
    }
    *owner.lock().unwrap() = Some(batcher);
    producer.request_flush();
    assert_eq!(reports.recv_timeout(LONG), Ok(30));
    assert!(
        reports.recv_timeout(LONG).is_err(),
        "once, and the hook is gone"
    );
}

/// Its connection takes a moment to be closed.
struct Closes;

impl Drop for Closes {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_drop_waits_for_the_lane_that_still_has_answers_though_another_had_none() {
    let (sender, reports) = mpsc::channel();
    let batcher = Batcher::builder()
        .concurrency(2)
        .policy(Fixed(1))
        .max_batch_size(1)
        .order_by(|row: &Row| row.0)
        .drop_patience(Duration::from_millis(300))
        .on_close(move |report| sender.send(report).unwrap())
        .spawn_workers(|_| {
            let closes = Closes;
            Ok::<_, BatchError>(move |_: &mut Batch<Row>| {
                let _ = &closes;
                thread::sleep(Duration::from_millis(25));
                Ok(LoadFeedback::new())
            })
        })
        .unwrap();
    // A key of the first lane: the last one has nothing to do.
    let is_of_the_first = |key: &u32| {
        batcher.add((*key, 0)).unwrap();
        batcher.stats().lanes[0].added > 0
    };
    let key = (0..).find(is_of_the_first).unwrap();
    batcher.flush(LONG).unwrap();
    let handled = batcher.stats().handled;
    for row in 0..24 {
        batcher.add((key, row)).unwrap();
    }
    drop(batcher);
    let report = reports.try_recv().expect("the drop has ended");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.handled, handled + 24);
}
