//! One item added to an idle batcher: how long until the handler has it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use load_aware_batcher::{Batch, Batcher, LoadFeedback};

use crate::Scale;
use testkit::pairs::{Pairs, Report, Target};

/// Long enough for the other thread to fall asleep.
const REST: Duration = Duration::from_micros(500);

/// How many pairs the same threads run. A thread tends to stay on its processor, and that choice
/// can cost more than all else.
const PAIRS: usize = 25;

/// The time from an add to an idle batcher with linger 0 until the handler starts, against the time
/// from a send until a blocked receiver has the item.
pub(crate) fn idle(scale: Scale, report: &mut Report) {
    let mut pairs = Pairs::default();
    for round in 0..scale.pick(80, 200) {
        with_new_threads(round % 2 == 0, &mut pairs);
    }
    report.line("idle latency", &pairs, "µs", Target::AtMost(1.3));
}

/// The one that starts first gets the better processor, so they take turns at that.
fn with_new_threads(ours_first: bool, pairs: &mut Pairs) {
    let (started, starts) = mpsc::channel();
    let start_batcher = || {
        Batcher::builder()
            .linger(Duration::ZERO)
            .spawn(move |_: &mut Batch<u64>| {
                started.send(Instant::now())?;
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    let (sender, receiver) = bounded::<u64>(1_024);
    let (received, receipts) = mpsc::channel();
    let start_receiver = || {
        thread::spawn(move || {
            while receiver.recv().is_ok() {
                received.send(Instant::now()).unwrap();
            }
        })
    };
    let (batcher, blocked) = if ours_first {
        let batcher = start_batcher();
        (batcher, start_receiver())
    } else {
        let blocked = start_receiver();
        (start_batcher(), blocked)
    };
    let timed = |act: &dyn Fn(), end: &mpsc::Receiver<Instant>| {
        thread::sleep(REST);
        let begun = Instant::now();
        act();
        (end.recv().unwrap() - begun).as_secs_f64() * 1e6
    };
    for _ in 0..PAIRS {
        let ours = timed(&|| batcher.add(1).unwrap(), &starts);
        pairs.push(ours, timed(&|| sender.send(1).unwrap(), &receipts));
    }
    assert!(batcher.close(Duration::from_secs(10)).is_clean());
    drop(sender);
    blocked.join().unwrap();
}
