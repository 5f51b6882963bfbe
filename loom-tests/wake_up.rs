//! The coalesced wake-up and the permits of chunks: no lost wake-up.

use super::parts::no_line;
use super::{Parts, begin_close, model, thread};
use crate::batch::Batch;
use crate::feedback::LoadFeedback;
use crate::queue::gate::Patience;
use crate::queue::weigher::Weigher;
use crate::sync::Arc;
use crate::sync::Shared;
use crate::ticket;

/// A flusher that sleeps until two items are there; two producers add one each. A lost wake-up is a
/// deadlock.
fn sleep_for_two() {
    let Parts { lane, parker, .. } = Parts::<u32>::new(2, 2);
    let producers: Vec<_> = [1, 2]
        .into_iter()
        .map(|item| {
            let lane = Arc::clone(&lane);
            thread::spawn(move || {
                thread::yield_now();
                assert!(lane.add(item, Patience::Never).is_ok());
            })
        })
        .collect();
    while lane.gate.items_in_channel() < 2 {
        lane.gate.sleep(&parker, 2, None, || false);
    }
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
}

#[test]
fn the_completing_add_wakes_the_flusher() {
    model(
        "wake-up: two adds complete a batch of two",
        3_000,
        sleep_for_two,
    );
}

/// A flusher that waits for all that its producers add, one by one. All missing items but one have
/// a credit; a lease has two.
fn sleep_on_credit<const N: usize>(items: [u32; N]) {
    let wanted = items.iter().sum::<u32>() as usize;
    let Parts { lane, parker, .. } = Parts::<u32>::new(wanted, wanted);
    let producers = items.map(|items| {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            thread::yield_now();
            (0..items).for_each(|item| assert!(lane.add(item, Patience::Never).is_ok()));
        })
    });
    while lane.gate.items_in_channel() < wanted {
        lane.gate.sleep(&parker, wanted, None, || false);
    }
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
}

#[test]
fn an_add_without_a_credit_counts_for_all() {
    model("wake-up: two of three adds have a credit", 20_000, || {
        sleep_on_credit([2, 1])
    });
    model("wake-up: three credits are one lease", 35_000, || {
        sleep_on_credit([2, 2])
    });
    model("wake-up: a lease and one more add", 40_000, || {
        sleep_on_credit([3, 1])
    });
}

/// A ring wakes the flusher, and it sleeps again. Meanwhile a producer holds a lease of the first
/// sleep, or has loaded the word of the first sleep. Credits of the first sleep are left over.
fn sleep_again_on_credit() {
    let Parts { lane, parker, .. } = Parts::<u32>::new(6, 6);
    (0..2).for_each(|item| assert!(lane.add(item, Patience::Never).is_ok()));
    let producers = [true, false].map(|rings| {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            thread::yield_now();
            if rings {
                lane.gate.doorbell.ring();
            }
            (0..2).for_each(|item| assert!(lane.add(item, Patience::Never).is_ok()));
        })
    });
    while lane.gate.items_in_channel() < 6 {
        lane.gate.sleep(&parker, 6, None, || false);
    }
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
}

/// The flusher announces a sleep for six, stays awake, and sleeps for five, as after a smaller
/// size.
fn sleep_for_fewer_on_credit() {
    let Parts { lane, parker, .. } = Parts::<u32>::new(6, 6);
    lane.gate.sleep(&parker, 6, None, || true);
    let producers = [1, 4].map(|items| {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            thread::yield_now();
            (0..items).for_each(|item| assert!(lane.add(item, Patience::Never).is_ok()));
        })
    });
    while lane.gate.items_in_channel() < 5 {
        lane.gate.sleep(&parker, 5, None, || false);
    }
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
}

/// A chunk of three and three single adds. A ring wakes the flusher, and it sleeps again. A chunk
/// that saw the first sleep takes more credits off the second than there are.
fn a_chunk_on_credit() {
    let Parts { lane, parker, .. } = Parts::<u32>::new(6, 6);
    let chunk = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || assert_eq!(lane.add_many([1, 2, 3], Patience::Never).unwrap(), 3))
    };
    let singles = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            thread::yield_now();
            lane.gate.doorbell.ring();
            (0..3).for_each(|item| assert!(lane.add(item, Patience::Never).is_ok()));
        })
    };
    while lane.gate.items_in_channel() < 6 {
        lane.gate.sleep(&parker, 6, None, || false);
    }
    chunk.join().unwrap();
    singles.join().unwrap();
}

#[test]
fn a_lease_is_void_in_another_sleep() {
    model(
        "wake-up: a lease outlives its sleep",
        140_000,
        sleep_again_on_credit,
    );
}

#[test]
fn a_sleep_for_fewer_counts_to_the_smaller_number() {
    model(
        "wake-up: the size gets smaller",
        50_000,
        sleep_for_fewer_on_credit,
    );
}

#[test]
fn a_chunk_takes_a_lease_for_all_its_items() {
    model(
        "wake-up: a chunk outlives its sleep",
        140_000,
        a_chunk_on_credit,
    );
}

/// A chunk of two completes a batch of two: its second item counts.
fn sleep_for_a_chunk() {
    let Parts { lane, parker, .. } = Parts::<u32>::new(2, 2);
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || assert_eq!(lane.add_many([1, 2], Patience::Never).unwrap(), 2))
    };
    while lane.gate.items_in_channel() < 2 {
        lane.gate.sleep(&parker, 2, None, || false);
    }
    producer.join().unwrap();
}

#[test]
fn a_chunk_wakes_the_flusher_for_all_its_items() {
    model("wake-up: a chunk completes a batch", 100, sleep_for_a_chunk);
}

/// Two items that fill a batch by weight, but not by number. The real flusher hands them over.
fn sleep_for_weight() {
    let weigher = Weigher {
        weight: Shared::new(|_: &u32| 1),
        limit: 2,
        queue_limit: None,
        refuse_too_heavy: false,
    };
    let parts = Parts::<u32>::weighed(4, 4, Some(weigher));
    let lane = Arc::clone(&parts.lane);
    let (resolver, ticket) = ticket::pair(crate::sync::next_serial(), no_line());
    assert!(lane.add_tracked(1, Some(resolver), Patience::Never).is_ok());
    let flusher = parts.start(|_: &mut Batch<u32>| Ok(LoadFeedback::new()));
    thread::yield_now();
    assert!(lane.add(2, Patience::Never).is_ok());
    assert!(ticket.wait().is_handled());
    begin_close(&lane);
    flusher.join().unwrap();
}

#[test]
fn an_add_that_completes_the_weight_wakes_the_flusher() {
    model(
        "wake-up: two adds fill a batch by weight",
        600,
        sleep_for_weight,
    );
}

/// A producer waits for the permits that the flusher releases.
fn wait_for_permits() {
    let Parts { lane, .. } = Parts::<u32>::new(1, 1);
    assert_eq!(lane.add_many([1], Patience::Never).unwrap(), 1);
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || assert_eq!(lane.add_many([2], Patience::Forever).unwrap(), 1))
    };
    thread::yield_now();
    drop(lane.lock().incoming.take_one_message(&lane.gate));
    producer.join().unwrap();
}

#[test]
fn permits_given_back_wake_who_waits_for_them() {
    model(
        "permits: one waits, one is given back",
        20,
        wait_for_permits,
    );
}
