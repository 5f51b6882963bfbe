//! `CostModel` on real threads, with a backend whose costs are known.
//!
//! The policy gets the known costs in place of the measured times. A handler that sleeps for its
//! costs is no such backend: on a busy machine a sleep lasts longer by an unknown time, and the
//! policy rightly adapts to it. `sleeping_backend` has such a handler nevertheless. This test also
//! checks the measured times against the clock.
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
/// Within how many full batches the size must settle.
const BATCHES: usize = 25;
/// After this many full batches a call costs five times as much. By then the model has left its
/// start.
const COSTS_RISE_AFTER: usize = 2 * BATCHES;

/// A call of the handler.
struct Call {
    len: usize,
    is_full: bool,
    cost: Duration,
    entered: Instant,
    left: Instant,
}

/// `CostModel` with the known costs in place of the measured times.
struct KnownCosts {
    model: CostModel,
    calls: Receiver<Call>,
    /// Each call with its reported length and time.
    shown: Sender<(Call, usize, Duration)>,
    /// Lets the handler continue, once at the beginning and then for each call that was decided on.
    next: Sender<()>,
    asked: bool,
}

impl Policy for KnownCosts {
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
                .expect("the handler sends each call before it returns");
            let time = std::mem::replace(&mut batch.service_time, call.cost);
            calls.push((call, batch.len, time));
        }
        let decision = self.model.decide(
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
        self.model.cadence()
    }
}

/// Waits until the policy has decided on [`BATCHES`] full batches. Returns the sizes of all batches
/// until then.
fn settle(shown: &Receiver<(Call, usize, Duration)>) -> Vec<usize> {
    let (mut calls, mut full) = (Vec::new(), 0);
    while full < BATCHES {
        let (call, len, time) = shown
            .recv_timeout(LONG)
            .expect("the policy decides on every batch");
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
fn on_real_threads_the_best_size_is_found_and_found_again_after_a_change() {
    let ((tell, calls), (show, shown), (next, go)) = (channel(), channel(), channel());
    let mut full = 0;
    let batcher = Batcher::builder()
        .initial_batch_size(20)
        .max_batch_size(2_000)
        .linger(NEVER)
        // Only batches wake the controller.
        .load_check_interval(NEVER)
        .policy(KnownCosts {
            model: CostModel::new(),
            calls,
            shown: show,
            next,
            asked: false,
        })
        .spawn(move |batch: &mut Batch<u64>| {
            let entered = Instant::now();
            // Waits until the previous call was decided on. So decisions are at most two batches
            // late, as with a slow backend, even if a thread is delayed.
            let _ = go.recv();
            let (len, is_full) = (batch.len(), batch.trigger() == Trigger::Size);
            full += usize::from(is_full);
            let cost = CALL * if full <= COSTS_RISE_AFTER { 1 } else { 5 } + ITEM * len as u32;
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
    // The first decision, before the first batch.
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
