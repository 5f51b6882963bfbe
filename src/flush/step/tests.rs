//! When a batch goes, in time that the test makes: no thread, no sleep, no clock.

use super::*;
use crate::flush::dead_letters::FailedRows;
use crate::flush::lane::Lane;
use crate::flush::retained::Budget;
use crate::queue::gate::{GateSettings, Patience, STALL_TIMEOUT};
use crate::sync::{Arc, Parker};
use crate::wakeup::Doorbell;

/// Milliseconds.
const LINGER: u64 = 10;

/// A queue and what the flusher would do at a look at it.
struct Line {
    lane: Lane<u64>,
    start: Instant,
    batch_size: usize,
}

/// What the flusher would do.
#[derive(Debug, PartialEq)]
pub(crate) enum Look {
    Lends(Vec<u64>, Trigger),
    /// Until so many milliseconds after the start, or for good.
    Sleeps(Option<u64>),
}

use Look::{Lends, Sleeps};

/// A queue of nothing, with room for 1 024 items, no hook and no bound of kept rows.
pub(crate) fn empty_lane(start: Instant) -> Lane<u64> {
    lane_with(start, true, STALL_TIMEOUT)
}

/// The same with these settings.
pub(crate) fn lane_with(
    start: Instant,
    wait_overrides_linger: bool,
    stall_timeout: Duration,
) -> Lane<u64> {
    let doorbell = Arc::new(Doorbell::new(&Parker::new()));
    let serial = crate::sync::next_serial();
    let settings = GateSettings {
        capacity: 1_024,
        weigher: None,
        is_routed: false,
        wait_overrides_linger,
        stall_timeout,
    };
    Lane::new(settings, doorbell, serial, false, |outlet| {
        let failed = FailedRows {
            has_hook: false,
            keep: Budget::new(usize::MAX),
        };
        Backlog::new(outlet, failed, 0, 0, start)
    })
}

/// A look at the queue, with no call under way.
pub(crate) fn look(lane: &Lane<u64>, target: Target, start: Instant, now: Instant) -> Look {
    match lane.lock().next(&lane.gate, target, now).step {
        Step::Call(batch) => Lends(batch.to_vec(), batch.trigger()),
        Step::Sleep { deadline, .. } => {
            Sleeps(deadline.map(|time| time.duration_since(start).as_millis() as u64))
        }
        Step::Hook(_) | Step::Stop | Step::AwaitPermit { .. } => {
            unreachable!("nothing failed and nobody closed")
        }
    }
}

impl Line {
    fn new(batch_size: usize) -> Self {
        let start = crate::sync::now();
        Self {
            lane: empty_lane(start),
            start,
            batch_size,
        }
    }

    fn add(&self, item: u64) {
        self.lane.add(item, Patience::Never).expect("there is room");
    }

    fn add_many(&self, items: impl IntoIterator<Item = u64>) {
        self.lane
            .add_many(items, Patience::Never)
            .expect("there is room");
    }

    /// A look so many milliseconds after the start, with no call under way.
    fn look(&self, millis: u64) -> Look {
        let linger = Duration::from_millis(LINGER);
        let target = Target {
            batch_size: self.batch_size,
            linger,
            waited_linger: Duration::ZERO,
            pause_ratio: 0.0,
            probe: false,
            permitted: true,
            rules: Rules {
                retry: Retry::default(),
                idempotent: false,
            },
            chance: 0,
        };
        let now = self.start + Duration::from_millis(millis);
        look(&self.lane, target, self.start, now)
    }
}

#[test]
fn an_item_goes_by_size_at_once_or_by_its_age() {
    let line = Line::new(3);
    assert_eq!(line.look(0), Sleeps(None));
    line.add(1);
    assert_eq!(line.look(5), Sleeps(Some(15)));
    assert_eq!(line.look(14), Sleeps(Some(15)));
    assert_eq!(line.look(15), Lends(vec![1], Trigger::Linger));
    line.add_many([2, 3, 4, 5]);
    assert_eq!(line.look(16), Lends(vec![2, 3, 4], Trigger::Size));
}

#[test]
fn a_batch_that_went_leaves_no_timer_behind() {
    let line = Line::new(3);
    line.look(0);
    line.add(0);
    assert_eq!(line.look(1), Sleeps(Some(11)));
    line.add_many([1, 2]);
    assert_eq!(line.look(9), Lends(vec![0, 1, 2], Trigger::Size));
    assert_eq!(line.look(9), Sleeps(None));
    line.add(3);
    assert_eq!(line.look(10), Sleeps(Some(20)));
    assert_eq!(line.look(19), Sleeps(Some(20)));
    assert_eq!(line.look(20), Lends(vec![3], Trigger::Linger));
}

#[test]
fn what_comes_behind_it_does_not_keep_the_first_item_waiting() {
    let line = Line::new(1_000);
    line.look(0);
    for n in 0..LINGER {
        line.add(n);
        assert_eq!(line.look(n), Sleeps(Some(LINGER)), "a look with the {n}th");
    }
    assert_eq!(
        line.look(LINGER),
        Lends((0..LINGER).collect(), Trigger::Linger)
    );
}

#[test]
fn what_was_queued_behind_a_slow_call_is_overdue_and_goes_next() {
    let line = Line::new(2);
    line.add_many([1, 2]);
    assert_eq!(line.look(0), Lends(vec![1, 2], Trigger::Size));
    // At 1, while the call runs.
    line.add(3);
    assert_eq!(line.look(100), Lends(vec![3], Trigger::Linger));
    // And after a call that did not take as long as that, it waits for the rest.
    line.add_many([4, 5]);
    assert_eq!(line.look(100), Lends(vec![4, 5], Trigger::Size));
    line.add(6);
    assert_eq!(line.look(107), Sleeps(Some(110)));
    assert_eq!(line.look(110), Lends(vec![6], Trigger::Linger));
}

#[test]
fn the_rest_of_a_chunk_keeps_its_age() {
    for (call, next) in [
        (100, Lends(vec![3], Trigger::Linger)),
        (4, Sleeps(Some(LINGER))),
    ] {
        let line = Line::new(2);
        line.look(0);
        line.add_many([1, 2, 3]);
        assert_eq!(line.look(0), Lends(vec![1, 2], Trigger::Size));
        assert_eq!(line.look(call), next);
        assert!(call == 100 || line.look(LINGER) == Lends(vec![3], Trigger::Linger));
    }
}
