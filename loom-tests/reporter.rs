//! The alarm: a sample that deserves a decision gets one, even if the controller falls asleep at
//! that moment.

use super::parts::{LONG, Parts};
use super::{model, thread};
use crate::feedback::{BatchSample, CallOutcome};
use crate::policy::setpoint::Setpoint;
use crate::policy::{Decision, Policy, Window};
use crate::sync::{Arc, Condvar, Mutex};

/// Records the batches that it gets.
struct Told(Arc<(Mutex<Vec<usize>>, Condvar)>);

impl Policy for Told {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        let batches = window.samples.iter().filter_map(|sample| sample.batch);
        self.0.0.lock().extend(batches.map(|batch| batch.len));
        self.0.1.notify_all();
        Decision::hold(current, "told")
    }
}

fn failed(len: usize) -> BatchSample {
    BatchSample {
        len,
        cut_at: len,
        full: true,
        probe: false,
        attempt: 1,
        service_time: LONG,
        queue_wait: LONG,
        failed: len,
        outcome: CallOutcome::Transient,
        in_flight: 1,
        concurrency: 1,
    }
}

/// A failed batch is reported while the controller falls asleep until the next check, which never
/// comes.
fn one_failed_batch() {
    let told = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let core = Parts::<u32>::new(1, 1).controlled(Told(Arc::clone(&told)));
    thread::yield_now();
    core.reporter.report_batch(None, failed(7));
    let mut seen = told.0.lock();
    while seen.is_empty() {
        seen = told.1.wait_until(seen, None);
    }
    assert_eq!(*seen, [7]);
    drop(seen);
    let report = core.shutdown(LONG);
    assert!(!report.timed_out, "the controller has ended");
}

#[test]
fn a_failed_batch_is_decided_on_without_waiting_for_a_check() {
    model("reporter: a failed batch", 350, one_failed_batch);
}
