//! The setpoint against a flusher that falls asleep: a smaller size is not slept through.

use super::{Parts, begin_close, model, mutant};
use crate::batch::Batch;
use crate::feedback::LoadFeedback;
use crate::queue::Patience;
use crate::setpoint::Setpoint;
use crate::sync::Arc;
use crate::ticket;

/// One item in a batch of two; the size becomes one; the item must be handled without anything else happening.
fn shrink() {
    let parts = Parts::<u32>::new(2, 2);
    let (queue, setpoint) = (Arc::clone(&parts.queue), Arc::clone(&parts.setpoint));
    let (resolver, ticket) = ticket::pair(1);
    assert!(queue.add_special(1, Some(resolver), Patience::Never).is_ok());
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    loom::thread::yield_now();
    let smaller = setpoint.read(|now| Setpoint { batch_size: 1, ..now.clone() });
    setpoint.publish(smaller);
    assert_eq!(setpoint.batch_size(), 1);
    assert!(ticket.wait().is_handled());
    begin_close(&queue);
    flusher.join().unwrap();
}

#[test]
fn a_smaller_size_wakes_a_flusher_that_waits_for_a_larger_batch() {
    model("setpoint: two becomes one", 400, shrink);
}

#[test]
fn mutant_a_publication_that_wakes_nobody_is_found() {
    mutant("setpoint: no ring", shrink);
}
