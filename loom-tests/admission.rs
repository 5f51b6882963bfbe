//! Admission against close: every accepted item is delivered, every refused one is returned, and no
//! thread hangs.

use super::{Parts, close_and_seize, model, thread};
use crate::error::AddError;
use crate::queue::gate::Patience;
use crate::sync::Arc;

/// The item, if its add was accepted. A refusal must return it.
fn told(result: Result<(), AddError<u32>>, item: u32) -> Option<u32> {
    match result {
        Ok(()) => Some(item),
        Err(refused) => {
            assert_eq!(refused.into_inner(), item, "the item comes back");
            None
        }
    }
}

/// Two producers add while main closes. The close has exactly the accepted items.
fn race(capacity: usize, patience: Patience) {
    let Parts { lane, .. } = Parts::<u32>::new(capacity, 8);
    let producers: Vec<_> = [1, 2]
        .into_iter()
        .map(|item| {
            let lane = Arc::clone(&lane);
            thread::spawn(move || {
                thread::yield_now();
                told(lane.add(item, patience), item)
            })
        })
        .collect();
    thread::yield_now();
    let mut delivered = close_and_seize(&lane);
    let mut accepted: Vec<_> = producers
        .into_iter()
        .filter_map(|producer| producer.join().unwrap())
        .collect();
    delivered.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(accepted, delivered);
    assert!(
        lane.lock().incoming.confirm_admission(u32::MAX).is_none(),
        "and none is left in the channel"
    );
}

#[test]
fn an_add_beside_a_close_is_accepted_or_refused_and_nothing_else() {
    model("admission: two adds, room for both", 2_000, || {
        race(2, Patience::Never)
    });
}

#[test]
fn a_producer_that_waits_for_room_is_woken_by_close() {
    model("admission: two adds, room for one, waiting", 2_000, || {
        race(1, Patience::Forever)
    });
}

/// A producer whose second add spends a credit, while the flusher sleeps and main closes.
fn credit_race() {
    let Parts { lane, parker, .. } = Parts::<u32>::new(8, 8);
    let flusher = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || lane.gate.sleep(&parker, 8, None, || false))
    };
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || {
            thread::yield_now();
            [1, 2].map(|item| told(lane.add(item, Patience::Never), item))
        })
    };
    thread::yield_now();
    let delivered = close_and_seize(&lane);
    let accepted: Vec<_> = producer.join().unwrap().into_iter().flatten().collect();
    assert_eq!(accepted, delivered);
    assert!(
        lane.lock().incoming.confirm_admission(u32::MAX).is_none(),
        "and none is left in the channel"
    );
    flusher.join().unwrap();
}

#[test]
fn an_add_that_spends_a_credit_sees_a_close() {
    model("admission: a lease alongside a close", 45_000, credit_race);
}

/// A chunk larger than the permits, against a close.
fn chunk_race() {
    let Parts { lane, .. } = Parts::<u32>::new(1, 8);
    let producer = {
        let lane = Arc::clone(&lane);
        thread::spawn(move || match lane.add_many([1, 2], Patience::Forever) {
            Ok(added) => (added, Vec::new()),
            Err(refused) => {
                let back = refused.into_inner();
                (2 - back.len(), back)
            }
        })
    };
    thread::yield_now();
    let delivered = close_and_seize(&lane);
    let (added, back) = producer.join().unwrap();
    let all: Vec<_> = delivered.iter().chain(&back).copied().collect();
    assert_eq!((delivered.len(), all), (added, vec![1, 2]));
}

#[test]
fn a_chunk_that_waits_for_permits_is_refused_by_close() {
    model("admission: a chunk that waits for permits", 70, chunk_race);
}
