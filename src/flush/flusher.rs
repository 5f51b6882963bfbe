//! The flusher's thread: gather → handle → complete, and sleep when there is nothing to do. Each lane
//! has one.
//!
//! All decisions are the backlog's, under its lock; this thread runs the user's code, the handler,
//! the hook and the drops of items, outside it and under `catch_unwind`. One lock a batch:
//! completing a call and gathering the next batch is one visit; two visits where threads wait for
//! tickets of the batch, which are notified in between. With several lanes a call takes a permit
//! (see `call_permits`): one visit finds that there is something to call, and once the permit is
//! granted the next one gathers it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::batch::rows::Purpose;
use crate::batch::{Batch, Failed, Handler};
use crate::events::CallEvent;
use crate::flush::close_report::OnClose;
use crate::flush::close_report::deliver_unclaimed;
use crate::journal::error_event;
use crate::observe::{Event, WaitCause};
use crate::stats::Retrying;

use crate::error::{BatchError, ErrorClass};
use crate::exchange::call_permits::{Answer, Wish};
use crate::exchange::published::SetpointCell;
use crate::exchange::reporter::Reporter;
use crate::feedback::{BatchSample, CallOutcome};
use crate::flush::backlog::Backlog;
use crate::flush::complete::{Finished, Leftover, Marked};
use crate::flush::edges::Edges;
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::flush::lifecycle::CloseTerms;
use crate::flush::permit::Permit;
use crate::flush::regroup::Regroup;
use crate::flush::retry::Rules;
use crate::flush::step::{Step, Target, Visit};
use crate::flush::workers::HandlerSlot;
use crate::sync::{Arc, LOOKS_BEFORE_SLEEP, Mutex, Parker, looks_end, now, yield_now};
use crate::unwind::{drop_each, message};

/// The dead-letter hook. A row that it hands back comes with the panic, if that was the reason.
pub(crate) type OnFailed<T> = Box<dyn FnMut(Failed<T>) -> Result<(), HandedBack<T>> + Send>;

/// A failed row that the hook did not take.
pub(crate) type HandedBack<T> = (Failed<T>, Option<Box<dyn std::any::Any + Send>>);

/// A sleep shorter than this is not worth its wake-up: while batches fill faster, the flusher looks
/// again a few times first. With 20 µs, eight producers on two cores, batches of a thousand: 26.6
/// ns an item for 24.4.
const SHORT_SLEEP: Duration = Duration::from_micros(50);

/// The hook of all lanes: one row at a time.
pub(crate) type SharedHook<T> = Arc<Mutex<OnFailed<T>>>;

/// What the thread owns.
pub(crate) struct Flusher<T> {
    pub(crate) lane: Arc<Lane<T>>,
    /// Its own lane and all others.
    pub(crate) lanes: Arc<Lanes<T>>,
    /// Which of them is its own.
    pub(crate) place: usize,
    pub(crate) setpoint: Arc<SetpointCell>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) parker: Parker,
    pub(crate) on_failed: Option<SharedHook<T>>,
    pub(crate) rules: Rules,
    /// For the backoff's jitter.
    pub(crate) chance: Chance,
}

impl<T> Flusher<T> {
    /// Runs; should this crate's own code panic, closes the batcher, so that nobody waits for this
    /// thread.
    pub(crate) fn run_to_the_end(&mut self, handler: &mut HandlerSlot<impl Handler<T>>) {
        if catch_unwind(AssertUnwindSafe(|| self.run(handler))).is_err() {
            self.lanes.close(CloseTerms::default(), false, now());
            self.reporter.end();
        }
    }

    /// Until the batcher is closed and empty, or abandoned.
    fn run(&mut self, handler: &mut HandlerSlot<impl Handler<T>>) {
        let mut finished = None;
        let mut probe_used = 0;
        let mut fills_fast = false;
        let (mut regroup, mut call_time) = (Regroup::default(), Duration::ZERO);
        let mut edges = Edges::default();
        let mut at = now();
        let mut lent_at = at;
        let mut permit = Permit::new(&self.setpoint, self.place);
        loop {
            let (target, probe) = self.target(probe_used, &mut permit);
            let mut backlog = self.lane.lock();
            let mut leftover = None;
            if let Some(finished) = finished.take() {
                // A probe is one batch; the buffers are kept for the size in force.
                let size = self.setpoint.batch_size();
                leftover = Some(backlog.complete(&self.lane.gate, finished, &target, size));
            }
            if !backlog.wakes.is_empty() {
                // Before the next batch is gathered: whoever comes back at once goes with it.
                let mut wakes = std::mem::take(&mut backlog.wakes);
                drop(backlog);
                let notified = wakes.notify();
                regroup.moment(notified, call_time, target.batch_size, || {
                    self.lane.gate.items_in_channel()
                });
                backlog = self.lane.lock();
            }
            let Visit { step, flushed } = backlog.next(&self.lane.gate, target, at);
            let wait = backlog.wait.map(|(cause, _)| cause);
            let retrying = self.told_retrying(&backlog);
            drop(backlog);
            if flushed {
                self.lane.changed.notify_all();
            }
            if let Some(leftover) = leftover {
                self.clear(leftover);
            }
            if !matches!(step, Step::Call(_) | Step::AwaitPermit { .. }) {
                permit.give_back(at);
            }
            if self.lane.journal().has_listeners() {
                let wait = (wait, step.deadline());
                edges.see(self.lane.journal(), wait, retrying, at);
                self.lane.journal().deliver();
            }
            match step {
                Step::Call(batch) => {
                    let is_probe =
                        batch.course.probe && batch.attempt == 1 && batch.parent.is_none();
                    if is_probe {
                        probe_used = probe;
                    }
                    permit.batch_cut(is_probe);
                    self.lanes.gathered(self.place);
                    // After a long sleep too, should more than one batch have come meanwhile.
                    fills_fast |= at.saturating_duration_since(lent_at) < SHORT_SLEEP;
                    lent_at = at;
                    let done = self.call(handler, batch, permit.in_use());
                    at = done.now;
                    call_time = done.service_time;
                    permit.call_ended(call_time, at);
                    finished = Some(done);
                }
                Step::AwaitPermit { wish, deadline } => {
                    self.await_permit(&mut permit, wish, deadline);
                    at = now();
                }
                Step::Hook(failed) => {
                    self.hook(failed);
                    at = now();
                }
                Step::Sleep { wanted, deadline } => {
                    let slept = self.sleep(wanted, deadline, target, fills_fast);
                    at = now();
                    fills_fast =
                        slept.is_none_or(|begun| at.saturating_duration_since(begun) < SHORT_SLEEP);
                }
                Step::Stop => return,
            }
        }
    }

    /// What is being tried again, if anybody is told.
    fn told_retrying(&self, backlog: &Backlog<T>) -> Option<Retrying> {
        let is_backoff = matches!(backlog.wait, Some((WaitCause::Backoff, _)));
        (is_backoff && self.lane.journal().has_listeners())
            .then(|| backlog.retrying())
            .flatten()
    }

    /// What the setpoint asks for, and which probe it holds.
    fn target(&mut self, probe_used: u64, permit: &mut Permit) -> (Target, u64) {
        let (rules, chance) = (self.rules, self.chance.next());
        let (permitted, takes_pauses) = (permit.is_held(), permit.takes_pauses());
        self.setpoint
            .read_with_waited_linger(|setpoint, waited_linger| {
                let probe = setpoint
                    .probe
                    .filter(|probe| probe.sequence != probe_used && permit.may_use(*probe));
                let batch_size = probe.map_or(setpoint.batch_size, |probe| probe.batch_size);
                let pause_ratio = if takes_pauses {
                    0.0
                } else {
                    setpoint.pause_ratio
                };
                let target = Target {
                    batch_size,
                    linger: setpoint.linger,
                    waited_linger,
                    pause_ratio,
                    probe: probe.is_some(),
                    permitted,
                    rules,
                    chance,
                };
                (target, probe.map_or(probe_used, |probe| probe.sequence))
            })
    }

    /// Until this flusher holds a permit, or something else may have changed.
    fn await_permit(&self, permit: &mut Permit, wish: Wish, deadline: Option<Instant>) {
        if let Answer::Later(until) = permit.ask(wish, now()) {
            let until = until.into_iter().chain(deadline).min();
            self.lane
                .gate
                .sleep(&self.parker, 0, until, || permit.was_granted());
        }
    }

    fn call(
        &mut self,
        handler: &mut HandlerSlot<impl Handler<T>>,
        mut batch: Box<Batch<T>>,
        (in_flight, concurrency): (usize, usize),
    ) -> Finished<T> {
        let begun = now();
        let mut panics = 0;
        let anew = batch.course.renew;
        let result = handler.call(&mut batch, anew, &mut panics);
        let now = now();
        let service_time = now.saturating_duration_since(begun);
        if panics > 0 {
            self.lane
                .lock()
                .counts
                .observe(Event::DropsPanicked(panics));
        }
        let len = batch.items.len();
        // Errors are the user's values: none is dropped under the lock, and what their drops do is
        // caught.
        let mut spent = Vec::new();
        let is_ok = result.is_ok();
        let marks = batch.marks.get_mut();
        // A rejection of a call that failed counts if it is for good: a lost connection, too, makes
        // a handler reject row by row.
        marks.retain_mut(|(_, mark)| {
            let counts = is_ok || (!mark.again && mark.error.is_permanent());
            if !counts {
                spent.push(mark.error.clone());
            }
            counts
        });
        if marks.len() > 1 {
            // The first mark of a row counts: the sort is stable.
            marks.sort_by_key(|(index, _)| *index);
            marks.dedup_by(|(index, mark), (before, _)| {
                index == before && {
                    spent.push(mark.error.clone());
                    true
                }
            });
        }
        let rejected = marks.iter().filter(|(_, mark)| !mark.again).count();
        let (outcome, failed) = match &result {
            Ok(_) => (CallOutcome::Ok, rejected),
            Err(error) => (outcome(error), len),
        };
        let course = batch.course;
        let whole = batch.parent.is_none();
        let sample = BatchSample {
            len,
            cut_at: course.cut_at,
            full: course.full && whole,
            probe: course.probe && whole,
            attempt: if whole {
                batch.attempt
            } else {
                course.calls_before + 1
            },
            service_time,
            queue_wait: course.queue_wait.unwrap_or_default(),
            failed,
            outcome,
            in_flight,
            concurrency,
        };
        self.reporter.report_batch(result.as_ref().ok(), sample);
        self.lane.journal().call(CallEvent {
            sequence: 0,
            at: self.lane.journal().at(now),
            id: batch.id,
            parent: batch.parent,
            attempt: batch.attempt,
            trigger: batch.trigger,
            len,
            cut_at: course.cut_at,
            probe: sample.probe,
            queue_wait: course.queue_wait.filter(|_| is_first(&batch)),
            service_time,
            rejected,
            error: result.as_ref().err().map(error_event),
        });
        self.drop_caught(&mut spent);
        let result = match result {
            Ok(_) => Ok(self.take_marked(&mut batch)),
            Err(error) => Err((error, std::mem::take(batch.marks.get_mut()))),
        };
        Finished {
            batch,
            result,
            service_time,
            now,
        }
    }

    /// Takes the marked rows, by index, out of a batch that went through, and drops the rest.
    fn take_marked(&mut self, batch: &mut Batch<T>) -> Vec<Marked<T>> {
        let mut taken = Vec::new();
        let marks = batch.marks.get_mut();
        if !marks.is_empty() {
            let mut marks = marks.drain(..).peekable();
            let mut handled = Vec::with_capacity(batch.items.len());
            for (index, item) in batch.items.drain(..).enumerate() {
                match marks.next_if(|(at, _)| *at == index) {
                    Some((_, mark)) => {
                        let weigher = self.lane.gate.weigher.as_ref().filter(|_| mark.again);
                        let weight = weigher.map_or(0, |weigher| weigher.weigh_again(&item));
                        taken.push(Marked {
                            index,
                            item,
                            mark,
                            weight,
                        });
                    }
                    None => handled.push(item),
                }
            }
            drop(marks);
            batch.items = handled;
        }
        if std::mem::needs_drop::<T>() {
            self.drop_caught(&mut batch.items);
        }
        batch.items.clear();
        taken
    }

    /// What a completed call leaves to be done outside the lock.
    fn clear(&self, leftover: Leftover<T>) {
        let Leftover {
            mut failed,
            mut errors,
            has_failures,
            refused_len,
        } = leftover;
        if let Some((len, service_time)) = refused_len {
            self.reporter.report_batch(None, refused(len, service_time));
        }
        if has_failures {
            self.lane.journal_failures();
        }
        if !failed.is_empty() {
            self.drop_caught(&mut failed);
        }
        if !errors.is_empty() {
            self.drop_caught(&mut errors);
        }
    }

    fn hook(&mut self, failed: Failed<T>) {
        let Some(on_failed) = &self.on_failed else {
            return;
        };
        let (back, panic) = match catch_unwind(AssertUnwindSafe(|| on_failed.lock()(failed))) {
            Ok(Ok(())) => return,
            Ok(Err((row, panic))) => (Some(row), panic),
            Err(panic) => (None, Some(panic)),
        };
        let panicked = panic.is_some();
        if let Some(panic) = panic {
            drop(message(panic));
        }
        let mut backlog = self.lane.lock();
        if panicked {
            backlog.counts.observe(Event::HookPanicked);
        }
        let mut dropped_late: Vec<_> = back
            .and_then(|row| backlog.take_back(row))
            .into_iter()
            .collect();
        drop(backlog);
        self.drop_caught(&mut dropped_late);
    }

    /// Sleeps, and returns since when; or finds a full batch without.
    fn sleep(
        &self,
        wanted: usize,
        deadline: Option<Instant>,
        target: Target,
        fills_fast: bool,
    ) -> Option<Instant> {
        // Announcing a sleep and being woken costs two system calls: while batches fill in less,
        // look again a few times.
        if wanted > 1 && fills_fast && self.looks_full(wanted, deadline) {
            return None;
        }
        let begun = now();
        self.lane.gate.sleep(&self.parker, wanted, deadline, || {
            self.setpoint
                .read_with_waited_linger(|setpoint, waited_linger| {
                    let size = setpoint
                        .probe
                        .filter(|_| target.probe)
                        .map_or(setpoint.batch_size, |probe| probe.batch_size);
                    size < target.batch_size
                        || setpoint.linger < target.linger
                        || waited_linger < target.waited_linger
                        || setpoint.pause_ratio < target.pause_ratio
                })
        });
        Some(begun)
    }

    fn looks_full(&self, wanted: usize, deadline: Option<Instant>) -> bool {
        let end = looks_end(deadline);
        (0..LOOKS_BEFORE_SLEEP)
            .take_while(|_| now() < end)
            .any(|_| {
                yield_now();
                self.lane.gate.items_in_channel() >= wanted
                    || self.lane.gate.waiters.has_come()
                    || self.lane.gate.doorbell.is_closed()
            })
    }

    fn drop_caught<D>(&self, values: &mut Vec<D>) {
        let panics = drop_each(values);
        if panics > 0 {
            self.lane
                .lock()
                .counts
                .observe(Event::DropsPanicked(panics));
        }
    }

    /// The end of the thread. The handler and the hook go first, so that their connections are
    /// closed when `close` returns.
    pub(crate) fn finish<H>(mut self, handler: H, on_close: &Mutex<Option<OnClose<T>>>) {
        let on_failed = self.on_failed.take();
        let mut backlog = self.lane.lock();
        backlog.lifecycle.finish();
        drop(backlog);
        self.lane.changed.notify_all();
        if self.lanes.one_finished() {
            self.reporter.end();
        }
        self.drop_caught(&mut vec![handler]);
        self.drop_caught(&mut vec![on_failed]);
        if self.lanes.one_ended() && self.lanes.first().lock().lifecycle.deliver_at_end {
            deliver_unclaimed(&self.lanes, on_close);
        }
    }
}

/// Whether this was the first call of a batch from the line.
fn is_first<T>(batch: &Batch<T>) -> bool {
    batch.attempt == 1 && batch.course.purpose == Purpose::Fresh
}

/// The event that a length is refused, for the policy.
fn refused(len: usize, service_time: Duration) -> BatchSample {
    BatchSample {
        len,
        cut_at: len,
        full: false,
        probe: false,
        attempt: 3,
        service_time,
        queue_wait: Duration::ZERO,
        failed: 0,
        outcome: CallOutcome::TooLarge,
        in_flight: 1,
        concurrency: 1,
    }
}

fn outcome(error: &BatchError) -> CallOutcome {
    match error.class() {
        _ if error.is_panic() => CallOutcome::Panicked,
        ErrorClass::Permanent => CallOutcome::Permanent,
        ErrorClass::InDoubt => CallOutcome::InDoubt,
        ErrorClass::Unavailable => CallOutcome::Unavailable,
        ErrorClass::Misconfigured => CallOutcome::Misconfigured,
        ErrorClass::Transient | ErrorClass::Unclassified => CallOutcome::Transient,
    }
}

/// Pseudo-random bits: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
