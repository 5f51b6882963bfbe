//! A drop of a user's value runs the user's code. Its panics are caught and counted, and no item is
//! lost.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, BuildError, Decision, Handler, LoadFeedback, Policy, Producer,
    Retry, Setpoint, Window,
};
use testkit::{Gate, LONG, NEVER, ends, fixed, until};

/// Counts its drops, and panics in them if it should.
struct Item(bool, Arc<AtomicUsize>);

impl Drop for Item {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
        if self.0 && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
}

#[test]
fn items_that_panic_when_dropped_are_counted_and_the_others_are_dropped() {
    for bad in [vec![1], vec![0, 3], vec![0, 1, 2, 3]] {
        let drops = Arc::new(AtomicUsize::new(0));
        let batcher = fixed(4)
            .spawn(|_: &mut Batch<Item>| Ok(LoadFeedback::new()))
            .unwrap();
        for _ in 0..3 {
            batcher
                .add_many((0..4).map(|n| Item(bad.contains(&n), Arc::clone(&drops))))
                .unwrap();
        }
        let stats = until(&batcher, |stats| {
            stats.handled == 12 && stats.drop_panics == 3 * bad.len() as u64
        });
        assert_eq!((stats.failed, stats.handler_panics), (0, 0));
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(drops.load(SeqCst), 12);
    }
}

#[test]
fn rows_dropped_late_may_panic_too() {
    ends(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (gate, (tell, entered)) = (Gate::default(), mpsc::channel());
        let inside = gate.clone();
        let batcher = fixed(4)
            .spawn(move |_: &mut Batch<Item>| {
                tell.send(())?;
                inside.wait();
                Err(BatchError::transient("late"))
            })
            .unwrap();
        batcher
            .add_many((0..4).map(|_| Item(true, Arc::clone(&drops))))
            .unwrap();
        entered.recv().unwrap();
        assert_eq!(batcher.shutdown(Duration::ZERO).abandoned, 4);
        gate.open();
        // The handler's channel is dropped with the thread.
        assert!(entered.recv().is_err());
        let stats = batcher.stats();
        assert_eq!(
            (stats.dropped_late, stats.drop_panics, drops.load(SeqCst)),
            (4, 4, 4)
        );
    });
}

#[test]
fn a_report_without_a_hook_may_panic_when_it_is_dropped() {
    ends(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let gate = Gate::default();
        let inside = gate.clone();
        let batcher = fixed(2)
            .spawn(move |_: &mut Batch<Item>| {
                inside.wait();
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher
            .add_many((0..6).map(|n| Item(n > 3, Arc::clone(&drops))))
            .unwrap();
        // There is no hook for the report, so its unsent items are dropped with it on this thread,
        // which does not panic.
        drop(batcher);
        assert!(drops.load(SeqCst) >= 4);
        gate.open();
    });
}

struct Fragile(Option<mpsc::Sender<()>>);

impl Handler<u64> for Fragile {
    fn handle(&mut self, _: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
        Ok(LoadFeedback::new())
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        drop(self.0.take());
        std::panic::resume_unwind(Box::new("dropped"));
    }
}

#[test]
fn a_handler_that_panics_when_dropped_is_counted_and_gone_when_close_returns() {
    let (alive, gone) = mpsc::channel();
    let batcher = fixed(2).spawn(Fragile(Some(alive))).unwrap();
    batcher.add_many([1, 2, 3]).unwrap();
    let report = batcher.shutdown(LONG);
    assert!(report.is_clean() && report.handled == 3);
    assert_eq!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert_eq!(batcher.stats().drop_panics, 1);
}

/// An error that calls the batcher when it is dropped, as one that writes to a log through the same
/// batcher.
#[derive(Debug)]
struct Loud(Arc<std::sync::OnceLock<Producer<u64>>>, bool);

impl std::fmt::Display for Loud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("loud")
    }
}

impl std::error::Error for Loud {}

impl Drop for Loud {
    fn drop(&mut self) {
        testkit::wait_for(&self.0).request_flush();
        if self.1 && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
}

#[test]
fn an_error_may_call_the_batcher_and_panic_when_it_is_dropped() {
    for panics in [false, true] {
        ends(move || {
            let own: Arc<std::sync::OnceLock<Producer<u64>>> = Arc::default();
            let (inside, mut calls) = (Arc::clone(&own), 0);
            let batcher = fixed(4)
                .retry(Retry::attempts(3).backoff(Duration::ZERO, Duration::ZERO))
                .on_failed(drop)
                .spawn(move |batch: &mut Batch<u64>| {
                    calls += 1;
                    let error = || Loud(Arc::clone(&inside), panics);
                    match calls {
                        1 | 2 => return Err(error().into()),
                        4 => return Err(BatchError::permanent(error())),
                        3 | 6 => (0..4).for_each(|row| batch.reject(row / 2, error())),
                        _ => {}
                    }
                    Ok(LoadFeedback::new())
                })
                .unwrap();
            own.set(batcher.producer()).unwrap();
            batcher.add_many(0..20).unwrap();
            let _ = batcher.flush(LONG);
            let stats = batcher.stats();
            assert_eq!(
                (stats.handled + stats.failed, stats.pending),
                (20, 0),
                "{stats:?}"
            );
            assert!(!batcher.close(LONG).timed_out);
        });
    }
}

/// Uses its batcher when it is dropped, and does not decide until the gate is open.
struct Looking(
    Arc<std::sync::OnceLock<Arc<Batcher<u64>>>>,
    Option<(mpsc::Sender<()>, Gate)>,
    bool,
);

impl Policy for Looking {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        if let Some((entered, gate)) = self
            .1
            .as_ref()
            .filter(|_| !std::mem::replace(&mut self.2, true))
        {
            entered.send(()).unwrap();
            gate.wait();
        }
        Decision::hold(current, "looks")
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        testkit::wait_for(&self.0).stats();
    }
}

#[test]
fn a_policy_that_never_decided_may_use_its_batcher_when_it_is_dropped() {
    ends(|| {
        let own: Arc<std::sync::OnceLock<Arc<Batcher<u64>>>> = Arc::default();
        let (gate, (tell, entered)) = (Gate::default(), mpsc::channel());
        let batcher = fixed(1)
            .load_check_interval(Duration::from_millis(1))
            .policy(Looking(Arc::clone(&own), Some((tell, gate.clone())), false))
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        let batcher = Arc::new(batcher);
        let _ = own.set(Arc::clone(&batcher));
        // The controller is busy. When the second policy is set, the first one still waits to take
        // over.
        entered.recv().unwrap();
        for _ in 0..2 {
            let policy = Looking(Arc::clone(&own), None, false);
            batcher
                .reconfigure(|limits| {
                    limits.policy(policy);
                })
                .unwrap();
        }
        gate.open();
        // Now the controller takes the second one, and drops its own.
        assert_eq!(
            entered.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
        assert!(batcher.shutdown(LONG).is_clean());
    });
}

#[test]
fn a_handler_that_cannot_be_made_is_an_error_and_leaves_no_thread_behind() {
    let (alive, gone) = mpsc::channel::<()>();
    let result = Batcher::<u64>::builder().linger(NEVER).spawn_with(move || {
        let _alive = alive;
        if gone_is_odd() {
            std::panic::resume_unwind(Box::new("no connection"));
        }
        |_: &mut Batch<u64>| Ok(LoadFeedback::new())
    });
    match result {
        Err(BuildError::Handler { message, .. }) => assert_eq!(message, "no connection"),
        other => panic!("{other:?}"),
    }
    assert!(gone.recv().is_err());
}

/// True, but the compiler cannot know it.
fn gone_is_odd() -> bool {
    std::hint::black_box(true)
}

#[test]
fn a_handler_that_is_not_send_is_made_and_dropped_on_the_flushers_thread() {
    struct Local(std::rc::Rc<std::thread::ThreadId>, mpsc::Sender<bool>);
    impl Drop for Local {
        fn drop(&mut self) {
            let _ = self.1.send(*self.0 == std::thread::current().id());
        }
    }
    impl Handler<u64> for Local {
        fn handle(&mut self, _: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
            self.1.send(*self.0 == std::thread::current().id())?;
            Ok(LoadFeedback::new())
        }
    }
    let (tell, told) = mpsc::channel();
    let batcher = fixed(1)
        .spawn_with(move || Local(std::rc::Rc::new(std::thread::current().id()), tell))
        .unwrap();
    batcher.add(1).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(told.iter().collect::<Vec<_>>(), [true, true]);
}
