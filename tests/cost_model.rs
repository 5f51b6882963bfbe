//! The law that learns, on real threads, with a backend whose costs are known.
//!
//! They are told to the law in place of the times that the calls took. A handler that sleeps for
//! its costs is no such backend: on a busy machine it oversleeps by what that pleases, and the law
//! rightly follows; `sleeping_backend` has one all the same. That the times are measured rightly is
//! looked at beside it.
#![cfg(not(loom))]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, Batcher, Cadence, CostModel, Decision, LoadFeedback, Policy, Setpoint, Trigger, Window,
};

use testkit::settling::{assert_settled, feed};

const LONG: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(1_000_000);
/// What a call and an item cost.
const CALL: Duration = Duration::from_millis(5);
const ITEM: Duration = Duration::from_micros(500);
/// How many full batches it may take to settle.
const BATCHES: usize = 25;
/// After so many a call costs five times as much: the model is not young any more.
const DEARER_AFTER: usize = 2 * BATCHES;

/// A call of the handler.
struct Call {
    len: usize,
    is_full: bool,
    cost: Duration,
    entered: Instant,
    left: Instant,
}

/// The law, told what the calls cost.
struct Told {
    law: CostModel,
    calls: Receiver<Call>,
    /// Each call with its length and time as they were reported.
    shown: Sender<(Call, usize, Duration)>,
    /// Lets the handler go on: once at the beginning, then for each call that was shown.
    next: Sender<()>,
    asked: bool,
}

impl Policy for Told {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let mut samples = window.samples.to_vec();
        let mut calls = Vec::new();
        for batch in samples
            .iter_mut()
            .filter_map(|sample| sample.batch.as_mut())
        {
            let call = self
                .calls
                .recv()
                .expect("the handler told of it before it was reported");
            let time = std::mem::replace(&mut batch.service_time, call.cost);
            calls.push((call, batch.len, time));
        }
        let decision = self.law.decide(
            &Window {
                samples: &samples,
                ..*window
            },
            current,
        );
        let first = usize::from(!std::mem::replace(&mut self.asked, true));
        for _ in 0..first + calls.len() {
            let _ = self.next.send(());
        }
        calls
            .into_iter()
            .for_each(|call| drop(self.shown.send(call)));
        decision
    }

    fn cadence(&self) -> Cadence {
        self.law.cadence()
    }
}

/// Waits for so many full batches to be shown to the law; the sizes of all that were until then.
fn settle(shown: &Receiver<(Call, usize, Duration)>) -> Vec<usize> {
    let (mut calls, mut full) = (Vec::new(), 0);
    while full < BATCHES {
        let (call, len, time) = shown
            .recv_timeout(LONG)
            .expect("the law is asked for every batch");
        assert_eq!(len, call.len);
        full += usize::from(call.is_full);
        calls.push((call, time));
    }
    for around in calls.windows(3) {
        let [(before, _), (call, time), (next, _)] = around else {
            unreachable!("three")
        };
        let (least, most) = (call.left - call.entered, next.entered - before.left);
        assert!(
            (least..=most).contains(time),
            "measured as {time:?} instead of {least:?} to {most:?}"
        );
    }
    calls.into_iter().map(|(call, _)| call.len).collect()
}

#[test]
fn real_threads_find_the_knee_and_find_it_again() {
    let ((tell, calls), (show, shown), (next, go)) = (channel(), channel(), channel());
    let mut full = 0;
    let batcher = Batcher::builder()
        .initial_batch_size(20)
        .max_batch_size(2_000)
        .linger(NEVER)
        // Nothing but the batches wakes the law.
        .load_check_interval(NEVER)
        .policy(Told {
            law: CostModel::new(),
            calls,
            shown: show,
            next,
            asked: false,
        })
        .spawn(move |batch: &mut Batch<u64>| {
            let entered = Instant::now();
            // The call before was shown: whatever thread is held up, the law is a batch or two
            // behind, as with a slow backend.
            let _ = go.recv();
            let (len, is_full) = (batch.len(), batch.trigger() == Trigger::Size);
            full += usize::from(is_full);
            let cost = CALL * if full <= DEARER_AFTER { 1 } else { 5 } + ITEM * len as u32;
            let _ = tell.send(Call {
                len,
                is_full,
                cost,
                entered,
                left: Instant::now(),
            });
            Ok(LoadFeedback::new())
        })
        .unwrap();
    // The first question, before there is a batch.
    batcher.reconfigure(|_| {}).unwrap();
    std::thread::scope(|scope| {
        let stop = feed(scope, &batcher, 2_000);
        let settled = |times: u32| {
            let sizes = settle(&shown);
            assert_settled(&batcher, CALL * times, ITEM, &sizes);
        };
        settled(1);
        settle(&shown);
        settled(5);
        drop(stop);
    });
    let report = batcher.close(LONG);
    assert_eq!(report.failed.len(), 0);
}
