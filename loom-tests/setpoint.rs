//! The setpoint against a flusher that falls asleep: a smaller size is not slept through.

use std::time::Duration;

use super::parts::no_line;
use super::{Parts, begin_close, model, thread};
use crate::batch::Batch;
use crate::feedback::LoadFeedback;
use crate::policy::setpoint::Setpoint;
use crate::queue::gate::Patience;
use crate::sync::Arc;
use crate::ticket;

/// One item in a batch of two. The size becomes one. Then the item must be handled without any
/// other event.
fn shrink() {
    let parts = Parts::<u32>::new(2, 2);
    let (lane, setpoint) = (Arc::clone(&parts.lane), Arc::clone(&parts.setpoint));
    let (resolver, ticket) = ticket::pair(crate::sync::next_serial(), no_line());
    assert!(lane.add_tracked(1, Some(resolver), Patience::Never).is_ok());
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    thread::yield_now();
    let smaller = setpoint.read(|now| Setpoint {
        batch_size: 1,
        ..now.clone()
    });
    setpoint.publish(smaller, Duration::ZERO);
    assert_eq!(setpoint.batch_size(), 1);
    assert!(ticket.wait().is_handled());
    begin_close(&lane);
    flusher.join().unwrap();
}

#[test]
fn a_smaller_size_wakes_a_flusher_that_waits_for_a_larger_batch() {
    model("setpoint: two becomes one", 400, shrink);
}

/// A thread that sees the new size also sees its setpoint. The reader is a separate thread: after a
/// yield loom does not show a thread the values that it saw before, and main has seen the first
/// ones.
fn look_beside() {
    let Parts { setpoint, .. } = Parts::<u32>::new(4, 4);
    let reader = {
        let setpoint = Arc::clone(&setpoint);
        thread::spawn(move || {
            let size = setpoint.batch_size();
            let whole = setpoint.read(|now| now.batch_size);
            assert!(whole >= size, "the size is {size}, the whole {whole}");
        })
    };
    let larger = setpoint.read(|now| Setpoint {
        batch_size: 5,
        ..now.clone()
    });
    setpoint.publish(larger, Duration::ZERO);
    reader.join().unwrap();
}

#[test]
fn a_size_is_never_ahead_of_its_setpoint() {
    model("setpoint: size and whole", 50, look_beside);
}
