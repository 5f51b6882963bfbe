//! One item into an idle line: how long until somebody has it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use load_aware_batcher::{Batch, Batcher, LoadFeedback};

use crate::Scale;
use testkit::pairs::{Pairs, Report, Target};

/// Long enough for the other side to have fallen asleep.
const REST: Duration = Duration::from_micros(500);

/// Pairs with the same threads: where the system puts a thread, it tends to stay, and that can cost
/// more than all else.
const PAIRS: usize = 25;

/// One add into an idle batcher with linger 0 until the handler starts, against a send until a
/// blocked receiver has it.
pub(crate) fn idle(scale: Scale, report: &mut Report) {
    let mut pairs = Pairs::default();
    for round in 0..scale.pick(80, 200) {
        with_new_threads(round % 2 == 0, &mut pairs);
    }
    report.line("idle latency", &pairs, "µs", Target::AtMost(1.3));
}

/// Who starts first has its choice of processors, so both do in turn.
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
