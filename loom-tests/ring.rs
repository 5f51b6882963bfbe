//! The feedback ring: no torn sample, none twice, losses counted.

use super::{model, thread};
use crate::exchange::ring::Ring;
use crate::feedback::{Sample, Signals};
use crate::sync::Arc;

/// Every field carries the same number, so a torn sample shows.
fn sample(number: u64) -> Sample {
    let signals = Signals {
        queue_depth: Some(number),
        db_locks: Some(number),
        ..Signals::default()
    };
    Sample {
        signals,
        batch: None,
    }
}

fn number(sample: &Sample) -> u64 {
    let Signals {
        queue_depth,
        db_locks,
        ..
    } = sample.signals;
    assert_eq!(queue_depth, db_locks, "torn");
    queue_depth.expect("a sample that nobody wrote")
}

/// `writers` threads write one sample each into one slot, while the reader takes.
fn race(capacity: usize, writers: u64, takes: usize) {
    let (ring, mut reader) = Ring::new(capacity);
    let threads: Vec<_> = (1..=writers)
        .map(|writer| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                thread::yield_now();
                ring.report(&sample(writer));
            })
        })
        .collect();
    let mut taken = Vec::new();
    let mut lost = 0;
    for _ in 0..takes {
        thread::yield_now();
        lost += reader.take(&mut taken);
    }
    // Before the join, which would hide a missing ordering.
    let mut seen: Vec<_> = taken.iter().map(number).collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    taken.clear();
    // Twice, since the first take may stop at a ticket.
    lost += reader.take(&mut taken) + reader.take(&mut taken);
    seen.extend(taken.iter().map(number));
    assert_eq!(seen.len() as u64 + lost, writers, "each is read or counted");
    seen.sort_unstable();
    let read = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), read, "none is read twice");
}

#[test]
fn writers_that_lap_each_other_tear_no_sample() {
    model("ring: two writers, one slot", 6_000, || race(1, 2, 1));
}

#[test]
fn writers_side_by_side_lose_nothing_uncounted() {
    model("ring: two writers, two slots", 1_000, || race(2, 2, 1));
}
