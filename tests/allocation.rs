//! In a steady state neither an item nor a batch allocates, with an observer attached. The
//! allocator counts exactly.

use std::alloc::System;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    Batch, Batcher, Decision, Limits, LoadFeedback, Observer, Policy, Setpoint, Window,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LONG: Duration = Duration::from_secs(60);
/// No machine delays a test for this long.
const NEVER: Duration = Duration::from_secs(1_000_000);
const ITEMS: u64 = 1_000_000;
const BATCH: usize = 1_000;

/// A batcher whose handler waits in its first call until the gate is opened.
struct Gated {
    batcher: Batcher<u64>,
    observer: Observer,
    called: mpsc::Receiver<()>,
    gate: Arc<AtomicBool>,
}

/// The check interval is longer than the test, so that only the way of the items is counted.
fn gated(max_batch_size: usize) -> Gated {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let (call, called) = mpsc::channel();
    let mut first = true;
    let batcher = Batcher::builder()
        .policy(Numbered {
            size: BATCH,
            decisions: 0,
        })
        .max_batch_size(max_batch_size)
        .linger(NEVER)
        .load_check_interval(NEVER)
        .spawn(move |batch: &mut Batch<u64>| {
            if std::mem::take(&mut first) {
                call.send(())?;
                // This wait allocates nothing, see `warmed_up`.
                while !opened.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
            black_box(batch.iter().sum::<u64>());
            Ok(LoadFeedback::new().cpu_load(0.5).queue_depth(1))
        })
        .unwrap();
    // Now both threads run.
    resize(&batcher, max_batch_size);
    Gated {
        observer: batcher.observer(),
        batcher,
        called,
        gate,
    }
}

impl Gated {
    /// Fills the queue with `add`, which does not wait, while the handler holds a first batch. Then
    /// it opens the gate, and all items are handled. Afterwards everything that a full queue needs
    /// is allocated.
    fn warmed_up(self, mut add: impl FnMut(&Batcher<u64>) -> bool) -> (Batcher<u64>, Observer) {
        let Self {
            batcher,
            observer,
            called,
            gate,
        } = self;
        while add(&batcher) {}
        called.recv().unwrap();
        while add(&batcher) {}
        // This wait times out. It allocates what waiting needs, unless the time is over before it
        // begins.
        let mut patience = Duration::from_millis(1);
        while allocations(|| assert!(batcher.add_timeout(0, patience).is_err())) == 0 {
            patience *= 2;
        }
        gate.store(true, Ordering::Release);
        batcher.flush(LONG).unwrap();
        assert!(observer.stats().handled > 0);
        (batcher, observer)
    }
}

/// Allocations and reallocations of all threads during the work.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

/// The bytes that are allocated by all threads.
fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn add(batcher: &Batcher<u64>, items: u64) {
    (0..items).for_each(|item| batcher.add(item).unwrap());
}

/// Always the same size, each time with another reason, so that each decision is recorded.
struct Numbered {
    size: usize,
    decisions: u64,
}

impl Policy for Numbered {
    fn decide(&mut self, _: &Window<'_>, _: &Setpoint) -> Decision {
        self.decisions += 1;
        Decision::resize(
            self.size,
            format!("decision {} for {}", self.decisions, self.size),
        )
    }
}

/// Changes the limits and waits until the controller has decided once more.
fn reconfigure(batcher: &Batcher<u64>, change: impl FnOnce(&mut Limits)) {
    let decided = || {
        batcher
            .decisions()
            .iter()
            .filter(|record| record.reason.to_string().contains("decision"))
            .count()
    };
    let before = decided();
    batcher.reconfigure(change).unwrap();
    while decided() == before {
        std::thread::yield_now();
    }
}

fn resize(batcher: &Batcher<u64>, max_batch_size: usize) {
    reconfigure(batcher, |limits| limits.max_batch_size = max_batch_size);
}

/// Without the usual harness, since its own threads allocate.
fn main() {
    let tests: [(&str, fn()); 4] = [
        (
            "a_million_adds_allocate_nothing",
            a_million_adds_allocate_nothing,
        ),
        (
            "a_million_items_in_chunks_allocate_nothing",
            a_million_items_in_chunks_allocate_nothing,
        ),
        (
            "buffers_are_reused_when_the_size_changes",
            buffers_are_reused_when_the_size_changes,
        ),
        (
            "the_memory_of_a_spike_goes_back",
            the_memory_of_a_spike_goes_back,
        ),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
}

fn a_million_adds_allocate_nothing() {
    let (batcher, _observer) = gated(BATCH).warmed_up(|batcher| batcher.try_add(0).is_ok());
    assert_eq!(allocations(|| add(&batcher, ITEMS)), 0);
    batcher.flush(LONG).unwrap();
    assert!(batcher.stats().batches.size >= ITEMS / BATCH as u64);
}

fn a_million_items_in_chunks_allocate_nothing() {
    for chunk in [16, 64, 1_000] {
        // Chunks of one item, so that the largest number of chunks is kept.
        let (batcher, _observer) =
            gated(BATCH).warmed_up(|batcher| batcher.try_add_many([0]).is_ok());
        let allocated = allocations(|| {
            for first in (0..ITEMS).step_by(chunk as usize) {
                batcher.add_many(first..ITEMS.min(first + chunk)).unwrap();
            }
        });
        assert_eq!(allocated, 0, "in chunks of {chunk}");
        batcher.flush(LONG).unwrap();
        assert!(batcher.stats().batches.size >= ITEMS / BATCH as u64);
    }
}

fn buffers_are_reused_when_the_size_changes() {
    let (batcher, _observer) = gated(BATCH).warmed_up(|batcher| batcher.try_add(0).is_ok());
    for size in [700, 300, 900, BATCH] {
        resize(&batcher, size);
        assert_eq!(
            allocations(|| add(&batcher, 100 * BATCH as u64)),
            0,
            "at size {size}"
        );
        batcher.flush(LONG).unwrap();
    }
}

fn the_memory_of_a_spike_goes_back() {
    const SPIKE: usize = 200 * BATCH;
    let (batcher, _observer) = gated(SPIKE).warmed_up(|batcher| batcher.try_add(0).is_ok());
    // More samples than the feedback ring holds, and a decision on them. The controller keeps its
    // buffer for them.
    add(&batcher, 1_100 * BATCH as u64);
    batcher.flush(LONG).unwrap();
    resize(&batcher, SPIKE);
    let before = held();
    reconfigure(&batcher, |limits| {
        limits.policy(Numbered {
            size: SPIKE,
            decisions: 0,
        })
    });
    assert_eq!(batcher.stats().batch_size, SPIKE);
    add(&batcher, 2 * SPIKE as u64);
    batcher.flush(LONG).unwrap();
    assert!(
        held() >= before + SPIKE * size_of::<u64>(),
        "a spike was made"
    );
    reconfigure(&batcher, |limits| {
        limits.policy(Numbered {
            size: BATCH,
            decisions: 0,
        })
    });
    assert_eq!(batcher.stats().batch_size, BATCH);
    add(&batcher, 10 * BATCH as u64);
    batcher.flush(LONG).unwrap();
    let after = held();
    // A buffer of up to four times the size in force may be kept.
    assert!(
        after <= before + 4 * BATCH * size_of::<u64>(),
        "{before} bytes before, {after} after"
    );
}
