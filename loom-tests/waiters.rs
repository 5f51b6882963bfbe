//! A wait for a ticket against a flusher that falls asleep for a whole linger.

use super::{Parts, begin_close, model, thread};
use crate::batch::Batch;
use crate::feedback::LoadFeedback;
use crate::flush::lane::Lane;
use crate::flush::lanes::single;
use crate::flush::ticket_line::Handle;
use crate::queue::gate::Patience;
use crate::sync::Arc;
use crate::ticket::{Ticket, pair};

fn submit(lane: &Arc<Lane<u32>>, item: u32) -> Ticket {
    let (resolver, ticket) = pair(lane.gate.batcher_id, Handle::shared(&single(lane), 0));
    assert!(
        lane.add_tracked(item, Some(resolver), Patience::Never)
            .is_ok()
    );
    ticket
}

/// One item in a batch of two, with a linger of an hour. Only the wait hands it over.
fn one_waits() {
    let parts = Parts::<u32>::new(2, 2);
    let lane = Arc::clone(&parts.lane);
    let ticket = submit(&lane, 1);
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    thread::yield_now();
    assert!(ticket.wait().is_handled());
    begin_close(&lane);
    flusher.join().unwrap();
}

#[test]
fn a_wait_wakes_a_flusher_that_lingers() {
    model("waiters: one waits", 200, one_waits);
}

/// Two threads wait, with three items in line and batches of two. The one whose item is last may
/// find that the other has registered, and then only changes the word.
fn two_wait() {
    let parts = Parts::<u32>::new(3, 2);
    let lane = Arc::clone(&parts.lane);
    let first = submit(&lane, 1);
    assert!(lane.add(2, Patience::Never).is_ok());
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    let second = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            thread::yield_now();
            assert!(submit(&lane, 3).wait().is_handled());
        })
    };
    assert!(first.wait().is_handled());
    second.join().unwrap();
    begin_close(&lane);
    flusher.join().unwrap();
}

#[test]
fn a_wait_that_joins_another_is_handed_over_too() {
    model("waiters: two wait", 100_000, two_wait);
}
