//! One item into an idle line: how long until somebody has it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use load_aware_batcher::{Batch, Batcher, LoadFeedback};

use crate::Scale;
use crate::pairs::{Pairs, Report, Target};

/// Long enough for the other side to have fallen asleep.
const REST: Duration = Duration::from_micros(500);

/// One add into an idle batcher with linger 0 until the handler starts, against a send until a blocked receiver has it.
pub(crate) fn idle(scale: Scale, report: &mut Report) {
    let (started, starts) = mpsc::channel();
    let batcher = Batcher::builder()
        .linger(Duration::ZERO)
        .spawn(move |_: &mut Batch<u64>| {
            started.send(Instant::now())?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let (sender, receiver) = bounded::<u64>(1_024);
    let (received, receipts) = mpsc::channel();
    let blocked = thread::spawn(move || {
        while receiver.recv().is_ok() {
            received.send(Instant::now()).unwrap();
        }
    });
    let timed = |act: &dyn Fn(), end: &mpsc::Receiver<Instant>| {
        thread::sleep(REST);
        let begun = Instant::now();
        act();
        (end.recv().unwrap() - begun).as_secs_f64() * 1e6
    };
    let pairs = Pairs::run(
        scale.pick(1_001, 5_001),
        || timed(&|| batcher.add(1).unwrap(), &starts),
        || timed(&|| sender.send(1).unwrap(), &receipts),
    );
    report.line("idle latency", &pairs, "µs", Target::AtMost(1.3));
    assert!(batcher.close(Duration::from_secs(10)).is_clean());
    drop(sender);
    blocked.join().unwrap();
}
