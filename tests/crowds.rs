//! Very many threads: every item is handled once, whichever thread adds it and when.

#![cfg(not(loom))]

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_aware_batcher::{Batch, Batcher, LoadFeedback, Producer};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

type Seen = Arc<Mutex<Vec<u64>>>;

fn collecting(capacity: usize) -> (Batcher<u64>, Seen) {
    let seen = Seen::default();
    let to = Arc::clone(&seen);
    let batcher = Batcher::builder()
        .queue_capacity(capacity)
        .spawn(move |batch: &mut Batch<u64>| {
            to.lock().unwrap().extend(batch.iter());
            Ok(LoadFeedback::new())
        })
        .unwrap();
    (batcher, seen)
}

fn assert_each_once(seen: &Seen, expected: u64) {
    let seen = seen.lock().unwrap();
    let different: HashSet<u64> = seen.iter().copied().collect();
    assert_eq!(
        (seen.len() as u64, different.len() as u64),
        (expected, expected)
    );
}

struct AddsWhenDropped {
    producer: Producer<u64>,
    items: std::ops::Range<u64>,
}

impl Drop for AddsWhenDropped {
    fn drop(&mut self) {
        for item in self.items.clone() {
            self.producer.add(item).expect("the batcher is open");
        }
    }
}

thread_local! {
    static AT_EXIT: RefCell<Option<AddsWhenDropped>> = const { RefCell::new(None) };
}

/// Scenario 62.
#[test]
fn adds_from_the_destructors_of_thread_locals_are_handled() {
    let (batcher, seen) = collecting(1_000);
    let threads: Vec<_> = (0..50)
        .map(|thread| {
            let producer = batcher.producer();
            std::thread::spawn(move || {
                let first = thread * 100;
                let adds_when_dropped = AddsWhenDropped {
                    producer: producer.clone(),
                    items: first + 1..first + 100,
                };
                AT_EXIT.with(|slot| *slot.borrow_mut() = Some(adds_when_dropped));
                // What this creates in the thread is destroyed before `AT_EXIT`.
                producer.add(first).expect("the batcher is open");
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(batcher.close(LONG).is_clean());
    assert_each_once(&seen, 5_000);
}

/// Scenario 62.
#[test]
fn sixteen_hundred_threads_add_and_flush() {
    let (batcher, seen) = collecting(500);
    std::thread::scope(|scope| {
        for thread in 0..1_600 {
            let (producer, seen) = (batcher.producer(), &seen);
            let spawned = std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn_scoped(scope, move || {
                    producer.add(thread).unwrap();
                    assert_eq!(producer.flush(LONG), Ok(()));
                    let is_handled = seen.lock().unwrap().contains(&thread);
                    assert!(is_handled, "the flush returned before {thread} was handled");
                });
            spawned.expect("the machine has so many threads");
        }
    });
    assert_each_once(&seen, 1_600);
    assert!(batcher.close(LONG).is_clean());
}

/// Scenario 62.
#[test]
fn three_thousand_producers_alongside_a_greedy_one_all_add_their_items() {
    let (batcher, seen) = collecting(200);
    std::thread::scope(|scope| {
        let greedy = batcher.producer();
        let adding = scope.spawn(move || greedy.add_many(1_000_000..1_100_000).unwrap());
        for first in [0, 1_000, 2_000] {
            let modest: Vec<_> = (first..first + 1_000)
                .map(|item| (batcher.producer(), item))
                .collect();
            scope.spawn(move || {
                for (producer, item) in modest {
                    producer.add(item).unwrap();
                }
            });
        }
        adding.join().unwrap();
    });
    assert!(batcher.close(LONG).is_clean());
    assert_each_once(&seen, 103_000);
}
