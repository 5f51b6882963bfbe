//! Room by weight: no lost wake-up, first come first served, a press is seen.

use super::{Parts, begin_close, close_and_seize, model, thread};
use crate::batch::Batch;
use crate::feedback::LoadFeedback;
use crate::flush::lane::Lane;
use crate::queue::gate::Patience;
use crate::queue::message::Load;
use crate::queue::weigher::Weigher;
use crate::sync::{Arc, Shared};

/// An item's value is its weight. A batch weighs at most `batch`, and waiting items at most
/// `queue`.
fn parts(batch: usize, lane: usize) -> Parts<u32> {
    let weight = Shared::new(|item: &u32| *item as usize);
    let weigher = Weigher {
        weight,
        limit: batch,
        queue_limit: Some(lane),
        refuse_too_heavy: false,
    };
    Parts::weighed(4, 4, Some(weigher))
}

/// Takes one message out of the channel, as a gather does.
fn gather_one(lane: &Lane<u32>) -> Option<u32> {
    let message = lane.lock().incoming.take_one_message(&lane.gate)?;
    let Load::Tracked(tracked) = message.load else {
        unreachable!("weighed items are tracked")
    };
    lane.gate.weight_left(tracked.weight);
    Some(tracked.item)
}

/// One producer waits for room, and the flusher gives some back.
fn wait_for_room() {
    let lane = parts(2, 2).lane;
    assert!(lane.add(2, Patience::Never).is_ok());
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || assert!(lane.add(1, Patience::Forever).is_ok()))
    };
    thread::yield_now();
    assert_eq!(gather_one(&lane), Some(2));
    producer.join().unwrap();
}

#[test]
fn room_given_back_wakes_who_waits_for_it() {
    model("weight room: one waits, room comes back", 50, wait_for_room);
}

/// Two producers wait for half of the room each. All of it is given back at once.
fn wait_in_line() {
    let lane = parts(2, 2).lane;
    assert!(lane.add(2, Patience::Never).is_ok());
    let producers = [1, 1].map(|item| {
        let lane = Arc::clone(&lane);
        thread::spawn(move || assert!(lane.add(item, Patience::Forever).is_ok()))
    });
    thread::yield_now();
    assert_eq!(gather_one(&lane), Some(2));
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    assert_eq!(
        [gather_one(&lane), gather_one(&lane), gather_one(&lane)],
        [Some(1), Some(1), None]
    );
}

#[test]
fn room_for_two_lets_two_in() {
    model(
        "weight room: two wait, room for both comes back",
        29_000,
        wait_in_line,
    );
}

/// The waiting items fill no batch, neither by number nor by weight, and leave no room for the next
/// item. The real flusher hands them over.
fn press() {
    let parts = parts(3, 3);
    let lane = Arc::clone(&parts.lane);
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    thread::yield_now();
    assert!(lane.add(2, Patience::Never).is_ok());
    // Returns when the first item is gathered.
    assert!(lane.add(2, Patience::Forever).is_ok());
    begin_close(&lane);
    flusher.join().unwrap();
    assert_eq!(lane.lock().counts.handled, 2);
}

#[test]
fn what_leaves_no_room_is_handed_over_at_once() {
    model("weight room: a press wakes the flusher", 17_000, press);
}

/// The same, but another add holds the room. That add, or the flusher, sees the press.
fn press_beside_an_add() {
    let parts = parts(3, 3);
    let lane = Arc::clone(&parts.lane);
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || u64::from(lane.add(2, Patience::Never).is_ok()))
    };
    assert!(lane.add(2, Patience::Forever).is_ok());
    let accepted = 1 + producer.join().unwrap();
    begin_close(&lane);
    flusher.join().unwrap();
    assert_eq!(lane.lock().counts.handled, accepted);
}

#[test]
fn a_press_beside_an_add_is_not_lost() {
    model(
        "weight room: a press beside an add",
        90_000,
        press_beside_an_add,
    );
}

/// A producer waits for room that nobody gives back, and main closes.
fn closed() {
    let lane = parts(2, 2).lane;
    assert!(lane.add(2, Patience::Never).is_ok());
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            let refused = lane.add(1, Patience::Forever).unwrap_err();
            assert!(refused.is_closed());
            assert_eq!(refused.into_inner(), 1);
        })
    };
    thread::yield_now();
    assert_eq!(close_and_seize(&lane), [2]);
    producer.join().unwrap();
}

#[test]
fn close_wakes_who_waits_for_room() {
    model("weight room: a close beside a waiter", 250, closed);
}

/// The limit holds while adds and a gather run at the same time.
fn limited() {
    let lane = parts(2, 2).lane;
    let producers = [1, 2].map(|item| {
        let lane = Arc::clone(&lane);
        thread::spawn(move || lane.add(item, Patience::Never).is_ok())
    });
    thread::yield_now();
    let first = gather_one(&lane);
    let accepted: u32 = producers
        .into_iter()
        .zip([1, 2])
        .map(|(producer, item)| if producer.join().unwrap() { item } else { 0 })
        .sum();
    assert!(accepted - first.unwrap_or(0) <= 2);
    let rest: u32 = std::iter::from_fn(|| gather_one(&lane)).sum();
    assert_eq!(first.unwrap_or(0) + rest, accepted);
    assert!(lane.add(2, Patience::Never).is_ok(), "all room is back");
}

#[test]
fn adds_beside_one_another_keep_the_limit() {
    model("weight room: two adds beside a gather", 2_000, limited);
}
