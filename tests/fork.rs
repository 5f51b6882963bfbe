//! A forked child has a copy of the batcher and none of its threads. Its calls return at once, and
//! the rows stay with the parent.
#![cfg(all(unix, not(any(loom, shuttle))))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid_nohang};
use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, Builder, FlushError, LoadFeedback, Outcome,
};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Gate, LONG, fixed};

/// The result of the checks in the child. The child cannot print: threads that it does not have may
/// hold the locks for that.
#[derive(Default)]
struct Checks {
    made: u8,
    first_failed: u8,
}

impl Checks {
    fn check(&mut self, holds: bool) {
        self.made += 1;
        if !holds && self.first_failed == 0 {
            self.first_failed = self.made;
        }
    }
}

const PANICKED: u8 = 101;

/// Runs the body in a forked child. Returns the number of the first check that failed, or 0. A
/// child that hangs is killed.
fn in_child(body: impl FnOnce(&mut Checks)) -> u8 {
    let child = match fork().unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            let mut checks = Checks::default();
            let result = catch_unwind(AssertUnwindSafe(|| body(&mut checks)));
            exit(i32::from(if result.is_err() {
                PANICKED
            } else {
                checks.first_failed
            }))
        }
    };
    let begun = Instant::now();
    loop {
        if let Some(status) = waitpid_nohang(child).unwrap() {
            // The exit code is in the second byte of the status. The first byte shows whether a
            // signal ended it.
            assert_eq!(status & 0x7f, 0, "ended by a signal");
            return (status >> 8) as u8;
        }
        if begun.elapsed() > LONG {
            kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);
static REPORTED: AtomicUsize = AtomicUsize::new(0);

/// Counts its drops in the process where they happen.
#[derive(Debug)]
struct Row;

impl Drop for Row {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
    }
}

/// A batcher whose handler holds the first item until the gate is opened.
fn held<T: Send + 'static>(first: T, builder: Builder<T>) -> (Batcher<T>, Gate) {
    let gate = Gate::default();
    let entered = std::sync::mpsc::channel();
    let shut = gate.clone();
    let batcher = builder
        .spawn(move |_: &mut Batch<T>| {
            let _ = entered.0.send(());
            shut.wait();
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(first).unwrap();
    batcher.request_flush();
    entered.1.recv_timeout(LONG).unwrap();
    (batcher, gate)
}

fn at_once<R>(checks: &mut Checks, call: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = call();
    checks.check(begun.elapsed() < LONG / 2);
    result
}

/// Scenario 55.
#[test]
fn a_close_in_the_child_is_over_at_once_and_has_none_of_the_parents_rows() {
    let (batcher, gate) = held(0, fixed(4));
    (1..=6).for_each(|row| batcher.add(row).unwrap());
    let failed_check = in_child(|checks| {
        let report = at_once(checks, || batcher.shutdown(LONG));
        checks.check(report.unsent.is_empty() && report.failed.is_empty() && report.abandoned == 0);
        checks.check(report.handled + report.failed_total + report.unsent_total == 0);
        checks.check(report.forked && !report.is_clean() && !report.timed_out);
        let again = batcher.shutdown(LONG);
        checks.check(again.forked && again.unsent.is_empty());
        checks.check(batcher.try_add(9) == Err(AddError::Closed(9)));
    });
    assert_eq!(failed_check, 0);
    gate.open();
    let report = batcher.close(LONG);
    assert_eq!(
        (report.handled, report.is_clean(), report.forked),
        (7, true, false),
        "the parent has them all"
    );
}

#[test]
fn calls_that_would_wait_in_the_child_return_closed() {
    // One child for each call that waits: the first such call closes the child's copy.
    type Call = fn(&Batcher<u32>) -> bool;
    let calls: [Call; 6] = [
        |b| b.add(9) == Err(AddError::Closed(9)),
        |b| b.add_timeout(9, LONG) == Err(AddError::Closed(9)),
        |b| b.add_many([8, 9]) == Err(AddError::Closed(vec![8, 9])),
        |b| b.submit(9).err() == Some(AddError::Closed(9)),
        |b| b.flush(LONG) == Err(FlushError::Closed),
        |b| b.producer().flush(LONG) == Err(FlushError::Closed),
    ];
    let builder = || fixed(4).queue_capacity(4).max_batch_weight(9, |_| 1);
    for (by_weight, builder) in [
        (false, builder()),
        (true, builder().max_queue_weight(9).queue_capacity(64)),
    ] {
        let (batcher, gate) = held(0, builder);
        let mut waiting = 0;
        while batcher.try_add(1).is_ok() {
            waiting += 1;
        }
        while !by_weight && batcher.try_add_many([1]).is_ok() {
            waiting += 1;
        }
        for (number, call) in calls.iter().enumerate() {
            let failed_check = in_child(|checks| {
                let closed = at_once(checks, || call(&batcher));
                checks.check(closed);
                checks.check(batcher.try_add(9) == Err(AddError::Closed(9)));
                at_once(checks, || drop(batcher.producer().clone()));
            });
            assert_eq!(failed_check, 0, "call {number}, by weight: {by_weight}");
        }
        gate.open();
        assert_eq!(batcher.close(LONG).handled, 1 + waiting);
    }
}

#[test]
fn a_ticket_in_the_child_is_in_doubt_unless_it_had_its_outcome() {
    let (batcher, gate) = held(0, fixed(4));
    let ticket = batcher.submit(1).unwrap();
    let failed_check = in_child(|checks| {
        checks.check(ticket.try_wait().is_none());
        let outcome = at_once(checks, || ticket.wait_timeout(LONG));
        checks.check(outcome == Some(Outcome::InDoubt));
    });
    assert_eq!(failed_check, 0);
    gate.open();
    batcher.flush(LONG).unwrap();
    let failed_check =
        in_child(|checks| checks.check(ticket.wait_timeout(LONG) == Some(Outcome::Handled)));
    assert_eq!(failed_check, 0);
    assert_eq!(ticket.wait(), Outcome::Handled);
}

#[test]
fn failed_rows_stay_the_parents() {
    let batcher = fixed(1)
        .spawn(|_: &mut Batch<u32>| Err(BatchError::permanent("no")))
        .unwrap();
    batcher.add(1).unwrap();
    assert!(batcher.flush(LONG).is_err());
    assert_eq!(
        in_child(|checks| checks.check(batcher.take_failed().is_empty())),
        0
    );
    assert_eq!(batcher.take_failed().len(), 1);
}

#[test]
fn a_drop_in_the_child_is_over_at_once_and_drops_no_row() {
    let (batcher, gate) = held(
        Row,
        fixed(4).close_timeout(LONG).on_close(|_| {
            REPORTED.fetch_add(1, SeqCst);
        }),
    );
    (1..=6).for_each(|_| batcher.add(Row).unwrap());
    let mut batcher = Some(batcher);
    let failed_check = in_child(|checks| {
        at_once(checks, || drop(batcher.take()));
        checks.check(DROPPED.load(SeqCst) + REPORTED.load(SeqCst) == 0);
    });
    assert_eq!(failed_check, 0);
    gate.open();
    assert_eq!(batcher.unwrap().close(LONG).handled, 7);
    assert_eq!(
        DROPPED.load(SeqCst),
        7,
        "in the parent each is dropped once"
    );
}

#[test]
fn a_batcher_that_the_child_starts_itself_works() {
    let (batcher, gate) = held(0, fixed(4));
    let failed_check = in_child(|checks| {
        let own = fixed(4)
            .spawn(|_: &mut Batch<u32>| Ok(LoadFeedback::new()))
            .unwrap();
        checks.check(own.add_many(0..10) == Ok(10));
        checks.check(own.flush(LONG) == Ok(()));
        let report = own.close(LONG);
        checks.check(report.handled == 10 && report.is_clean());
        checks.check(batcher.shutdown(LONG).forked);
    });
    assert_eq!(failed_check, 0);
    gate.open();
    assert!(batcher.close(LONG).is_clean());
}
