//! What the flusher does next: the decisions between two calls of the handler, under the backlog's
//! lock.

use std::time::{Duration, Instant};

use crate::batch::rows::{Purpose, Row};
use crate::batch::{Batch, Failed, Trigger};
use crate::exchange::call_permits::Wish;
use crate::flush::backlog::Backlog;
use crate::flush::in_progress::InFlight;
use crate::flush::retry::{Retry, Rules};
use crate::flush::search::{ATTEMPT_MIN, Circumstances, Next, later};
use crate::observe::{Event, WaitCause};
use crate::queue::gate::Gate;

/// What is in force at this visit: from the setpoint, and from the builder.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) batch_size: usize,
    pub(crate) linger: Duration,
    /// The linger of an item that somebody waits for: the policy's own, or none.
    pub(crate) waited_linger: Duration,
    pub(crate) pause_ratio: f64,
    pub(crate) probe: bool,
    /// Whether a call may begin: the lane holds a permit, or is the only one.
    pub(crate) permitted: bool,
    pub(crate) rules: Rules,
    /// 64 random bits, for the jitter of a wait.
    pub(crate) chance: u64,
}

/// What the flusher does next.
pub(crate) enum Step<T> {
    /// Give this batch to the handler.
    Call(Box<Batch<T>>),
    /// There is something to call: get a permit, or look again then at the latest.
    AwaitPermit {
        wish: Wish,
        deadline: Option<Instant>,
    },
    /// Give this row to the hook.
    Hook(Failed<T>),
    /// Nothing until this many items are in the channel, the deadline, or a ring.
    Sleep {
        wanted: usize,
        deadline: Option<Instant>,
    },
    /// Nothing any more.
    Stop,
}

/// The answer to a visit.
pub(crate) struct Visit<T> {
    pub(crate) step: Step<T>,
    /// A flush is done by now: its callers must be woken.
    pub(crate) flushed: bool,
}

impl<T> Step<T> {
    /// A sleep until this many items are in line, without a deadline.
    fn sleep_for(wanted: usize) -> Self {
        Self::Sleep {
            wanted,
            deadline: None,
        }
    }

    /// The end of a sleep.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Sleep { deadline, .. } => *deadline,
            _ => None,
        }
    }

    /// A sleep until this time at the latest, whatever comes.
    fn sleep_until(deadline: Instant) -> Self {
        Self::Sleep {
            wanted: 0,
            deadline: Some(deadline),
        }
    }
}

impl<T> From<Step<T>> for Visit<T> {
    fn from(step: Step<T>) -> Self {
        Self {
            step,
            flushed: false,
        }
    }
}

/// Rows that are set aside, at one visit.
#[derive(Clone, Copy)]
struct SetAside {
    /// When they may be called: the first of them, or all where the order is kept.
    due: Option<Instant>,
    is_due: bool,
    /// The line waits for them.
    holds_line: bool,
}

/// Since when the line has waited, at one visit.
#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    /// Somebody waits for a ticket of it.
    waited_for: bool,
    /// When it goes at the latest.
    due: Option<Instant>,
    /// The same, if nobody waited.
    ordinary_due: Option<Instant>,
}

impl<T> Backlog<T> {
    /// What to do now.
    pub(crate) fn next(&mut self, gate: &Gate<T>, target: Target, now: Instant) -> Visit<T> {
        self.end_wait(now);
        if let Some(failed) = self.dead_letters.next_for_hook() {
            return Step::Hook(failed).into();
        }
        if self.lifecycle.is_abandoned() {
            return Step::Stop.into();
        }
        if let Some(step) = self.go_on_with_search(gate, &target, now) {
            if let Step::Sleep { .. } = step {
                self.begin_wait(WaitCause::Backoff, now);
            }
            return step.into();
        }
        let gathered = self.incoming.gathered;
        let flushed = self
            .barriers
            .advance(gathered, self.in_progress.first_aside());
        let closing = self.lifecycle.is_closing();
        let step = if self.dead_letters.check_stall(gate, closing, now) {
            self.begin_wait(WaitCause::Stall, now);
            Step::sleep_for(0)
        } else {
            self.gather_or_sleep(gate, target, now)
        };
        Visit { step, flushed }
    }

    /// What the batch that failed needs next; `None` if there is none.
    fn go_on_with_search(
        &mut self,
        gate: &Gate<T>,
        target: &Target,
        now: Instant,
    ) -> Option<Step<T>> {
        if !self.in_progress.search.as_ref()?.is_over() {
            // As urgent as what has waited since its last call, so that others have their turn.
            let due = self.in_progress.last_call_end;
            if let Some(step) = self.without_permit(target, due, now) {
                return Some(step);
            }
        }
        let mut search = self.in_progress.search.take()?;
        let retry = self.retry_in_force(&target.rules);
        let at = self.circumstances(gate, target, &retry, now);
        let next = search.next(&at);
        let renew = search.needs_new_handler();
        let parent = search.parent;
        if let Next::Done = next {
            self.search_is_over(*search);
            return None;
        }
        self.in_progress.search = Some(search);
        Some(match next {
            Next::Done => unreachable!("it returned above"),
            Next::Wait { until, or_line } => Step::Sleep {
                wanted: usize::from(or_line),
                deadline: Some(until),
            },
            Next::GiveUp => {
                self.give_up();
                Step::Stop
            }
            Next::CallFromLine => {
                let first = self.incoming.gathered_items;
                let mut batch = self.in_progress.fresh_batch(None, first);
                self.gather(gate, &mut batch, 1, 0);
                batch.course.purpose = Purpose::FromLine;
                batch.course.cut_at = 1;
                batch.trigger = Trigger::Retry;
                self.observe_gathered(&batch);
                Step::Call(self.take_off(batch, now))
            }
            Next::Call {
                rows,
                purpose,
                name,
            } => {
                let first = self.incoming.gathered_items;
                let mut batch = self.in_progress.fresh_batch(name, first);
                batch.parent = (batch.id != parent).then_some(parent);
                batch.course.purpose = purpose;
                batch.course.renew = renew;
                batch.course.cut_at = target.batch_size;
                fill(&mut batch, rows);
                Step::Call(self.take_off(batch, now))
            }
        })
    }

    /// What to do where a call is wanted and may not begin yet.
    fn without_permit(
        &self,
        target: &Target,
        due: Option<Instant>,
        now: Instant,
    ) -> Option<Step<T>> {
        let closing = self.lifecycle.is_closing();
        let deadline = self.lifecycle.close_limit().filter(|_| closing);
        // Past it no call begins, and what is left is given up: that needs no permit.
        let is_past = deadline.is_some_and(|deadline| deadline <= now);
        (!target.permitted && !is_past).then(|| Step::AwaitPermit {
            wish: Wish {
                due,
                carryover: self.incoming.carryover_items(),
            },
            deadline,
        })
    }

    /// As the builder says, but for a close that allows one attempt.
    pub(crate) fn retry_in_force(&self, rules: &Rules) -> Retry {
        if self.lifecycle.allows_one_attempt() {
            rules.retry.while_closing(false)
        } else {
            rules.retry
        }
    }

    pub(crate) fn circumstances<'a>(
        &self,
        gate: &Gate<T>,
        target: &Target,
        retry: &'a Retry,
        now: Instant,
    ) -> Circumstances<'a> {
        let closing = self.lifecycle.is_closing();
        Circumstances {
            now,
            chance: target.chance,
            retry,
            idempotent: target.rules.idempotent,
            closing,
            deadline: self.lifecycle.close_limit().filter(|_| closing),
            has_line: self.incoming.available(gate) > 0,
        }
    }

    fn gather_or_sleep(&mut self, gate: &Gate<T>, target: Target, now: Instant) -> Step<T> {
        let closing = self.lifecycle.is_closing();
        let waiting = self.look_at_line(gate, &target, now);
        let is_empty = self.incoming.gathered == self.incoming.end();
        let aside = self.look_aside(&target, now);
        if is_empty && aside.due.is_none() {
            return if closing {
                Step::Stop
            } else {
                Step::sleep_for(1)
            };
        }
        let next_call = match aside.due.filter(|_| is_empty) {
            // Another attempt at rows that were called before: it is to end in time.
            Some(due) => later(due.max(now), ATTEMPT_MIN),
            None => now,
        };
        let limit = self.lifecycle.close_limit().filter(|_| closing);
        if limit.is_some_and(|limit| limit <= next_call) {
            self.give_up();
            return Step::Stop;
        }
        let pause = self.in_progress.paused_until(target.pause_ratio);
        if let Some(until) = pause.filter(|until| *until > now && !closing) {
            self.begin_wait(WaitCause::Pause, now);
            return Step::sleep_until(until);
        }
        if (is_empty || aside.holds_line) && !aside.is_due {
            self.begin_wait(WaitCause::Backoff, now);
            return Step::Sleep {
                wanted: usize::from(!aside.holds_line),
                deadline: aside.due,
            };
        }
        let overdue = !is_empty && waiting.due.is_some_and(|due| due <= now);
        match self.trigger(gate, &target, &waiting, aside.is_due, overdue, now) {
            Some(trigger) => self
                .without_permit(&target, waiting.due, now)
                .unwrap_or_else(|| {
                    Step::Call(self.hand_over(gate, &target, trigger, &waiting, aside, now))
                }),
            None => {
                if !waiting.waited_for {
                    self.waited.doze();
                }
                // The closed bit may be set just now: the sleep then is none.
                Step::Sleep {
                    wanted: target
                        .batch_size
                        .saturating_sub(self.incoming.carryover_items()),
                    deadline: waiting.due.into_iter().chain(aside.due).min(),
                }
            }
        }
    }

    /// Since when the line has waited, and how long it may.
    fn look_at_line(&mut self, gate: &Gate<T>, target: &Target, now: Instant) -> Waiting {
        let incoming = &self.incoming;
        let gathered = incoming.gathered;
        let waited_for = self
            .waited
            .check(&gate.waiters, gathered, || incoming.end());
        let since = self.age.look(gathered, incoming.end(), now);
        let ordinary_due = since.checked_add(target.linger);
        let due = if waited_for {
            since.checked_add(target.waited_linger)
        } else {
            ordinary_due
        };
        Waiting {
            since,
            waited_for,
            due,
            ordinary_due,
        }
    }

    /// When the rows that are set aside may be called, and whether the line waits for them.
    fn look_aside(&self, target: &Target, now: Instant) -> SetAside {
        let rows = self.in_progress.aside();
        let keeps_order = target.rules.retry.keeps_order();
        let due = if keeps_order {
            self.in_progress.all_due()
        } else {
            self.in_progress.first_due()
        };
        SetAside {
            due,
            is_due: due.is_some_and(|due| due <= now),
            holds_line: rows > 0 && (keeps_order || rows >= target.batch_size),
        }
    }

    /// Why a batch goes now: the first reason that holds. `None` if it waits.
    fn trigger(
        &self,
        gate: &Gate<T>,
        target: &Target,
        waiting: &Waiting,
        aside_is_due: bool,
        overdue: bool,
        now: Instant,
    ) -> Option<Trigger> {
        let is_full = || self.incoming.available(gate) >= target.batch_size || gate.is_heavy();
        let only_aside = aside_is_due && target.rules.retry.keeps_order();
        let on_time = waiting.ordinary_due.is_none_or(|due| due > now);
        match () {
            () if !only_aside && is_full() => Some(Trigger::Size),
            () if self.lifecycle.is_closing() => Some(Trigger::Close),
            () if self.barriers.is_urgent(self.incoming.gathered) => Some(Trigger::Flush),
            () if aside_is_due => Some(Trigger::Retry),
            () if overdue && waiting.waited_for && on_time => Some(Trigger::Wait),
            () if overdue => Some(Trigger::Linger),
            () => None,
        }
    }

    /// Gathers the batch that goes now.
    fn hand_over(
        &mut self,
        gate: &Gate<T>,
        target: &Target,
        trigger: Trigger,
        waiting: &Waiting,
        aside: SetAside,
        now: Instant,
    ) -> Box<Batch<T>> {
        let size = target.batch_size;
        let first = self.incoming.gathered_items;
        let mut batch = self.in_progress.fresh_batch(None, first);
        let mut weight = 0;
        if aside.is_due {
            let (rows, weighing) = self
                .in_progress
                .take_due(size, gate.batch_weight_limit(), now);
            fill(&mut batch, rows);
            weight = weighing;
        }
        let only_aside = aside.is_due && target.rules.retry.keeps_order();
        let full = !only_aside && self.gather(gate, &mut batch, size, weight);
        batch.trigger = if full { Trigger::Size } else { trigger };
        batch.course.cut_at = size;
        batch.course.full = full;
        batch.course.probe = target.probe;
        // A batch that wakes an idle flusher has no look before this one to measure from; rows that
        // were asked for again come from no line.
        let is_measured = self.incoming.gathered_items > first && waiting.since < now;
        batch.course.queue_wait = is_measured.then(|| now.saturating_duration_since(waiting.since));
        self.observe_gathered(&batch);
        self.take_off(batch, now)
    }

    fn observe_gathered(&mut self, batch: &Batch<T>) {
        self.counts.observe(Event::Gathered {
            trigger: batch.trigger,
            len: batch.items.len(),
        });
    }

    /// The flusher waits from now on, for something else than items.
    fn begin_wait(&mut self, cause: WaitCause, now: Instant) {
        self.wait = Some((cause, now));
    }

    fn end_wait(&mut self, now: Instant) {
        if let Some((cause, begun)) = self.wait.take() {
            let time = now.saturating_duration_since(begun);
            self.counts.observe(Event::Waited { cause, time });
        }
    }

    /// Marks the batch as in flight.
    fn take_off(&mut self, mut batch: Box<Batch<T>>, now: Instant) -> Box<Batch<T>> {
        batch.attempt += 1;
        batch.course.closing = self.lifecycle.is_closing();
        self.counts.observe(Event::CallBegan {
            attempt: batch.attempt,
        });
        self.in_progress.in_flight = Some(InFlight {
            items: batch.items.len(),
            begun: now,
            tickets: std::mem::take(&mut batch.tickets),
            memos: std::mem::take(&mut batch.memos),
        });
        batch
    }
}

/// Puts rows with a memo into an empty batch.
fn fill<T>(batch: &mut Batch<T>, rows: Vec<Row<T>>) {
    batch.course.calls_before = rows.iter().map(|row| row.memo.calls).max().unwrap_or(0);
    for Row { item, memo } in rows {
        batch.items.push(item);
        batch.memos.push(memo);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "step/tests.rs"]
pub(crate) mod tests;
