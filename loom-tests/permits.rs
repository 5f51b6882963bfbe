//! Permits for calls, and the close of two lanes.

use std::time::Duration;

use super::{model, thread};
use crate::exchange::call_permits::{Answer, Asked, CallPermits, LaneEnd, Wish};
use crate::flush::backlog::Backlog;
use crate::flush::dead_letters::FailedRows;
use crate::flush::lane::Lane;
use crate::flush::lanes::{Lanes, several};
use crate::flush::lifecycle::CloseTerms;
use crate::flush::retained::Budget;
use crate::queue::gate::{GateSettings, Patience};
use crate::sync::{Arc, AtomicUsize, Ordering, Parker, next_serial, now};
use crate::wakeup::Doorbell;

const WISH: Wish = Wish {
    due: None,
    carryover: 1,
};

fn asked() -> Asked {
    Asked {
        now: now(),
        pause_ratio: 0.0,
    }
}

/// Permits for two lanes, and where their flushers sleep.
fn two_lanes(limit: usize) -> (Arc<CallPermits>, [Parker; 2], [Arc<Doorbell>; 2]) {
    let parkers = [Parker::new(), Parker::new()];
    let doorbells = [0, 1].map(|lane: usize| Arc::new(Doorbell::new(&parkers[lane])));
    let ends = doorbells.iter().map(|doorbell| LaneEnd {
        doorbell: Arc::clone(doorbell),
        in_channel: Box::new(|| 0),
    });
    let permits = CallPermits::new(limit, ends.collect());
    (Arc::new(permits), parkers, doorbells)
}

/// A flusher's way to a permit.
fn wait(permits: &CallPermits, lane: usize, parker: &Parker, doorbell: &Doorbell) {
    while permits.ask(lane, WISH, asked()) != Answer::Granted {
        doorbell.sleep(parker, 0, None, || permits.holds(lane));
    }
}

/// Each of two lanes calls once, and only one may call at a time.
fn one_permit() {
    let (permits, [own, other], doorbells) = two_lanes(1);
    let running = Arc::new(AtomicUsize::new(0));
    let call = |lane: usize, parker: Parker| {
        let (permits, running) = (Arc::clone(&permits), Arc::clone(&running));
        let doorbell = Arc::clone(&doorbells[lane]);
        move || {
            wait(&permits, lane, &parker, &doorbell);
            // Relaxed: the permits' lock must order it. Otherwise the count is wrong.
            assert_eq!(running.fetch_add(1, Ordering::Relaxed), 0, "alone");
            running.fetch_sub(1, Ordering::Relaxed);
            permits.call_ended(lane, Duration::ZERO, asked());
        }
    };
    let beside = thread::spawn(call(1, other));
    call(0, own)();
    beside.join().unwrap();
    assert_eq!(permits.in_use(), (0, 1));
}

#[test]
fn a_permit_that_is_given_back_wakes_the_lane_that_waits() {
    model("permits: one for two lanes", 40, one_permit);
}

/// A lane no longer needs the permit that it was granted. The other lane gets it.
fn not_wanted() {
    let (permits, [_, other], doorbells) = two_lanes(1);
    assert_eq!(permits.ask(0, WISH, asked()), Answer::Granted);
    let beside = {
        let (permits, doorbell) = (Arc::clone(&permits), Arc::clone(&doorbells[1]));
        thread::spawn(move || wait(&permits, 1, &other, &doorbell))
    };
    permits.give_back(0, asked());
    beside.join().unwrap();
    assert!(permits.holds(1));
}

#[test]
fn a_permit_that_is_not_wanted_wakes_the_lane_that_waits() {
    model("permits: one is not wanted", 6, not_wanted);
}

/// More calls are allowed while a lane falls asleep.
fn more_calls() {
    let (permits, [_, other], doorbells) = two_lanes(1);
    assert_eq!(permits.ask(0, WISH, asked()), Answer::Granted);
    let beside = {
        let (permits, doorbell) = (Arc::clone(&permits), Arc::clone(&doorbells[1]));
        thread::spawn(move || wait(&permits, 1, &other, &doorbell))
    };
    // As the setpoint does when it is published.
    permits.set_limit(2);
    doorbells.iter().for_each(|doorbell| doorbell.ring());
    beside.join().unwrap();
    assert_eq!(permits.in_use(), (2, 2));
}

#[test]
fn more_calls_at_once_wake_the_lane_that_waits() {
    model("permits: one more", 6, more_calls);
}

/// Two lanes without flushers.
fn lanes() -> Arc<Lanes<u32>> {
    let (serial, budget) = (next_serial(), Budget::new(usize::MAX));
    let lane = |place| {
        let settings = GateSettings {
            capacity: 2,
            weigher: None,
            is_routed: false,
            wait_overrides_linger: true,
            stall_timeout: super::parts::LONG,
        };
        let failed = FailedRows {
            has_hook: false,
            keep: budget.clone(),
        };
        let doorbell = Arc::new(Doorbell::new(&Parker::new()));
        Arc::new(Lane::new(settings, doorbell, serial, true, |outlet| {
            Backlog::new(outlet, failed, 0, place, now())
        }))
    };
    several(Box::new([lane(0), lane(1)]))
}

/// A thread adds to one lane and then to the other, while both are closed.
fn add_beside_close(first: usize) {
    let lanes = lanes();
    let producer = {
        let lanes = Arc::clone(&lanes);
        thread::spawn(move || {
            let place = |place: usize| &lanes.all()[place];
            let before = place(first).add(1, Patience::Never).is_ok();
            let after = place(1 - first).add(2, Patience::Never).is_ok();
            assert!(before || !after, "Ok after Closed");
            u64::from(before) + u64::from(after)
        })
    };
    assert!(lanes.close(CloseTerms::default(), true, now()));
    let accepted = producer.join().unwrap();
    let mut backlogs = lanes.lock();
    let unsent = backlogs.iter_mut().map(|backlog| {
        let (unsent, _) = backlog.drain_for_report();
        unsent.len() as u64
    });
    assert_eq!(unsent.sum::<u64>(), accepted, "each ends once");
}

#[test]
fn who_was_refused_by_a_closed_lane_is_refused_by_the_other() {
    model("lanes: the last, then the first", 190, || {
        add_beside_close(1)
    });
    model("lanes: the first, then the last", 190, || {
        add_beside_close(0)
    });
}
