//! The whole data plane: producers, the real flusher, a handler whose first call fails, a flush and
//! a close.

use super::parts::LONG;
use super::{Parts, begin_close, model, thread};
use crate::batch::Batch;
use crate::batcher::producer::{FailureCursor, flush};
use crate::error::{BatchError, FlushError};
use crate::feedback::LoadFeedback;
use crate::queue::gate::Patience;
use crate::sync::{Arc, Mutex};

/// `producers` threads add one item each, and main one more if `main_adds`. Then main flushes and
/// closes. Batches have two items, and the first call fails.
fn conserve(panics: bool, producers: u32, main_adds: bool) {
    let parts = Parts::<u32>::new(2, 2);
    let (lane, lanes) = (Arc::clone(&parts.lane), Arc::clone(&parts.lanes));
    let handled = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&handled);
    let mut calls = 0;
    let flusher = parts.start(move |batch: &mut Batch<u32>| {
        calls += 1;
        if calls == 1 {
            if panics {
                // Without the panic hook, which would print some 100 000 messages.
                std::panic::resume_unwind(Box::new("the first call panics"));
            }
            return Err(BatchError::transient("the first call fails"));
        }
        into.lock().extend_from_slice(batch);
        Ok(LoadFeedback::new())
    });
    let producers: Vec<_> = (1..=producers)
        .map(|item| {
            let lane = Arc::clone(&lane);
            thread::spawn(move || {
                if main_adds {
                    // With this there are 3.5 times the executions, too many for two producers.
                    thread::yield_now();
                }
                lane.add(item, Patience::Forever).is_ok().then_some(item)
            })
        })
        .collect();
    let mut accepted = Vec::new();
    if main_adds {
        assert!(lane.add(9, Patience::Forever).is_ok());
        accepted.push(9);
    }
    // If the close comes between the two attempts of the handler, the items fail with its error.
    let flushed = flush(&lanes, &[FailureCursor::new(0)], LONG);
    assert!(
        matches!(flushed, Ok(()) | Err(FlushError::Failed { .. })),
        "{flushed:?}"
    );
    begin_close(&lane);
    accepted.extend(
        producers
            .into_iter()
            .filter_map(|producer| producer.join().unwrap()),
    );
    flusher.join().unwrap();
    let mut backlog = lane.lock();
    let (unsent, failed) = backlog.drain_for_report();
    assert!(unsent.is_empty(), "the flusher left {unsent:?}");
    let mut ended = handled.lock().clone();
    ended.extend(failed.iter().map(|failed| failed.item));
    ended.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(ended, accepted, "each item accepted ends once");
    assert_eq!(backlog.counts.with_outcome(), accepted.len() as u64);
    assert_eq!(backlog.added(&lane.gate), accepted.len() as u64);
}

#[test]
fn every_item_ends_once_though_the_first_call_fails() {
    model("whole: the first call fails", 120_000, || {
        conserve(false, 1, true)
    });
}

#[test]
fn every_item_ends_once_though_the_first_call_panics() {
    model("whole: the first call panics", 120_000, || {
        conserve(true, 1, true)
    });
}

#[test]
fn every_item_of_two_producers_ends_once() {
    model(
        "whole: two producers, the first call fails",
        200_000,
        || conserve(false, 2, false),
    );
}
