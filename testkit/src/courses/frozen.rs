//! A server that is frozen: it answers nothing and keeps its connections.

use std::fmt::Debug;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use load_aware_batcher::{AddError, Batcher, CloseReport, FlushError, Outcome};

use super::{NET, tried_again};
use crate::waiting::until;

/// What a driver does while its server is frozen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// It waits for the answer.
    Waits,
    /// It gives up on the answer, so the call fails.
    GivesUp,
}

/// Adds and flushes end at their deadlines while the server is frozen. Row 0 goes before, the
/// others while it is frozen; the queue has a bound that they reach. Returns how many rows were
/// accepted; the server is thawed then, and all of them are to be stored.
pub fn hold_deadlines<T: Send + Debug + PartialEq + 'static>(
    batcher: &Batcher<T>,
    row: impl Fn(i64) -> T,
    driver: Driver,
    freeze: impl FnOnce(),
    thaw: impl FnOnce() + Send,
) -> i64 {
    freeze_in_a_call(batcher, &row, freeze);
    let before = tried_again(&batcher.stats());
    std::thread::scope(|scope| {
        let (returned, all_returned) = mpsc::channel::<()>();
        // In any case: a call that does not return would wait for it forever.
        let frozen = scope.spawn(move || {
            let in_time = all_returned.recv_timeout(NET) == Err(RecvTimeoutError::Disconnected);
            thaw();
            in_time
        });
        let mut added = 2;
        let refused = loop {
            match batcher.add_timeout(row(added), Duration::from_millis(50)) {
                Ok(()) => added += 1,
                Err(refused) => break refused,
            }
            assert!(!frozen.is_finished(), "an add waited for the server");
        };
        assert_eq!(refused, AddError::Timeout(row(added)));
        let flushed = batcher.flush(Duration::from_millis(50));
        assert_eq!(flushed, Err(FlushError::Timeout));
        assert!(batcher.try_add(row(added)).unwrap_err().is_full());
        if driver == Driver::GivesUp {
            until(batcher, |stats| tried_again(stats) > before);
        }
        drop(returned);
        let in_time = frozen.join().unwrap();
        assert!(in_time, "all of it returned while the server was frozen");
        added
    })
}

/// A close ends at its deadline while the server is frozen, and reports what is in doubt. Two rows
/// are stored in the end, the second by the handler that was left behind.
pub fn close_at_the_deadline<T: Send + Debug + 'static>(
    batcher: &Batcher<T>,
    row: impl Fn(i64) -> T,
    freeze: impl FnOnce(),
    thaw: impl Fn() + Send + Sync,
) {
    let in_flight = freeze_in_a_call(batcher, &row, freeze);
    batcher.add_many((2..50).map(row)).unwrap();
    let report: CloseReport<T> = std::thread::scope(|scope| {
        let (closed, in_time) = mpsc::channel::<()>();
        // A close that waits for the server is to fail and not to hang.
        scope.spawn(|| {
            let in_time = in_time;
            if in_time.recv_timeout(NET) == Err(RecvTimeoutError::Timeout) {
                thaw();
            }
        });
        let report = batcher.shutdown(Duration::from_millis(200));
        drop(closed);
        report
    });
    assert_eq!(
        (report.abandoned, report.unsent.len(), report.handled),
        (1, 48, 1),
        "{report:?}"
    );
    assert_eq!(in_flight.wait(), Outcome::InDoubt);
    thaw();
    // The handler that was left behind comes back and is counted.
    until(batcher, |stats| stats.abandoned == 0);
}

/// Row 0 is stored. Then the server is frozen, and the call with row 1 is under way: nothing more
/// leaves the queue.
fn freeze_in_a_call<T: Send + 'static>(
    batcher: &Batcher<T>,
    row: &impl Fn(i64) -> T,
    freeze: impl FnOnce(),
) -> load_aware_batcher::Ticket {
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(NET), Ok(()));
    let calls = batcher.stats().calls;
    freeze();
    let ticket = batcher.submit(row(1)).unwrap();
    batcher.request_flush();
    until(batcher, |stats| stats.calls > calls);
    ticket
}
