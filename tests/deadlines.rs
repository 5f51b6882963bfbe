//! A close that runs out of time: what it returns, what is counted, and what an abandoned handler
//! may still decide.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, Batcher, CloseReport, LoadFeedback, Outcome, Retry};
use testkit::{
    Call, Director, Gate, LONG, NEVER, Reply, directed, ends, first_call_settled, fixed, until,
};

const SOON: Duration = Duration::from_millis(20);

/// A batcher with two items in flight and three that wait, and a ticket for the first of each.
fn stuck(
    hook: Option<mpsc::Sender<u64>>,
) -> (
    Batcher<u64>,
    Director<u64>,
    Call<u64>,
    [load_aware_batcher::Ticket; 2],
) {
    let (handler, director) = directed();
    let mut builder = fixed(2);
    if let Some(hook) = hook {
        builder = builder.on_failed(move |failed| hook.send(failed.item).unwrap());
    }
    let batcher = builder.spawn(handler).unwrap();
    let in_flight = batcher.submit(0).unwrap();
    batcher.add(1).unwrap();
    let call = director.call();
    let waiting = batcher.submit(2).unwrap();
    assert_eq!(batcher.add_many([3, 4]), Ok(2));
    (batcher, director, call, [in_flight, waiting])
}

fn check_abandoned(report: &CloseReport<u64>) {
    assert!(report.timed_out);
    assert_eq!(report.unsent, [2, 3, 4]);
    assert_eq!(
        (
            report.handled,
            report.failed_total,
            report.unsent_total,
            report.abandoned
        ),
        (0, 0, 3, 2)
    );
}

#[test]
fn a_handler_that_hangs_is_abandoned_and_its_items_are_counted() {
    ends(|| {
        let (batcher, director, _, [in_flight, waiting]) = stuck(None);
        // It returns although the handler is still blocked.
        let report = batcher.shutdown(SOON);
        check_abandoned(&report);
        assert_eq!(in_flight.wait(), Outcome::InDoubt);
        assert_eq!(waiting.wait(), Outcome::Unsent);
        let stats = batcher.stats();
        assert_eq!(
            (stats.added, stats.abandoned, stats.unsent, stats.pending),
            (5, 2, 3, 0)
        );
        // Neither a second close nor the drop waits for it.
        let again = batcher.shutdown(SOON);
        assert_eq!(
            (again.unsent.len(), again.unsent_total, again.abandoned),
            (0, 3, 2)
        );
        drop(batcher);
        drop(director);
    });
}

#[test]
fn an_abandoned_handler_that_returns_decides_its_items_and_gets_no_more() {
    let failing = || Reply::Err(BatchError::transient("late"));
    let cases: [(&str, Reply, bool, [u64; 3]); 6] = [
        ("handled", Reply::Ok, false, [2, 0, 0]),
        (
            "one rejected, a hook",
            Reply::Reject(vec![1]),
            true,
            [1, 1, 0],
        ),
        (
            "one rejected, no hook",
            Reply::Reject(vec![0]),
            false,
            [1, 1, 1],
        ),
        ("failed, a hook", failing(), true, [0, 2, 0]),
        ("failed, no hook", failing(), false, [0, 2, 2]),
        ("panicked, no hook", Reply::Panic, false, [0, 2, 2]),
    ];
    for (name, reply, with_hook, counts) in cases {
        let (hook, hooked) = mpsc::channel();
        let (batcher, director, _, [in_flight, _]) = stuck(with_hook.then_some(hook));
        let report = batcher.shutdown(SOON);
        check_abandoned(&report);
        director.reply(reply);
        assert!(director.gone(), "{name}: no further batch is given to it");
        let stats = batcher.stats();
        assert_eq!(
            [stats.handled, stats.failed, stats.dropped_late],
            counts,
            "{name}"
        );
        assert_eq!(
            (stats.abandoned, stats.unsent, stats.pending),
            (0, 3, 0),
            "{name}"
        );
        assert_eq!(stats.kept_failed, 0, "{name}: nobody could take it");
        // The report and the tickets do not change any more.
        assert_eq!(report.abandoned, 2);
        assert_eq!(in_flight.wait(), Outcome::InDoubt, "{name}");
        let again = batcher.shutdown(LONG);
        assert_eq!((again.handled, again.failed.len()), (counts[0], 0));
        drop(batcher);
        let hooked: Vec<u64> = hooked.iter().collect();
        assert_eq!(
            hooked.len() as u64,
            if with_hook { counts[1] } else { 0 },
            "{name}"
        );
    }
}

/// Scenario 10.
#[test]
fn close_interrupts_a_backoff_and_goes_on_trying() {
    let (handler, director) = directed();
    let batcher = fixed(2)
        .retry(Retry::default().backoff(NEVER, NEVER))
        .spawn(handler)
        .unwrap();
    batcher.add_many([1, 2, 3, 4]).unwrap();
    let first = director.call();
    director.reply(Reply::Err(BatchError::transient("first")));
    first_call_settled(&batcher);
    let closer = std::thread::spawn(move || batcher.close(Duration::from_secs(4)));
    let again = director.call();
    assert_eq!(
        (again.id, again.attempt, &again.items),
        (first.id, 2, &first.items)
    );
    director.reply(Reply::Err(BatchError::transient("second")));
    // The wait is at most half of the remaining time, however long the backoff is.
    assert_eq!(director.answer(Reply::Ok), [1], "the search goes on");
    assert_eq!(director.answer(Reply::Ok), [2]);
    assert_eq!(director.answer(Reply::Ok), [3, 4]);
    assert!(closer.join().unwrap().is_clean());
}

#[test]
fn a_close_that_allows_one_attempt_makes_one_at_each_batch() {
    let (handler, director) = directed();
    let retry = Retry::default().backoff(NEVER, NEVER).while_closing(false);
    let batcher = fixed(2).retry(retry).spawn(handler).unwrap();
    batcher.add_many([1, 2, 3, 4]).unwrap();
    let first = director.call();
    director.reply(Reply::Err(BatchError::transient("first")));
    first_call_settled(&batcher);
    let closer = std::thread::spawn(move || batcher.close(LONG));
    let last = director.call();
    assert_eq!(
        (last.id, last.attempt, &last.items),
        (first.id, 2, &first.items)
    );
    director.reply(Reply::Err(BatchError::transient("last")));
    // Each later batch also gets one attempt.
    assert_eq!(
        director.answer(Reply::Err(BatchError::transient("only"))),
        [3, 4]
    );
    let report = closer.join().unwrap();
    assert!(director.gone());
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.item, f.error.to_string(), f.attempts))
        .collect();
    let expected = [
        (1, "last", 2),
        (2, "last", 2),
        (3, "only", 1),
        (4, "only", 1),
    ];
    assert!(
        failed
            .iter()
            .map(|(item, error, attempts)| (*item, &**error, *attempts))
            .eq(expected),
        "{failed:?}"
    );
    assert!(!report.timed_out);
}

#[test]
fn a_close_out_of_time_returns_parts_in_backoff_as_failed_and_abandons_only_items_in_flight() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(4).spawn(handler).unwrap();
        let tickets: Vec<_> = (0..4).map(|item| batcher.submit(item).unwrap()).collect();
        director.answer(Reply::Err(BatchError::permanent("whole")));
        // The first half is in flight. The second one waits for its turn.
        assert_eq!(director.call().items, [0, 1]);
        let report = batcher.shutdown(SOON);
        assert_eq!(
            (report.abandoned, report.unsent.len(), report.failed_total),
            (2, 0, 2)
        );
        let failed: Vec<_> = report
            .failed
            .iter()
            .map(|f| (f.item, f.attempts, f.in_doubt))
            .collect();
        assert_eq!(failed, [(2, 1, false), (3, 1, false)]);
        let outcomes: Vec<_> = tickets
            .into_iter()
            .map(load_aware_batcher::Ticket::wait)
            .collect();
        let whole = || Outcome::Failed(BatchError::permanent("whole"));
        assert_eq!(
            outcomes,
            [Outcome::InDoubt, Outcome::InDoubt, whole(), whole()]
        );
        director.reply(Reply::Err(BatchError::permanent("half")));
        assert!(director.gone(), "an abandoned half is not halved");
        let stats = batcher.stats();
        assert_eq!(
            (
                stats.added,
                stats.failed,
                stats.dropped_late,
                stats.abandoned
            ),
            (4, 4, 2, 0)
        );
    });
}

#[test]
fn a_close_out_of_time_in_the_hook_returns_the_rows_that_still_waited_for_it() {
    ends(|| {
        let (entered, heard) = mpsc::channel();
        let gate = Gate::default();
        let held = gate.clone();
        let batcher = fixed(3)
            .on_failed(move |failed| {
                entered.send(failed.item).unwrap();
                held.wait();
            })
            .spawn(|batch: &mut Batch<u64>| {
                (0..batch.len()).for_each(|row| batch.reject(row, BatchError::permanent("no")));
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add_many([1, 2, 3, 4, 5]).unwrap();
        assert_eq!(heard.recv().unwrap(), 1);
        let report = batcher.shutdown(SOON);
        assert_eq!(
            report
                .failed
                .iter()
                .map(|failed| failed.item)
                .collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!(
            (report.unsent, report.failed_total, report.abandoned),
            (vec![4, 5], 3, 0)
        );
        assert!(report.timed_out);
        gate.open();
        // The hook keeps the row that it has, and gets no other one.
        assert_eq!(heard.iter().count(), 0);
        assert_eq!(batcher.stats().pending, 0);
    });
}

#[test]
fn a_close_without_time_returns_everything_that_is_not_in_flight() {
    let batcher = fixed(100)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    batcher.add_many(0..70).unwrap();
    batcher.add(70).unwrap();
    let report = batcher.close(Duration::ZERO);
    assert_eq!(report.handled + report.abandoned + report.unsent_total, 71);
    assert!(
        report.unsent.is_empty() || report.unsent.iter().copied().eq(0..71),
        "{:?}",
        report.unsent
    );
}

#[test]
fn the_drop_waits_for_its_own_timeout_and_gives_the_report_to_the_hook() {
    ends(|| {
        for in_time in [true, false] {
            let (handler, director) = directed();
            let (tell, told) = mpsc::channel();
            let batcher = fixed(2)
                .close_timeout(if in_time { LONG } else { SOON })
                .on_close(move |report| tell.send(report).unwrap())
                .spawn(handler)
                .unwrap();
            batcher.add_many([1, 2, 3]).unwrap();
            director.call();
            if in_time {
                director.reply(Reply::Ok);
                director.reply(Reply::Ok);
            }
            drop(batcher);
            let report = told
                .try_recv()
                .expect("the drop gives it before it returns");
            assert_eq!(
                (report.handled, report.abandoned),
                if in_time { (3, 0) } else { (0, 2) }
            );
            assert_eq!(
                (report.unsent.is_empty(), report.timed_out),
                (in_time, !in_time)
            );
        }
    });
}

#[test]
fn the_hook_for_the_report_is_not_called_after_a_close() {
    let (tell, told) = mpsc::channel::<u64>();
    let batcher = fixed(2)
        .on_close(move |report| tell.send(report.handled).unwrap())
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    batcher.add(1).unwrap();
    assert_eq!(batcher.close(LONG).handled, 1);
    assert_eq!(told.iter().count(), 0);
}

#[test]
fn the_last_owner_dropped_on_the_handlers_own_thread_does_not_wait_for_itself() {
    ends(|| {
        let (tell, told) = mpsc::channel();
        let owner: Arc<Mutex<Option<Batcher<u64>>>> = Arc::default();
        let inside = Arc::clone(&owner);
        let batcher = fixed(2)
            .close_timeout(NEVER)
            .on_close(move |report| tell.send(report).unwrap())
            .spawn(move |batch: &mut Batch<u64>| {
                drop(inside.lock().unwrap().take());
                assert!(batch.is_closing());
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let producer = batcher.producer();
        // Locked, so that the first batch waits until its owner is stored.
        let mut place = owner.lock().unwrap();
        batcher.add_many([1, 2, 3]).unwrap();
        *place = Some(batcher);
        drop(place);
        let report = told
            .recv_timeout(LONG)
            .expect("the report comes at the thread's end");
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.handled, 3, "the rest was handled too");
        assert!(producer.is_closed());
    });
}

#[test]
fn close_and_add_timeout_come_back_at_their_deadline_and_not_before() {
    ends(|| {
        let (batcher, director, ..) = stuck(None);
        while batcher.try_add(9).is_ok() {}
        let begun = Instant::now();
        assert!(batcher.add_timeout(9, SOON).unwrap_err().is_timeout());
        assert!(begun.elapsed() >= SOON);
        let begun = Instant::now();
        assert!(batcher.shutdown(SOON).timed_out);
        assert!(begun.elapsed() >= SOON);
        drop(director);
    });
}

/// Waits when it is dropped, like a connection that closes its session on a frozen server.
struct Goodbye(Gate);

impl Drop for Goodbye {
    fn drop(&mut self) {
        self.0.wait();
    }
}

thread_local! {
    static CONNECTION: std::cell::RefCell<Option<Goodbye>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn a_value_that_the_handlers_thread_drops_delays_no_close_beyond_its_deadline() {
    ends(|| {
        let gate = Gate::default();
        let goodbye = gate.clone();
        let batcher = fixed(1)
            .spawn(move |_: &mut Batch<u64>| {
                CONNECTION.set(Some(Goodbye(goodbye.clone())));
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add(1).unwrap();
        // Otherwise a slow machine might close it before the handler is called.
        until(&batcher, |stats| stats.handled == 1);
        let report = batcher.shutdown(SOON);
        assert_eq!(
            (report.handled, report.timed_out),
            (1, true),
            "the user's code still runs"
        );
        gate.open();
        assert!(!batcher.shutdown(LONG).timed_out);
    });
}

#[test]
fn a_close_with_an_unlimited_timeout_ends_when_all_is_handled() {
    let batcher = fixed(2)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    batcher.add(1).unwrap();
    assert!(batcher.shutdown(Duration::MAX).is_clean());
    until(&batcher, |stats| stats.pending == 0);
}
