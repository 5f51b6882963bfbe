//! What a wait asks for, in time that the test makes: no thread, no sleep, no clock.

use std::time::{Duration, Instant};

use crate::batch::Trigger;
use crate::flush::lane::Lane;
use crate::flush::lanes::{Lanes, single};
use crate::flush::step::Target;
use crate::flush::step::tests::Look::{self, Lends, Sleeps};
use crate::flush::step::tests::{lane_with, look};
use crate::flush::ticket_line::Handle;
use crate::queue::gate::Patience;
use crate::sync::Arc;
use crate::ticket::{Ticket, pair};

const LINGER: Duration = Duration::from_millis(10);

struct Line {
    lane: Arc<Lane<u64>>,
    lanes: Arc<Lanes<u64>>,
    start: Instant,
    /// The policy's own linger, in milliseconds.
    waited_linger: u64,
    pause_ratio: f64,
}

impl Line {
    fn new(wait_overrides_linger: bool) -> Self {
        let start = crate::sync::now();
        let lane = Arc::new(lane_with(start, wait_overrides_linger, Duration::MAX));
        Self {
            lanes: single(&lane),
            lane,
            start,
            waited_linger: 0,
            pause_ratio: 0.0,
        }
    }

    fn add(&self, item: u64) {
        self.lane.add(item, Patience::Never).expect("there is room");
    }

    fn submit(&self, item: u64) -> Ticket {
        let (resolver, ticket) = pair(self.lane.gate.batcher_id, Handle::shared(&self.lanes, 0));
        self.lane
            .add_tracked(item, Some(resolver), Patience::Never)
            .expect("there is room");
        ticket
    }

    fn time(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    /// A look so many milliseconds after the start, with no call under way; batches of three.
    fn look(&self, millis: u64) -> Look {
        let target = Target {
            batch_size: 3,
            linger: LINGER,
            waited_linger: Duration::from_millis(self.waited_linger),
            pause_ratio: self.pause_ratio,
            probe: false,
            permitted: true,
            rules: crate::flush::retry::Rules {
                retry: crate::flush::retry::Retry::default(),
                idempotent: false,
            },
            chance: 0,
        };
        look(&self.lane, target, self.start, self.time(millis))
    }

    /// Whether a wait would ring now. Takes the flag.
    fn dozes(&self) -> bool {
        self.lane.lock().waited.wake()
    }
}

#[test]
fn a_wait_hands_its_item_over_with_all_in_line_before_it() {
    let line = Line::new(true);
    line.look(0);
    line.add(1);
    let ticket = line.submit(2);
    assert_eq!(line.look(1), Sleeps(Some(11)), "a submit lingers");
    ticket.ask();
    assert_eq!(line.look(2), Lends(vec![1, 2], Trigger::Wait));
}

#[test]
fn a_look_at_the_outcome_and_a_wait_of_no_time_ask_for_nothing() {
    let line = Line::new(true);
    line.look(0);
    let ticket = line.submit(1);
    assert!(ticket.try_wait().is_none() && ticket.wait_timeout(Duration::ZERO).is_none());
    assert!(!line.lane.gate.waiters.has_come());
    assert_eq!(line.look(1), Sleeps(Some(11)));
}

#[test]
fn a_wait_for_an_item_that_has_left_the_line_asks_for_nothing() {
    let line = Line::new(true);
    line.look(0);
    let ticket = line.submit(1);
    line.look(1);
    assert_eq!(line.look(11), Lends(vec![1], Trigger::Linger));
    line.add(2);
    ticket.ask();
    assert!(!line.lane.gate.waiters.has_come());
    assert_eq!(
        line.look(12),
        Sleeps(Some(21)),
        "at the earliest since the look before"
    );
}

#[test]
fn what_is_behind_a_waited_for_item_lingers_once_that_is_gone() {
    let line = Line::new(true);
    line.look(0);
    line.submit(1).ask();
    (2..=4).for_each(|item| line.add(item));
    assert_eq!(line.look(1), Lends(vec![1, 2, 3], Trigger::Size));
    assert_eq!(line.look(2), Sleeps(Some(11)));
}

#[test]
fn a_second_waiter_is_handed_over_too_however_many_are_in_line_before_it() {
    let line = Line::new(true);
    line.look(0);
    line.submit(1).ask();
    (2..=4).for_each(|item| line.add(item));
    line.submit(5).ask();
    assert_eq!(line.look(1), Lends(vec![1, 2, 3], Trigger::Size));
    assert_eq!(line.look(1), Lends(vec![4, 5], Trigger::Wait));
}

#[test]
fn a_wait_does_not_override_a_linger_that_the_policy_asked_for() {
    let line = Line {
        waited_linger: 3,
        ..Line::new(true)
    };
    line.look(0);
    let ticket = line.submit(1);
    assert_eq!(line.look(1), Sleeps(Some(11)));
    ticket.ask();
    assert_eq!(
        line.look(2),
        Sleeps(Some(4)),
        "its age counts from the look that found it"
    );
    assert_eq!(line.look(4), Lends(vec![1], Trigger::Wait));
}

#[test]
fn a_wait_does_not_override_a_pause() {
    let line = Line {
        pause_ratio: 2.0,
        ..Line::new(true)
    };
    line.look(0);
    line.submit(1).ask();
    line.lane.lock().in_progress.paused_after = Some((line.time(0), Duration::from_millis(4)));
    assert_eq!(line.look(1), Sleeps(Some(8)));
    assert_eq!(line.look(8), Lends(vec![1], Trigger::Wait));
}

#[test]
fn a_wait_overrides_nothing_where_the_builder_says_so() {
    let line = Line::new(false);
    line.look(0);
    line.submit(1).ask();
    assert_eq!(line.look(1), Sleeps(Some(11)));
    assert_eq!(line.look(11), Lends(vec![1], Trigger::Linger));
}

#[test]
fn the_flusher_is_rung_once_a_hand_over_and_only_while_it_dozes() {
    let line = Line::new(true);
    assert_eq!(line.look(0), Sleeps(None));
    assert!(
        !line.dozes(),
        "the send itself wakes a flusher that has nothing"
    );
    let tickets = [1, 2].map(|item| line.submit(item));
    line.look(1);
    tickets[0].ask();
    assert!(!line.dozes(), "the first has rung");
    tickets[1].ask();
    let line = Line {
        waited_linger: 3,
        ..line
    };
    line.look(2);
    assert!(
        !line.dozes(),
        "it sleeps for the policy's linger, and knows of the wait"
    );
    line.submit(3).ask();
    assert_eq!(line.look(4), Lends(vec![1, 2, 3], Trigger::Size));
}
