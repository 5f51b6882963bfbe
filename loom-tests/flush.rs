//! Flush: everything added before the call has its outcome when it returns, and it returns.

use super::parts::LONG;
use super::{Parts, begin_close, model, thread};
use crate::batch::Batch;
use crate::batcher::producer::{FailureCursor, flush};
use crate::error::{BatchError, FlushError};
use crate::feedback::LoadFeedback;
use crate::queue::gate::Patience;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// One item in a batch of two has a linger of an hour, and a flush hands it over. With `fails` the
/// handler fails it.
fn flush_one(fails: bool) {
    let parts = Parts::<u32>::new(2, 2);
    let (lane, lanes) = (Arc::clone(&parts.lane), Arc::clone(&parts.lanes));
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let flusher = parts.start(move |batch: &mut Batch<u32>| {
        if fails {
            return Err(BatchError::permanent("refused"));
        }
        // Relaxed: read after a flush, which orders it.
        count.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(LoadFeedback::new())
    });
    assert!(lane.add(1, Patience::Never).is_ok());
    let result = flush(&lanes, &[FailureCursor::new(0)], LONG);
    if fails {
        assert_eq!(result, Err(FlushError::Failed { items: 1 }));
    } else {
        assert_eq!((result, handled.load(Ordering::Relaxed)), (Ok(()), 1));
    }
    begin_close(&lane);
    flusher.join().unwrap();
}

#[test]
fn a_flush_returns_when_its_items_have_their_outcome() {
    model("flush: one item", 300, || flush_one(false));
}

#[test]
fn a_flush_of_a_failed_batch_says_so() {
    model("flush: one item fails", 300, || flush_one(true));
}

/// An item that would wait for an hour comes as the flush begins: the flush hands it over or does
/// not wait for it.
fn flush_beside_an_add() {
    let parts = Parts::<u32>::new(2, 2);
    let (lane, lanes) = (Arc::clone(&parts.lane), Arc::clone(&parts.lanes));
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    let adding = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || assert!(lane.add(1, Patience::Never).is_ok()))
    };
    thread::yield_now();
    assert_eq!(flush(&lanes, &[FailureCursor::new(0)], LONG), Ok(()));
    adding.join().unwrap();
    begin_close(&lane);
    flusher.join().unwrap();
}

#[test]
fn a_flush_waits_for_nothing_that_it_does_not_hand_over() {
    model("flush: an add alongside", 300, flush_beside_an_add);
}
