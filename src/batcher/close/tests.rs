//! What a close does with what waits: the test does what the flusher would, in time that it makes.

use std::time::Instant;

use super::*;
use crate::batch::{Batch, Mark, Trigger};
use crate::batcher::threads::Latch;
use crate::control::limits::Limits;
use crate::error::BatchError;
use crate::exchange::ring::Ring;
use crate::flush::backlog::Backlog;
use crate::flush::complete::{FailedCall, Finished, Marked};
use crate::flush::dead_letters::FailedRows;
use crate::flush::lane::Lane;
use crate::flush::lanes::single;
use crate::flush::retained::Budget;
use crate::flush::retry::{Retry, Rules};
use crate::flush::step::{Step, Target};
use crate::flush::ticket_line::Handle;
use crate::policy::Concurrency;
use crate::queue::gate::{GateSettings, Patience};
use crate::sync::{Parker, next_serial};
use crate::ticket::{Outcome, Ticket, pair};
use crate::wakeup::Doorbell;

const LONG: Duration = Duration::from_secs(3_600);

/// A queue whose flusher is the test. Times are milliseconds since its start.
pub(crate) struct ByHand {
    pub(crate) lane: Arc<Lane<u64>>,
    pub(crate) lanes: Arc<Lanes<u64>>,
    start: Instant,
    target: Target,
}

impl ByHand {
    /// Batches of this size, a linger of an hour, and no more than `kept` failed rows.
    pub(crate) fn new(batch_size: usize, kept: usize) -> Self {
        let start = now();
        let doorbell = Arc::new(Doorbell::new(&Parker::new()));
        let settings = GateSettings {
            capacity: 1_024,
            weigher: None,
            is_routed: false,
            wait_overrides_linger: true,
            stall_timeout: LONG,
        };
        let failed = FailedRows {
            has_hook: false,
            keep: Budget::new(kept),
        };
        let lane = Lane::new(settings, doorbell, next_serial(), false, |outlet| {
            Backlog::new(outlet, failed, 0, 0, start)
        });
        let rules = Rules {
            retry: Retry::default(),
            idempotent: false,
        };
        let lane = Arc::new(lane);
        Self {
            lanes: single(&lane),
            lane,
            start,
            target: Target {
                batch_size,
                linger: LONG,
                waited_linger: LONG,
                pause_ratio: 0.0,
                probe: false,
                permitted: true,
                rules,
                chance: u64::MAX,
            },
        }
    }

    pub(crate) fn add(&self, items: impl IntoIterator<Item = u64>) {
        for item in items {
            self.lane.add(item, Patience::Never).expect("there is room");
        }
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

    pub(crate) fn next(&self, millis: u64) -> Step<u64> {
        let now = self.time(millis);
        self.lane
            .lock()
            .next(&self.lane.gate, self.target, now)
            .step
    }

    pub(crate) fn call(&self, millis: u64) -> Box<Batch<u64>> {
        match self.next(millis) {
            Step::Call(batch) => batch,
            _ => panic!("nothing is called at {millis} ms"),
        }
    }

    fn complete(
        &self,
        batch: Box<Batch<u64>>,
        result: Result<Vec<Marked<u64>>, FailedCall>,
        millis: u64,
    ) {
        let finished = Finished {
            batch,
            result,
            service_time: Duration::from_millis(1),
            now: self.time(millis),
        };
        let mut backlog = self.lane.lock();
        let left = backlog.complete(
            &self.lane.gate,
            finished,
            &self.target,
            self.target.batch_size,
        );
        assert!(left.failed.is_empty(), "somebody takes what failed");
    }

    pub(crate) fn went_through(&self, mut batch: Box<Batch<u64>>, millis: u64) {
        batch.items.clear();
        self.complete(batch, Ok(Vec::new()), millis);
    }

    pub(crate) fn failed(&self, batch: Box<Batch<u64>>, error: BatchError, millis: u64) {
        self.complete(batch, Err((error, Vec::new())), millis);
    }

    /// The first row is asked for again, no sooner than in an hour; the others went through.
    fn asked_again(&self, batch: Box<Batch<u64>>, millis: u64) {
        let error = BatchError::transient("busy").retry_after(LONG);
        self.asked_again_with(error, batch, millis);
    }

    fn asked_again_with(&self, error: BatchError, mut batch: Box<Batch<u64>>, millis: u64) {
        let item = batch.items.remove(0);
        batch.items.clear();
        let mark = Mark { error, again: true };
        let marked = Marked {
            index: 0,
            item,
            mark,
            weight: 0,
        };
        self.complete(batch, Ok(vec![marked]), millis);
    }

    fn close(&self, terms: CloseTerms, millis: u64) {
        let now = self.time(millis);
        assert!(self.lane.lock().close(&self.lane.gate, terms, now));
    }

    /// A close that begins and ends then.
    fn close_until(&self, millis: u64, end: u64) {
        let terms = CloseTerms {
            deadline: Some(self.time(end)),
            ..CloseTerms::default()
        };
        self.close(terms, millis);
    }

    /// What a closer takes: unsent items; failed ones, each with the calls that it was in.
    fn seize(&self) -> (Vec<u64>, Vec<(u64, u32)>) {
        let (unsent, failed) = self.lane.lock().drain_for_report();
        let failed = failed
            .iter()
            .map(|failed| (failed.item, failed.attempts))
            .collect();
        (unsent, failed)
    }

    /// Handled, failed, unsent.
    fn counts(&self) -> (u64, u64, u64) {
        let counts = &self.lane.lock().counts;
        (counts.handled, counts.failed, counts.unsent)
    }

    /// A core around the queue, without threads.
    fn core(&self) -> Core<u64> {
        let no_thread = || {
            let ended = Arc::new(Latch::new());
            ended.open();
            Thread {
                ended,
                handle: Mutex::new(None),
            }
        };
        let setpoint = Arc::clone(self.lanes.setpoint());
        let limits = Limits::new(1, 1, LONG, Concurrency::default());
        let alarm = Doorbell::new(&Parker::new());
        Core {
            lanes: Arc::clone(&self.lanes),
            reporter: Arc::new(Reporter::new(Ring::new(1).0, Vec::new(), alarm)),
            control: Arc::new(Control::new(limits, setpoint, now(), 1_024, 1)),
            flushers: vec![no_thread()],
            controller: no_thread(),
            on_close: Arc::new(Mutex::new(None)),
        }
    }
}

fn lost() -> BatchError {
    BatchError::transient("lost")
}

#[test]
fn a_close_without_time_calls_nothing_more() {
    let line = ByHand::new(2, usize::MAX);
    line.add([1, 2, 3]);
    line.close_until(0, 0);
    assert!(matches!(line.next(0), Step::Stop));
    assert_eq!(line.seize(), (vec![1, 2, 3], vec![]));
    assert_eq!(line.counts(), (0, 0, 3));
}

#[test]
fn a_close_hands_over_what_is_left_without_waiting_for_anything() {
    let mut line = ByHand::new(2, usize::MAX);
    line.target.pause_ratio = 1_000.0;
    line.add([1, 2, 3]);
    let batch = line.call(0);
    line.went_through(batch, 1);
    assert!(matches!(line.next(1), Step::Sleep { .. }), "it pauses");
    line.close_until(1, 1_000);
    let batch = line.call(1);
    assert_eq!((batch.to_vec(), batch.trigger()), (vec![3], Trigger::Close));
    line.went_through(batch, 2);
    assert!(matches!(line.next(2), Step::Stop));
    assert_eq!(line.counts(), (3, 0, 0));
}

#[test]
fn what_was_called_comes_back_failed_and_the_rest_unsent() {
    let line = ByHand::new(2, usize::MAX);
    line.add(1..=5);
    let batch = line.call(0);
    // No further attempt fits into the nine milliseconds that are left.
    line.close_until(0, 10);
    line.failed(batch, lost(), 1);
    assert!(matches!(line.next(1), Step::Stop));
    assert_eq!(line.counts(), (0, 2, 3), "counted before a closer comes");
    assert_eq!(line.seize(), (vec![3, 4, 5], vec![(1, 1), (2, 1)]));
    assert_eq!(line.lane.lock().lifecycle.last_error, Some(lost()));
    assert_eq!(line.seize(), (vec![], vec![]), "once");
    assert_eq!(line.counts(), (0, 2, 3));
}

#[test]
fn a_row_asked_for_again_behind_the_end_comes_back_failed_at_once() {
    let line = ByHand::new(2, usize::MAX);
    line.add([1, 2]);
    let batch = line.call(0);
    line.asked_again(batch, 1);
    line.close_until(1, 1_000);
    assert!(matches!(line.next(1), Step::Stop), "not at the deadline");
    assert_eq!(line.seize(), (vec![], vec![(1, 1)]));
    assert_eq!(line.counts(), (1, 1, 0));
    let error = line.lane.lock().lifecycle.last_error.take();
    assert_eq!(error.map(|error| error.to_string()), Some("busy".into()));
}

#[test]
fn the_first_row_of_all_waits_for_its_backoff_too() {
    let line = ByHand::new(1, usize::MAX);
    line.add([1]);
    let batch = line.call(0);
    line.asked_again_with(BatchError::transient("busy"), batch, 1);
    // The jitter is drawn: here each wait is the longest.
    let Step::Sleep { deadline, .. } = line.next(1) else {
        panic!("it is called without a wait");
    };
    assert!(deadline > Some(line.time(50)), "{deadline:?}");
}

#[test]
fn a_close_cuts_the_backoff_of_a_row_asked_for_again_and_leaves_half_of_the_time_to_the_next() {
    let mut line = ByHand::new(1, usize::MAX);
    line.target.rules.retry = Retry::default().backoff(LONG, LONG);
    let busy = || BatchError::transient("busy");
    line.add([1]);
    let batch = line.call(0);
    line.asked_again_with(busy(), batch, 1);
    assert!(matches!(line.next(1), Step::Sleep { .. }), "a backoff");
    line.close_until(1, 1_001);
    let batch = line.call(1);
    line.asked_again_with(busy(), batch, 1);
    let Step::Sleep { deadline, .. } = line.next(1) else {
        panic!("it is called without a wait");
    };
    assert_eq!(deadline, Some(line.time(501)));
    let batch = line.call(501);
    line.went_through(batch, 502);
    assert!(matches!(line.next(502), Step::Stop));
    assert_eq!(line.counts(), (1, 0, 0));
}

#[test]
fn a_row_asked_for_again_is_not_called_where_its_call_may_outlast_the_close() {
    for (left, called) in [(60, true), (40, false)] {
        let line = ByHand::new(1, usize::MAX);
        line.add([1]);
        let batch = line.call(0);
        line.asked_again_with(BatchError::transient("busy"), batch, 1);
        line.close_until(1, 1 + left);
        assert_eq!(matches!(line.next(1), Step::Call(_)), called, "{left} ms");
        if !called {
            assert_eq!(line.seize(), (vec![], vec![(1, 1)]));
        }
    }
}

#[test]
fn a_row_asked_for_again_while_a_panic_drops_the_owner_has_failed() {
    for (one_attempt, failed) in [(true, 1), (false, 0)] {
        let line = ByHand::new(2, usize::MAX);
        line.add([1, 2]);
        let terms = CloseTerms {
            one_attempt,
            ..CloseTerms::default()
        };
        line.close(terms, 0);
        let batch = line.call(0);
        line.asked_again_with(BatchError::transient("busy"), batch, 1);
        assert_eq!(line.counts(), (1, failed, 0));
    }
}

#[test]
fn a_close_goes_on_with_a_failed_batch_while_an_attempt_fits() {
    let line = ByHand::new(2, usize::MAX);
    line.add(1..=3);
    let batch = line.call(0);
    line.failed(batch, lost(), 1);
    assert!(matches!(line.next(1), Step::Sleep { .. }), "a backoff");
    line.close_until(2, 1_000);
    let batch = line.call(2);
    assert_eq!((batch.to_vec(), batch.attempt()), (vec![1, 2], 2));
    line.went_through(batch, 3);
    let batch = line.call(3);
    line.went_through(batch, 4);
    assert!(matches!(line.next(4), Step::Stop));
    assert_eq!(line.counts(), (3, 0, 0));
}

#[test]
fn what_fails_while_a_panic_drops_the_owner_has_failed() {
    for (one_attempt, failed) in [(true, 2), (false, 0)] {
        let line = ByHand::new(2, usize::MAX);
        line.add([1, 2]);
        let terms = CloseTerms {
            one_attempt,
            ..CloseTerms::default()
        };
        line.close(terms, 0);
        let batch = line.call(0);
        line.failed(batch, lost(), 1);
        assert_eq!(line.counts(), (0, failed, 0));
    }
}

#[test]
fn each_answer_moves_the_limit_of_a_drop_and_nothing_moves_the_deadline() {
    let line = ByHand::new(1, usize::MAX);
    line.add(1..=4);
    let limit = || {
        let limit = line.lane.lock().lifecycle.close_limit();
        limit.map(|limit| limit.duration_since(line.start).as_millis())
    };
    let terms = CloseTerms {
        deadline: Some(line.time(500)),
        without_answer: Some(Duration::from_millis(200)),
        ..CloseTerms::default()
    };
    line.close(terms, 20);
    assert_eq!(limit(), Some(220), "from the close on");
    let batch = line.call(30);
    line.went_through(batch, 40);
    assert_eq!(limit(), Some(240));
    let batch = line.call(40);
    line.failed(batch, BatchError::permanent("no"), 60);
    assert_eq!(limit(), Some(260), "the backend blames the row");
    let batch = line.call(60);
    line.failed(batch, lost(), 70);
    assert_eq!(limit(), Some(260), "no answer");
    let batch = line.call(70 + 60);
    line.went_through(batch, 400);
    assert_eq!(limit(), Some(500), "the deadline comes first");
}

#[test]
fn a_close_lifts_the_bound_of_kept_rows() {
    let line = ByHand::new(1, 1);
    line.add([1, 2]);
    let batch = line.call(0);
    line.failed(batch, BatchError::permanent("no"), 1);
    assert!(matches!(line.next(1), Step::Sleep { .. }), "it is stalled");
    line.close_until(1, 1_000);
    let batch = line.call(1);
    line.failed(batch, BatchError::permanent("no"), 2);
    assert!(matches!(line.next(2), Step::Stop));
    assert_eq!(line.seize(), (vec![], vec![(1, 1), (2, 1)]));
}

#[test]
fn tickets_tell_unsent_from_failed_and_from_in_doubt() {
    let line = ByHand::new(1, usize::MAX);
    let tickets = [1, 2].map(|item| line.submit(item));
    let batch = line.call(0);
    line.close_until(0, 10);
    line.failed(batch, lost(), 1);
    assert!(matches!(line.next(1), Step::Stop));
    let outcomes = tickets.map(|ticket| ticket.try_wait());
    assert_eq!(
        outcomes,
        [Some(Outcome::Failed(lost())), Some(Outcome::Unsent)]
    );
    let line = ByHand::new(1, usize::MAX);
    let ticket = line.submit(1);
    let _held = line.call(0);
    line.close_until(0, 0);
    assert_eq!(line.seize(), (vec![], vec![]));
    assert_eq!(ticket.try_wait(), Some(Outcome::InDoubt));
    assert_eq!(line.lane.lock().counts.abandoned, 1);
}

#[test]
fn who_takes_what_was_given_up_is_told_of_it_and_later_closers_get_the_counts() {
    let line = ByHand::new(2, usize::MAX);
    line.add(1..=3);
    let batch = line.call(0);
    line.close_until(0, 10);
    line.failed(batch, lost(), 1);
    assert!(matches!(line.next(1), Step::Stop));
    line.lane.lock().lifecycle.phase = Phase::Done;
    let core = line.core();
    let first = core.shutdown(LONG);
    assert_eq!((&first.unsent[..], first.failed.len()), (&[3][..], 2));
    assert!(first.timed_out, "no further attempt fitted");
    let second = core.shutdown(LONG);
    assert_eq!((second.unsent.len(), second.failed.len()), (0, 0));
    assert_eq!((second.unsent_total, second.failed_total), (1, 2));
    assert!(!second.timed_out, "the first one's time it was");
}
