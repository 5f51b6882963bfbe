//! The cost of an add alone: one thread, a queue with room, and a drain that is not timed. It is
//! the steadiest of the figures.
//!
//! There are two states of the flusher. It sleeps while a batch fills, and then adds have to wake
//! it in time. Or it is in a call of the handler. The section `idle` has the cost of waking it for
//! the first item.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use load_aware_batcher::{Batch, Batcher, LoadFeedback};

use crate::Scale;
use crate::items::{Item, fixed};
use testkit::pairs::{Pairs, Report, Target};

/// Adds in a round: few, so that the queue stays in the nearest cache.
const ADDS: usize = 1_000;
/// More than the items of a round: no batch fills.
const CAPACITY: usize = 1_024;
/// Long enough for the flusher to take the first item and to fall asleep again.
const REST: Duration = Duration::from_micros(300);

pub(crate) fn add(scale: Scale, report: &mut Report) {
    sized::<u64>(8, scale, report);
    sized::<[u64; 32]>(256, scale, report);
}

fn sized<T: Item>(bytes: usize, scale: Scale, report: &mut Report) {
    let rounds = scale.pick(501, 4_001);
    let asleep = Pairs::run(rounds, asleep::<T>, send::<T>);
    let target = if bytes == 8 {
        Target::AtMost(1.15)
    } else {
        Target::None
    };
    report.line(
        &format!("uncontended flusher=asleep item={bytes}"),
        &asleep,
        "ns",
        target,
    );
    let busy = Pairs::run(rounds, busy::<T>, send::<T>);
    report.line(
        &format!("uncontended flusher=busy item={bytes}"),
        &busy,
        "ns",
        target,
    );
}

/// The nanoseconds for each send.
fn send<T: Item>() -> f64 {
    let (sender, receiver) = bounded(CAPACITY);
    assert!(sender.send(T::numbered(0)).is_ok());
    thread::sleep(REST);
    let time = timed(|number| sender.send(T::numbered(number)).is_ok());
    drop(receiver);
    time
}

/// The nanoseconds for each add while the flusher sleeps.
fn asleep<T: Item>() -> f64 {
    let batcher = fixed(CAPACITY, CAPACITY)
        .spawn(|_: &mut Batch<T>| Ok(LoadFeedback::new()))
        .unwrap();
    assert!(batcher.add(T::numbered(0)).is_ok());
    thread::sleep(REST);
    let time = add_all(&batcher);
    drop(batcher.close(Duration::ZERO));
    time
}

/// The nanoseconds for each add while the handler is busy with an earlier batch.
fn busy<T: Item>() -> f64 {
    let (called, is_called) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let batcher = fixed(1, CAPACITY)
        .spawn(move |_: &mut Batch<T>| {
            called.send(())?;
            // This ends when the other end is dropped.
            let _ = told.recv();
            Ok(LoadFeedback::new())
        })
        .unwrap();
    assert!(batcher.add(T::numbered(0)).is_ok());
    is_called.recv().unwrap();
    thread::sleep(REST);
    let time = add_all(&batcher);
    drop(batcher.close(Duration::ZERO));
    drop(go_on);
    time
}

fn add_all<T: Item>(batcher: &Batcher<T>) -> f64 {
    let producer = batcher.producer();
    timed(|number| producer.add(T::numbered(number)).is_ok())
}

fn timed(mut add: impl FnMut(u64) -> bool) -> f64 {
    let begun = Instant::now();
    for number in 0..ADDS as u64 {
        assert!(add(black_box(number)));
    }
    begun.elapsed().as_secs_f64() * 1e9 / ADDS as f64
}
