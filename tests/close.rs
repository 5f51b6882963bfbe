//! A close loses nothing, doubles nothing, and returns in time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, FlushError, LoadFeedback, Retry, Trigger,
};
use testkit::{Gate, LONG, NEVER, Reply, directed, ends, fixed, until};

const ROUNDS: u64 = if cfg!(miri) { 2 } else { 1_000 };
const PRODUCERS: u64 = if cfg!(miri) { 3 } else { 8 };

/// Adds items from `first` on in each of the ways that wait, in turn, until an add is refused.
/// Returns the accepted items and the refused one.
fn add_until_refused(
    producer: &load_aware_batcher::Producer<u64>,
    first: u64,
) -> (Vec<u64>, Vec<u64>) {
    let (mut accepted, mut next) = (Vec::new(), first);
    for way in (0..3).cycle() {
        let given: Vec<u64> = (next..next + [1, 1, 5][way]).collect();
        next += given.len() as u64;
        let refused = match way {
            0 => producer
                .add(given[0])
                .map_err(|refused| refused.map(|item| vec![item])),
            1 => producer
                .submit(given[0])
                .map(drop)
                .map_err(|refused| refused.map(|item| vec![item])),
            _ => producer.add_many(given.iter().copied()).map(drop),
        };
        let Err(refused) = refused else {
            accepted.extend(given);
            continue;
        };
        assert!(refused.is_closed(), "{refused}");
        let back = refused.into_inner();
        let (taken, rest) = given.split_at(given.len() - back.len());
        assert_eq!(back, rest, "what comes back is the end of what was given");
        accepted.extend(taken);
        return (accepted, back);
    }
    unreachable!("the ways never end")
}

#[test]
fn close_races_lose_and_double_nothing() {
    for round in 0..ROUNDS {
        let (seen, handled) = mpsc::channel();
        let batcher = Batcher::builder()
            .max_batch_size(2)
            .queue_capacity(2 + (round % 3) as usize)
            .linger(Duration::ZERO)
            .spawn(move |batch: &mut Batch<u64>| {
                seen.send(batch.to_vec())?;
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let start = Barrier::new(PRODUCERS as usize + 1);
        let (report, answers) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..PRODUCERS)
                .map(|thread| {
                    let (producer, start) = (batcher.producer(), &start);
                    scope.spawn(move || {
                        start.wait();
                        add_until_refused(&producer, thread << 32)
                    })
                })
                .collect();
            start.wait();
            (0..round % 8).for_each(|_| std::thread::yield_now());
            // In turn with enough time and with none.
            let report = batcher.shutdown(if round % 4 == 3 { Duration::ZERO } else { LONG });
            let answers: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect();
            (report, answers)
        });
        // After a close without time, a call in flight still ends before its thread does.
        drop(batcher);
        let mut ends: Vec<u64> = handled.iter().flatten().collect();
        for thread in 0..PRODUCERS {
            assert!(
                ends.iter().filter(|item| *item >> 32 == thread).is_sorted(),
                "each producer's order holds"
            );
        }
        ends.extend(&report.unsent);
        let distinct: HashSet<u64> = ends.iter().copied().collect();
        assert_eq!(distinct.len(), ends.len(), "round {round}: doubled");
        let accepted: HashSet<u64> = answers
            .iter()
            .flat_map(|(accepted, _)| accepted.iter().copied())
            .collect();
        let back: HashSet<u64> = answers
            .iter()
            .flat_map(|(_, back)| back.iter().copied())
            .collect();
        assert!(
            back.is_disjoint(&distinct),
            "round {round}: refused and yet handled"
        );
        assert!(
            accepted == distinct,
            "round {round}: lost {:?}",
            accepted.difference(&distinct).collect::<Vec<_>>()
        );
        assert_eq!(
            report.handled + report.abandoned + report.unsent_total,
            accepted.len() as u64
        );
    }
}

#[test]
fn an_add_that_has_returned_is_handled_by_the_close_that_follows() {
    for _ in 0..ROUNDS {
        let batcher = fixed(10)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        let (added, heard) = mpsc::channel();
        let producer = batcher.producer();
        let thread = std::thread::spawn(move || {
            producer.add(1).unwrap();
            added.send(()).unwrap();
            producer
                .add_many([2, 3])
                .unwrap_or_else(|refused| 2 - refused.into_inner().len())
        });
        heard.recv().unwrap();
        let report = batcher.close(LONG);
        assert_eq!(report.handled, 1 + thread.join().unwrap() as u64);
        assert!(report.is_clean(), "{report:?}");
    }
}

#[test]
fn close_refuses_blocked_producers_at_once_although_the_handler_is_stuck() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = Arc::new(fixed(2).queue_capacity(2).spawn(handler).unwrap());
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let producer = batcher.producer();
                std::thread::spawn(move || add_until_refused(&producer, thread << 32))
            })
            .collect();
        let in_flight = director.call().items;
        until(&batcher, |stats| stats.pending >= 2 + 2);
        let closer = Arc::clone(&batcher);
        let closing = std::thread::spawn(move || closer.shutdown(LONG));
        // The handler has not returned. So the refusals do not depend on it.
        let answers: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(batcher.stats().handled, 0);
        director.reply(Reply::Ok);
        drop(director);
        let report = closing.join().unwrap();
        let accepted: u64 = answers
            .iter()
            .map(|(accepted, _)| accepted.len() as u64)
            .sum();
        assert_eq!(
            (report.handled, report.unsent.len(), in_flight.len()),
            (accepted, 0, 2)
        );
        assert!(answers.iter().all(|(_, back)| !back.is_empty()));
    });
}

#[test]
fn after_a_close_every_call_is_refused_and_a_second_closer_gets_the_counts() {
    let batcher = fixed(4)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    assert_eq!(batcher.add_many(0..10).unwrap(), 10);
    assert!(batcher.shutdown(LONG).is_clean());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (batcher, producer) = (&batcher, batcher.producer());
            scope.spawn(move || {
                assert_eq!(producer.add(7), Err(AddError::Closed(7)));
                assert_eq!(producer.try_add(7), Err(AddError::Closed(7)));
                assert_eq!(producer.add_timeout(7, LONG), Err(AddError::Closed(7)));
                assert_eq!(producer.add_many([7, 8]), Err(AddError::Closed(vec![7, 8])));
                assert_eq!(
                    producer.try_add_many(7..200),
                    Err(AddError::Closed((7..200).collect()))
                );
                assert_eq!(producer.add_many_timeout([], LONG), Ok(0));
                assert_eq!(producer.submit(7).err(), Some(AddError::Closed(7)));
                assert_eq!(producer.flush(LONG), Err(FlushError::Closed));
                producer.request_flush();
                assert!(producer.is_closed());
                assert!(batcher.take_failed().is_empty());
                batcher.report(LoadFeedback::new().cpu_load(0.5));
                batcher
                    .reconfigure(|limits| limits.max_batch_size = 4)
                    .unwrap();
                let again = batcher.shutdown(LONG);
                assert_eq!(
                    (again.handled, again.unsent.len(), again.timed_out),
                    (10, 0, false)
                );
                assert_eq!(batcher.stats().pending, 0);
            });
        }
    });
    assert_eq!(batcher.stats().refused.closed, 4 * 6);
}

#[test]
fn a_second_closer_waits_too_and_within_its_own_timeout() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = Arc::new(fixed(1).spawn(handler).unwrap());
        batcher.add(1).unwrap();
        director.call();
        let first = Arc::clone(&batcher);
        let first = std::thread::spawn(move || first.shutdown(LONG));
        until(&batcher, |_| batcher.producer().is_closed());
        let impatient = batcher.shutdown(Duration::ZERO);
        assert!(impatient.timed_out);
        assert_eq!(
            (impatient.handled, impatient.abandoned),
            (0, 0),
            "the first closer still waits"
        );
        let (second, calls) = (Arc::clone(&batcher), Arc::new(AtomicBool::new(false)));
        let called = Arc::clone(&calls);
        let second = std::thread::spawn(move || {
            called.store(true, SeqCst);
            second.shutdown(LONG)
        });
        while !calls.load(SeqCst) {
            std::thread::yield_now();
        }
        // Time for the second one to begin its wait. The test passes without it, too.
        assert!(batcher.shutdown(Duration::from_millis(20)).timed_out);
        director.reply(Reply::Ok);
        assert!(second.join().unwrap().is_clean());
        assert!(first.join().unwrap().is_clean());
    });
}

#[test]
fn close_does_not_return_while_the_handler_or_the_hook_runs() {
    let running = Arc::new(AtomicBool::new(false));
    for through_hook in [false, true] {
        let (entered, heard) = mpsc::channel();
        let gate = Gate::default();
        let (in_handler, in_hook) = (Arc::clone(&running), Arc::clone(&running));
        let stay = {
            let gate = gate.clone();
            move |running: &AtomicBool| {
                running.store(true, SeqCst);
                entered.send(()).unwrap();
                gate.wait();
                running.store(false, SeqCst);
            }
        };
        let stay_in_hook = stay.clone();
        let batcher = fixed(1)
            .on_failed(move |_| stay_in_hook(&in_hook))
            .spawn(move |_: &mut Batch<u64>| {
                if through_hook {
                    return Err(BatchError::permanent("bad"));
                }
                stay(&in_handler);
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add(1).unwrap();
        heard.recv().unwrap();
        let producer = batcher.producer();
        let closer = {
            let running = Arc::clone(&running);
            std::thread::spawn(move || {
                let report = batcher.close(LONG);
                assert!(
                    !running.load(SeqCst),
                    "the user's code is done when close returns"
                );
                report
            })
        };
        while !producer.is_closed() {
            std::thread::yield_now();
        }
        gate.open();
        let report = closer.join().unwrap();
        assert_eq!(
            (report.handled, report.failed_total),
            if through_hook { (0, 1) } else { (1, 0) }
        );
        assert!(report.failed.is_empty(), "the hook was given it");
    }
}

#[test]
fn close_hands_a_lone_item_over_at_once_whatever_the_linger() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).spawn(handler).unwrap();
    batcher.add(1).unwrap();
    let closer = std::thread::spawn(move || batcher.close(LONG));
    let call = director.call();
    director.reply(Reply::Ok);
    assert_eq!((call.items, call.trigger), (vec![1], Trigger::Close));
    assert!(closer.join().unwrap().is_clean());
}

#[test]
fn close_handles_three_and_a_half_batches() {
    let (handler, director) = directed();
    let batcher = fixed(10).queue_capacity(50).spawn(handler).unwrap();
    batcher.add_many(0..10).unwrap();
    let first = director.call();
    batcher.add_many(10..45).unwrap();
    let producer = batcher.producer();
    let closer = std::thread::spawn(move || batcher.close(LONG));
    while !producer.is_closed() {
        std::thread::yield_now();
    }
    director.reply(Reply::Ok);
    let mut sizes = vec![first.items.len()];
    for _ in 0..4 {
        sizes.push(director.answer(Reply::Ok).len());
    }
    assert_eq!(sizes, [10, 10, 10, 10, 5]);
    let report = closer.join().unwrap();
    assert!(report.is_clean() && director.gone(), "{report:?}");
}

#[test]
fn close_ends_although_producers_never_stop() {
    ends(|| {
        let batcher = fixed(5)
            .queue_capacity(10)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        let (stop, accepted) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (producer, stop, accepted) =
                    (batcher.producer(), Arc::clone(&stop), Arc::clone(&accepted));
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        accepted.fetch_add(u64::from(producer.add(1).is_ok()), SeqCst);
                    }
                })
            })
            .collect();
        until(&batcher, |stats| stats.handled > 100);
        let report = batcher.close(NEVER);
        stop.store(true, SeqCst);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(report.is_clean());
        assert_eq!(
            report.handled,
            accepted.load(SeqCst),
            "admission stops first, and what was admitted is handled"
        );
    });
}

/// Scenario 12.
#[test]
fn the_report_of_a_close_has_the_failed_rows_of_the_final_batch() {
    let batcher = fixed(10)
        .retry(Retry::none())
        .spawn(|batch: &mut Batch<u64>| {
            assert!(batch.is_closing() && batch.deadline().is_some());
            Err(BatchError::transient("down"))
        })
        .unwrap();
    batcher.add_many(0..3).unwrap();
    let report = batcher.close(LONG);
    assert!(!report.timed_out && !report.is_clean());
    assert_eq!(
        report
            .failed
            .iter()
            .map(|failed| failed.item)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(
        report
            .failed
            .iter()
            .all(|failed| failed.attempts == 1 && failed.error.to_string() == "down")
    );
    assert_eq!(
        (
            report.handled,
            report.failed_total,
            report.unsent_total,
            report.abandoned
        ),
        (0, 3, 0, 0)
    );
}
