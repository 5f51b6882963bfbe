//! A frozen server: it answers nothing and keeps its connections.

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

/// Adds and flushes end at their deadlines while the server is frozen. Row 0 is stored before, and
/// the others are added while it is frozen, until the queue is full. Returns how many rows were
/// accepted. By then the server runs again, and all of them must be stored.
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
        // In every case, since a blocked call would wait for it forever.
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

/// A close ends at its deadline while the server is frozen, and reports what is in doubt. In the
/// end two rows are stored, the second one by the abandoned handler.
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
        // A close that waits for the server must fail the test, not hang it.
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
    // The abandoned handler returns and is counted.
    until(batcher, |stats| stats.abandoned == 0);
}

/// Stores row 0. Then it freezes the server while row 1 is in flight, so that no more rows leave
/// the queue.
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
