//! The end: a close returns, each item is counted once whenever the deadline passes, and no thread
//! waits forever.

use std::time::Duration;

use super::parts::{LONG, Outcome, Parts};
use super::{model, thread};
use crate::batch::Batch;
use crate::batcher::close::Core;
use crate::flush::close_report::CloseReport;

use crate::batcher::producer::{FailureCursor, flush};
use crate::error::{BatchError, FlushError};
use crate::feedback::LoadFeedback;
use crate::queue::gate::Patience;
use crate::stats::Phase;
use crate::sync::{Arc, Mutex};

fn fine(_: &mut Batch<u32>) -> Outcome {
    Ok(LoadFeedback::new())
}

fn counted(report: &CloseReport<u32>) -> u64 {
    report.handled + report.failed_total + report.unsent_total + report.abandoned
}

/// A close with time, while the flusher may be falling asleep.
fn close_in_time() {
    let parts = Parts::<u32>::new(2, 2);
    let core = parts.core(fine);
    assert!(core.lanes.first().add(1, Patience::Never).is_ok());
    let report = core.shutdown(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.handled, 1);
}

#[test]
fn a_close_hands_over_what_waits_and_returns() {
    model("close: in time", 300, close_in_time);
}

/// An add after a close whose flusher falls asleep at that moment is refused.
fn asleep() {
    let core = Parts::<u32>::new(2, 2).core(fine);
    thread::yield_now();
    let report = core.shutdown(Duration::ZERO);
    assert_eq!(counted(&report), 0);
    assert!(
        core.lanes
            .first()
            .add(1, Patience::Never)
            .unwrap_err()
            .is_closed()
    );
    let _ = core.shutdown(LONG);
}

#[test]
fn an_announced_sleep_never_hides_a_close() {
    model("close: against falling asleep", 350, asleep);
}

/// Two items in batches of one, and this handler. One close is past its deadline, another one has
/// time. Whatever the flusher does meanwhile, each snapshot counts each item once, and only one
/// closer gets the lists.
fn out_of_time(
    handler: impl FnMut(&mut Batch<u32>) -> Outcome + Send + 'static,
) -> (Arc<Core<u32>>, Vec<u32>, bool) {
    let parts = Parts::<u32>::new(2, 1);
    let lane = Arc::clone(&parts.lane);
    assert_eq!(lane.add_many([1, 2], Patience::Never).unwrap(), 2);
    let core = parts.core(handler);
    let patient = {
        let core = Arc::clone(&core);
        thread::spawn(move || core.shutdown(LONG))
    };
    thread::yield_now();
    let hasty = core.shutdown(Duration::ZERO);
    let given_up = core.lanes.first().lock().lifecycle.phase == Phase::Abandoned;
    assert!(hasty.timed_out || counted(&hasty) == 2, "{hasty:?}");
    let patient = patient.join().unwrap();
    let lists = [&hasty, &patient].map(|report| report.failed.len() + report.unsent.len());
    assert!(lists.contains(&0), "one has the lists");
    let mut back = hasty.unsent;
    back.extend(patient.unsent);
    back.extend(
        hasty
            .failed
            .into_iter()
            .chain(patient.failed)
            .map(|failed| failed.item),
    );
    (core, back, given_up)
}

fn out_of_time_handled() {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&handled);
    let (core, back, given_up) = out_of_time(move |batch| {
        into.lock().extend_from_slice(batch);
        Ok(LoadFeedback::new())
    });
    let last = core.shutdown(LONG);
    assert_eq!(
        (counted(&last), last.abandoned),
        (2, 0),
        "the handler came back: {last:?}"
    );
    assert!(!last.timed_out);
    // As after an end in time: the items that an earlier close gave up do not count as done.
    assert_eq!(
        core.lanes.first().lock().lifecycle.phase == Phase::Done,
        !given_up,
        "{last:?}"
    );
    let mut ended = handled.lock().clone();
    ended.extend(back);
    assert_eq!(ended, [1, 2], "nothing twice, in order");
}

#[test]
fn done_and_abandoned_exclude_each_other() {
    model(
        "close: two closers, one out of time",
        45_000,
        out_of_time_handled,
    );
}

/// The same with a handler that always fails. Items that fail late are counted, too.
#[test]
fn a_failure_behind_the_deadline_is_counted_once() {
    model("close: out of time, every call fails", 75_000, || {
        let (core, back, _) = out_of_time(|_| Err(BatchError::permanent("refused")));
        let last = core.shutdown(LONG);
        assert_eq!(
            (last.handled, counted(&last), last.abandoned),
            (0, 2, 0),
            "{last:?}"
        );
        let dropped = core.lanes.first().lock().counts.dropped_late;
        assert_eq!(back.len() as u64 + dropped, 2, "in a list, or dropped late");
    });
}

/// A flush waits while a close runs out of time and takes the items of the flush.
fn flush_beside_close() {
    let parts = Parts::<u32>::new(2, 2);
    let (lane, lanes) = (Arc::clone(&parts.lane), Arc::clone(&parts.lanes));
    assert!(lane.add(1, Patience::Never).is_ok());
    // Without a flusher, as if its handler never returned.
    let core = parts.stuck();
    let flusher = thread::spawn(move || flush(&lanes, &[FailureCursor::new(0)], LONG));
    thread::yield_now();
    let report = core.shutdown(Duration::ZERO);
    assert_eq!(report.unsent, [1]);
    assert_eq!(flusher.join().unwrap(), Err(FlushError::Closed));
}

#[test]
fn a_flush_learns_of_a_close_that_gives_up() {
    model(
        "close: a flush waits for what comes back",
        6,
        flush_beside_close,
    );
}

/// The queue is full and the handler is stuck. Two producers wait for room without a deadline, and
/// one waits for permits.
fn blocked(capacity: usize) {
    let parts = Parts::<u32>::new(capacity, 8);
    let lane = Arc::clone(&parts.lane);
    for item in 0..capacity as u32 {
        assert!(lane.add(item, Patience::Never).is_ok());
    }
    let core = parts.stuck();
    let producers: Vec<_> = [10, 11]
        .into_iter()
        .map(|item| {
            let lane = Arc::clone(&lane);
            thread::spawn(move || {
                thread::yield_now();
                let refused = lane
                    .add(item, Patience::Forever)
                    .expect_err("there is no room until it is closed");
                assert!(refused.is_closed() && refused.into_inner() == item);
            })
        })
        .collect();
    thread::yield_now();
    let mut back = core.shutdown(Duration::ZERO).unsent;
    // A producer that came after the queue was emptied is refused as well.
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    back.sort_unstable();
    assert_eq!(back, (0..capacity as u32).collect::<Vec<_>>());
    assert_eq!(core.lanes.first().gate.items_in_channel(), 0);
}

#[test]
fn producers_that_wait_on_a_full_queue_are_refused_at_once() {
    model("close: two producers wait, room for one", 10_000, || {
        blocked(1)
    });
}

#[test]
fn all_that_wait_are_refused_however_many_places_there_are() {
    model("close: two producers wait, room for two", 24_000, || {
        blocked(2)
    });
}

/// A chunk waits for permits that a stuck flusher never releases.
fn blocked_chunk() {
    let parts = Parts::<u32>::new(1, 8);
    let lane = Arc::clone(&parts.lane);
    assert_eq!(lane.add_many([0], Patience::Never).unwrap(), 1);
    let core = parts.stuck();
    let producer = thread::spawn(move || lane.add_many([1, 2], Patience::Forever).unwrap_err());
    thread::yield_now();
    assert_eq!(core.shutdown(Duration::ZERO).unsent, [0]);
    let refused = producer.join().unwrap();
    assert!(refused.is_closed());
    assert_eq!(refused.into_inner(), [1, 2]);
}

#[test]
fn a_chunk_that_waits_for_permits_is_refused_at_once() {
    model("close: a chunk waits for permits", 26, blocked_chunk);
}
