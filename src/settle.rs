//! What becomes of the items of a call: settled under the intake's lock, in one step, by the flusher alone.
//!
//! Each item of the call gets its outcome here or stays with its batch for another attempt. Counters, tickets, flushes and
//! failed rows change together, so no snapshot sees an item twice or not at all.

use std::time::{Duration, Instant};

use crate::batch::{Batch, Failed};
use crate::error::BatchError;
use crate::intake::{Intake, Phase, Search, fail_all, later};
use crate::retry::{Failure, Retry, Verdict};
use crate::sync::mutant;
use crate::ticket::Outcome;

/// A call of the handler that has returned.
pub(crate) struct Finished<T> {
    /// Emptied if the call succeeded.
    pub(crate) batch: Box<Batch<T>>,
    /// The rejected rows, sorted by index, or why the call failed.
    pub(crate) result: Result<Vec<(usize, T, BatchError)>, BatchError>,
    pub(crate) service_time: Duration,
    pub(crate) now: Instant,
    /// 64 random bits for the backoff.
    pub(crate) chance: u64,
}

/// How failures are treated: from the builder.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) retry: Retry,
    pub(crate) idempotent: bool,
}

impl<T> Intake<T> {
    /// Settles a call. Returns the failed rows that nobody is left to take, for the caller to drop outside the lock.
    pub(crate) fn settle(&mut self, finished: Finished<T>, rules: &Rules, batch_size: usize) -> Vec<Failed<T>> {
        let Finished { mut batch, result, service_time, now, chance } = finished;
        self.counts.service_time.record(service_time);
        if batch.attempt == 1 && batch.parent.is_none() {
            // Here and not at the hand-over, which an idle flusher is to reach by the shortest way.
            self.counts.queue_wait.record(batch.course.queue_wait);
        }
        let cut = std::mem::take(&mut self.cut_next_wait);
        self.paused_after = (!cut).then_some((now, service_time));
        self.counts.bad_rejects += batch.out_of_range.take();
        let lent = self.lent.take().expect("a call ends once");
        batch.tickets = lent.tickets;
        let late = self.phase == Phase::Abandoned;
        if late && !mutant("settle: a late return counts twice") {
            self.counts.abandoned -= lent.items as u64;
        }
        let failed = match result {
            Ok(rejected) => {
                self.search.run = 0;
                self.search.outage_waits = 0;
                self.counts.handled += (lent.items - rejected.len()) as u64;
                let failed = self.reject(&mut batch, rejected);
                self.keep_spare(batch, batch_size);
                failed
            }
            Err(error) => self.judge(batch, error, rules, now, if cut { None } else { Some(chance) }),
        };
        self.hand_on(failed, late)
    }

    /// The rows that the handler refused one by one; the rest of the batch is handled.
    fn reject(&mut self, batch: &mut Batch<T>, rejected: Vec<(usize, T, BatchError)>) -> Vec<Failed<T>> {
        let in_doubt = batch.course.in_doubt;
        let attempts = batch.course.calls_before + batch.attempt;
        for (index, ticket) in batch.tickets.drain(..) {
            let outcome = match rejected.binary_search_by_key(&index, |(rejected, ..)| *rejected) {
                Err(_) => Outcome::Handled,
                Ok(place) if in_doubt || rejected[place].2.is_in_doubt() => Outcome::InDoubt,
                Ok(place) => Outcome::Failed(rejected[place].2.clone()),
            };
            // A row that is kept goes when its ticket has returned the failure. One that was handled is not among those kept.
            let failed = outcome != Outcome::Handled;
            let kept_row = (failed && self.keeps_failed()).then_some(batch.course.first + index as u64);
            ticket.tell_with(&mut self.wakes, outcome, kept_row);
        }
        self.counts.failed += rejected.len() as u64;
        self.counts.rejected += rejected.len() as u64;
        let first = batch.course.first;
        rejected
            .into_iter()
            .map(|(index, item, error)| {
                let number = first + index as u64;
                self.flushes.note_failed(number..number + 1);
                let in_doubt = in_doubt || error.is_in_doubt();
                self.counts.in_doubt += u64::from(in_doubt);
                Failed { item, error, attempts, in_doubt, number }
            })
            .collect()
    }

    /// A call that failed as a whole. Without a chance there is no backoff.
    fn judge(
        &mut self,
        mut batch: Box<Batch<T>>,
        error: BatchError,
        rules: &Rules,
        now: Instant,
        chance: Option<u64>,
    ) -> Vec<Failed<T>> {
        self.counts.handler_panics += u64::from(error.is_panic());
        if batch.parent.is_some() {
            self.search.run += u32::from(batch.attempt == 1);
        } else {
            self.search = Search { whole: batch.items.len(), ..Search::default() };
        }
        batch.course.in_doubt |= error.is_in_doubt();
        let failure = Failure {
            class: error.class(),
            len: batch.items.len(),
            attempt: batch.course.attempts_before + batch.attempt,
            last_chance: batch.course.last_chance,
            elapsed: now.saturating_duration_since(batch.course.since.unwrap_or(now)),
            closing: batch.course.closing,
            idempotent: rules.idempotent,
            in_doubt: batch.course.in_doubt,
            whole: self.search.whole,
            run: self.search.run,
            outage_waits: self.search.outage_waits,
        };
        batch.course.error = Some(error);
        let verdict = match rules.retry.judge(&failure, chance.unwrap_or(0)) {
            // Nobody is left to try again.
            _ if self.phase == Phase::Abandoned => Verdict::Fail,
            verdict => verdict,
        };
        match verdict {
            Verdict::Retry(wait) | Verdict::WaitOut(wait) => {
                self.search.outage_waits += u32::from(matches!(verdict, Verdict::WaitOut(_)));
                batch.course.not_before = Some(later(now, wait));
                self.parts.push_front(batch);
                Vec::new()
            }
            Verdict::RetryHalved(wait) => {
                batch.course.attempts_before += batch.attempt;
                batch.course.not_before = Some(later(now, wait));
                self.counts.retries_in_halves += 1;
                self.halve(*batch, false);
                Vec::new()
            }
            Verdict::Halve { last_chance } => {
                self.counts.bisections += 1;
                (batch.course.attempts_before, batch.course.not_before) = (0, None);
                self.halve(*batch, last_chance);
                Vec::new()
            }
            Verdict::Fail => self.fail(batch),
        }
    }

    fn halve(&mut self, batch: Batch<T>, last_chance: bool) {
        let ids = [self.next_id(), self.next_id()];
        let [first, second] = batch.split(ids, last_chance);
        self.parts.push_front(Box::new(second));
        self.parts.push_front(Box::new(first));
    }

    fn fail(&mut self, part: Box<Batch<T>>) -> Vec<Failed<T>> {
        let rows = part.items.len() as u64;
        let first = part.course.first;
        self.flushes.note_failed(first..first + rows);
        self.counts.failed += rows;
        self.counts.in_doubt += if part.course.in_doubt { rows } else { 0 };
        let kept = self.keeps_failed();
        fail_all(part, kept, &mut self.wakes).collect()
    }

    /// Failed rows go to the hook, or are kept; behind an abandoned close without a hook nobody takes them.
    fn hand_on(&mut self, failed: Vec<Failed<T>>, late: bool) -> Vec<Failed<T>> {
        if self.has_hook {
            self.for_hook.extend(failed);
        } else if late {
            self.counts.dropped_late += failed.len() as u64;
            return failed;
        } else {
            failed.into_iter().for_each(|failed| self.kept.keep(failed));
        }
        Vec::new()
    }
}
