//! The policy still decides while a close hands over what is left.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use load_aware_batcher::{
    Batch, Batcher, Cadence, Decision, LoadFeedback, Policy, Setpoint, Window,
};
use testkit::LONG;

const SMALL: usize = 10;
const LARGE: usize = 1_000;

/// Asks for large batches once it has seen a batch, and sends a message at each decision.
struct Grows(Sender<()>);

impl Policy for Grows {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let _ = self.0.send(());
        match window.samples.iter().any(|sample| sample.batch.is_some()) {
            true => Decision::resize(LARGE, "it works"),
            false => Decision::hold(current, "nothing yet"),
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}

/// A handler that sends the length of its batches. Its first call lasts until the close has begun,
/// so that the policy sees nothing before. Each later call waits for a decision, so that every
/// batch is cut after one.
fn paced(
    decided: Receiver<()>,
    lengths: Sender<usize>,
) -> impl FnMut(&mut Batch<u64>) -> Result<LoadFeedback, load_aware_batcher::BatchError> {
    let mut calls = 0;
    move |batch| {
        calls += 1;
        if calls == 1 {
            while !batch.is_closing() {
                std::thread::yield_now();
            }
        } else {
            // The policy is gone if its sender is.
            let _ = decided.recv_timeout(LONG);
        }
        let _ = lengths.send(batch.len());
        Ok(LoadFeedback::new())
    }
}

/// The lengths of the batches of many items that `end` closes at once.
fn lengths(end: impl FnOnce(Batcher<u64>)) -> Vec<usize> {
    let ((decides, decided), (tell, lengths)) = (channel(), channel());
    let batcher = Batcher::builder()
        .initial_batch_size(SMALL)
        .max_batch_size(LARGE)
        .queue_capacity(10 * LARGE)
        .linger(LONG)
        .load_check_interval(LONG)
        .policy(Grows(decides))
        .spawn(paced(decided, tell))
        .expect("it starts");
    batcher.add_many(0..5 * LARGE as u64).expect("open");
    end(batcher);
    lengths.iter().collect()
}

#[test]
fn what_a_close_hands_over_is_cut_at_the_size_that_the_policy_decides_meanwhile() {
    let lengths = lengths(|batcher| {
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
    });
    assert_eq!(lengths.iter().sum::<usize>(), 5 * LARGE);
    assert!(lengths.contains(&LARGE), "{lengths:?}");
}

#[test]
fn a_drop_does_the_same() {
    let lengths = lengths(drop);
    assert_eq!(lengths.iter().sum::<usize>(), 5 * LARGE);
    assert!(lengths.contains(&LARGE), "{lengths:?}");
}

#[test]
fn a_close_that_gives_up_ends_the_controller_though_the_handler_hangs() {
    let (hung, hangs) = channel::<()>();
    let (called, calls) = channel();
    let (decides, decided) = channel();
    let batcher = Batcher::builder()
        .linger(Duration::ZERO)
        .policy(Grows(decides))
        .spawn(move |_: &mut Batch<u64>| {
            let _ = called.send(());
            let _ = hangs.recv();
            Ok(LoadFeedback::new())
        })
        .expect("it starts");
    batcher.add(1).expect("open");
    calls.recv_timeout(LONG).expect("it is called");
    let report = batcher.close(Duration::ZERO);
    assert!(report.timed_out && report.abandoned == 1, "{report:?}");
    // The policy was dropped, together with its sender.
    while decided.recv_timeout(LONG).is_ok() {}
    assert_eq!(
        decided.try_recv(),
        Err(std::sync::mpsc::TryRecvError::Disconnected)
    );
    drop(hung);
}
