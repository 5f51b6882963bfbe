//! What becomes of the items of a call: completed under the backlog's lock, in one step, by the
//! flusher alone.
//!
//! Each item of the call gets its outcome here, is set aside because the handler asked for it
//! again, or stays with its batch for another call. Counters, tickets, flushes and failed rows
//! change together, so no snapshot sees an item twice or not at all.

use std::time::{Duration, Instant};

use crate::batch::rows::{Again, Memo, Name, Purpose, Row};
use crate::batch::{Batch, Course, Failed, Mark};
use crate::error::BatchError;
use crate::flush::backlog::Backlog;
use crate::flush::in_progress::InFlight;
use crate::flush::retry::Retry;
use crate::flush::search::{Failure, Search, later};
use crate::flush::step::Target;
use crate::observe::Event;
use crate::queue::gate::Gate;
use crate::ticket::Outcome;

/// A row of a call that the handler marked.
pub(crate) struct Marked<T> {
    pub(crate) index: usize,
    pub(crate) item: T,
    pub(crate) mark: Mark,
    /// Its weight, if it is to be called again.
    pub(crate) weight: usize,
}

/// Why a call failed, and the rows that it rejected for good all the same, by index.
pub(crate) type FailedCall = (BatchError, Vec<(usize, Mark)>);

/// What becomes of a marked row depends on this.
#[derive(Clone, Copy)]
struct MarkTerms<'a> {
    retry: &'a Retry,
    idempotent: bool,
    /// The call began when the batcher was already being closed.
    while_closing: bool,
    /// 64 random bits, for the jitter of waits.
    chance: u64,
    now: Instant,
}

/// When a row may be called again.
struct Due {
    at: Instant,
    /// Not before this, whoever is in a hurry.
    earliest: Instant,
}

/// A call of the handler that has returned.
pub(crate) struct Finished<T> {
    /// Emptied if the call went through.
    pub(crate) batch: Box<Batch<T>>,
    /// The rows that were marked, by index; or why the call failed, and the rows that it rejected
    /// for good all the same.
    pub(crate) result: Result<Vec<Marked<T>>, FailedCall>,
    pub(crate) service_time: Duration,
    pub(crate) now: Instant,
}

/// What the flusher has to do after a call was completed, outside the lock.
pub(crate) struct Leftover<T> {
    /// Failed rows that nobody is left to take, to be dropped.
    pub(crate) failed: Vec<Failed<T>>,
    /// Errors to be dropped.
    pub(crate) errors: Vec<BatchError>,
    /// Rows have failed: they are to be put into the journal.
    pub(crate) has_failures: bool,
    /// A length that the backend refuses, and the time of the call: to be reported.
    pub(crate) refused_len: Option<(usize, Duration)>,
}

impl<T> Backlog<T> {
    /// Completes a call.
    pub(crate) fn complete(
        &mut self,
        gate: &Gate<T>,
        finished: Finished<T>,
        target: &Target,
        batch_size: usize,
    ) -> Leftover<T> {
        let Finished {
            mut batch,
            result,
            service_time,
            now,
        } = finished;
        let Batch {
            course,
            attempt,
            id,
            ..
        } = *batch;
        let name = Name {
            id,
            attempts: attempt,
        };
        let is_first = attempt == 1 && course.purpose == Purpose::Fresh;
        self.counts.observe(Event::CallEnded {
            now,
            service_time,
            // Here and not at the hand-over, which an idle flusher is to reach by the shortest way.
            queue_wait: course.queue_wait.filter(|_| is_first),
            bad_rejects: batch.out_of_range.take(),
            error: result.as_ref().err().map(|(error, _)| error),
        });
        let cut = std::mem::take(&mut self.in_progress.cut_next_wait);
        self.in_progress.paused_after = (!cut).then_some((now, service_time));
        self.in_progress.last_call_end = Some(now);
        let mut in_flight = self.in_progress.in_flight.take().expect("a call ends once");
        let len = in_flight.items;
        let late = self.lifecycle.is_abandoned();
        if late {
            self.counts.observe(Event::CameBack(len));
        }
        let retry = self.retry_in_force(&target.rules);
        let terms = MarkTerms {
            retry: &retry,
            idempotent: target.rules.idempotent,
            while_closing: course.closing,
            chance: target.chance,
            now,
        };
        let (mut failed, mut refused_len) = (Vec::new(), None);
        match result {
            Ok(marked) => {
                self.lifecycle.answered(now);
                let progress = &mut self.in_progress;
                progress.typical_call.learn(len, service_time);
                progress.spent.extend(progress.misconfigured.take());
                self.counts.observe(Event::Handled(len - marked.len()));
                let marked = take_marked(&mut in_flight, &course, marked);
                self.resolve_handled(&mut in_flight);
                for (row, mark) in marked {
                    failed.extend(self.complete_marked(row, mark, &terms));
                }
                let all_due = self.in_progress.all_due();
                if let Some(mut search) = self.in_progress.search.take() {
                    search.succeeded(course.purpose, len);
                    refused_len = search.refused_len();
                    if let Some(due) = all_due.filter(|_| retry.keeps_order()) {
                        // The parts after them wait, as the line does otherwise.
                        search.hold(self.in_progress.take_aside(), due);
                    }
                    self.in_progress.search = Some(search);
                }
            }
            Err((error, rejected)) => {
                if error.is_permanent() {
                    self.lifecycle.answered(now);
                }
                let mut rows = undecided(&mut batch, in_flight);
                if course.purpose == Purpose::FromLine {
                    rows.iter_mut()
                        .for_each(|row| row.memo.weight = course.weight);
                }
                for (index, mark) in rejected.into_iter().rev() {
                    let row = rows.remove(index);
                    failed.extend(self.complete_marked(row, mark, &terms));
                }
                if let Some(search) = self.in_progress.search.as_mut().filter(|_| rows.is_empty()) {
                    search.all_rejected(course.purpose, error.is_permanent());
                }
                rows.iter_mut()
                    .for_each(|row| row.memo.in_doubt |= error.is_in_doubt());
                let mut outage = false;
                // After an abandoned close nobody is left to try again.
                if !late && !rows.is_empty() {
                    let failure = Failure {
                        error: &error,
                        service_time,
                        early: self.in_progress.typical_call.is_early(len, service_time),
                        known_misconfigured: self.in_progress.misconfigured.as_ref()
                            == Some(&error),
                        while_closing: course.closing,
                        is_cut: rows.len() < len,
                    };
                    let at = self.circumstances(gate, target, &retry, now);
                    let mut search =
                        self.in_progress.search.take().unwrap_or_else(|| {
                            Box::new(Search::new(name, error.clone(), &retry, now))
                        });
                    if cut {
                        search.outage.flush(now);
                    }
                    let verdict = search.failed(rows, (course.purpose, name), &failure, &at);
                    self.in_progress.spent.append(&mut search.outage.spent);
                    self.in_progress.search = Some(search);
                    self.set_guests_aside(verdict.guests, &error, now);
                    (rows, outage) = (verdict.rows, verdict.outage);
                    if error.is_misconfigured() && !rows.is_empty() {
                        let progress = &mut self.in_progress;
                        progress
                            .spent
                            .extend(progress.misconfigured.replace(error.clone()));
                    }
                }
                failed.extend(self.fail_rows(rows, &error, outage, self.retains_failed()));
                self.in_progress.spent.push(error);
            }
        }
        self.in_progress.keep_spare(batch, batch_size);
        let failed = self.hand_on(failed, late);
        Leftover {
            failed,
            has_failures: !self.failure_notes.is_empty(),
            errors: std::mem::take(&mut self.in_progress.spent),
            refused_len,
        }
    }

    /// The rows that are neither marked nor failed.
    fn resolve_handled(&mut self, in_flight: &mut InFlight) {
        for (_, ticket) in in_flight.tickets.drain(..) {
            ticket.tell_with(&mut self.wakes, Outcome::Handled, None);
        }
        for mut memo in in_flight.memos.drain(..) {
            self.in_progress
                .spent
                .extend(memo.again.take().map(|again| again.error));
            if let Some(ticket) = memo.ticket.take() {
                ticket.tell_with(&mut self.wakes, Outcome::Handled, None);
            }
        }
    }

    /// A row that the handler rejected fails; one that it asked for again is set aside.
    fn complete_marked(
        &mut self,
        mut row: Row<T>,
        Mark { error, again }: Mark,
        terms: &MarkTerms<'_>,
    ) -> Vec<Failed<T>> {
        row.memo.in_doubt |= error.is_in_doubt();
        let again =
            again && (terms.idempotent || !error.is_in_doubt()) && !self.lifecycle.is_abandoned();
        let is_last_call = terms.while_closing && !terms.retry.tries_while_closing();
        let due = (again && !is_last_call)
            .then(|| self.due_again(&row.memo, &error, terms))
            .flatten();
        let Some(due) = due else {
            if !again {
                let in_doubt = row.memo.in_doubt;
                self.counts.observe(Event::Rejected { in_doubt });
            }
            let outage = again && !is_last_call;
            let failed = self.fail_rows(vec![row], &error, outage, self.retains_failed());
            self.in_progress.spent.push(error);
            return failed;
        };
        self.counts.observe(Event::AskedAgain);
        let (since, times, attempts) = asked_before(&row.memo, terms.now);
        self.in_progress
            .spent
            .extend(row.memo.again.take().map(|again| again.error));
        row.memo.leave_search();
        row.memo.again = Some(Again {
            since,
            times: times.saturating_add(1),
            attempts: attempts + u32::from(!error.is_unavailable()),
            due: due.at,
            earliest: due.earliest,
            error,
        });
        self.in_progress.set_aside(row);
        Vec::new()
    }

    /// When a row that the handler asked for again is due; `None` if its patience has ended.
    fn due_again(
        &mut self,
        memo: &Memo,
        error: &BatchError,
        &MarkTerms {
            retry, chance, now, ..
        }: &MarkTerms<'_>,
    ) -> Option<Due> {
        let (since, times, attempts) = asked_before(memo, now);
        let elapsed = now.saturating_duration_since(since);
        let patience = retry.patience();
        let is_over = match (patience, retry.attempts_at_most()) {
            // It counts as no attempt.
            _ if error.is_unavailable() => elapsed >= retry.patience_unavailable(),
            (Some(patience), Some(most)) => elapsed >= patience && attempts + 1 >= most,
            (Some(patience), None) => elapsed >= patience && attempts >= 2,
            (None, most) => most.is_some_and(|most| attempts + 1 >= most),
        };
        if is_over {
            return None;
        }
        let most = retry.retry_after_max();
        let asked = error.wait_asked();
        if asked.is_some_and(|asked| asked > most) {
            self.counts.observe(Event::WaitCapped);
        }
        // The row's number spreads the waits of rows that were refused together.
        let chance = chance.wrapping_add(memo.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut wait = retry.wait(times.saturating_add(1), chance);
        if let Some(left) = patience
            .map(|patience| patience.saturating_sub(elapsed))
            .filter(|left| !left.is_zero())
        {
            // The last attempt begins when patience ends.
            wait = wait.min(left);
        }
        let asked = asked.unwrap_or_default().min(most);
        Some(Due {
            at: later(now, self.lifecycle.hurried(wait, now).max(asked)),
            earliest: later(now, asked),
        })
    }

    /// Rows from the line that were witnesses of a batch whose patience has ended: they head the
    /// next batch.
    fn set_guests_aside(&mut self, guests: Vec<Row<T>>, error: &BatchError, now: Instant) {
        for mut row in guests {
            row.memo.leave_search();
            let again = row.memo.again.replace(Again {
                since: now,
                times: 0,
                attempts: 0,
                due: now,
                earliest: now,
                error: error.clone(),
            });
            self.in_progress
                .spent
                .extend(again.map(|again| again.error));
            self.in_progress.set_aside(row);
        }
    }

    /// Every row of a batch that failed is decided.
    pub(crate) fn search_is_over(&mut self, search: Search<T>) {
        self.counts.observe(Event::SearchEnded(search.counts()));
        self.in_progress.spent.extend(search.outage.spent);
        self.in_progress.spent.push(search.outage.error);
    }

    /// Failed rows go to the hook, or are retained; after an abandoned close without a hook nobody
    /// takes them, and they come back.
    fn hand_on(&mut self, failed: Vec<Failed<T>>, late: bool) -> Vec<Failed<T>> {
        if late && self.dead_letters.retains() {
            self.counts.observe(Event::DroppedLate(failed.len()));
            return failed;
        }
        self.dead_letters.accept(failed);
        Vec::new()
    }
}

/// Since when, how often, and in how many attempts the handler has asked for a row again.
fn asked_before(memo: &Memo, now: Instant) -> (Instant, u32, u32) {
    let again = memo.again.as_ref().filter(|again| again.times > 0);
    again.map_or((now, 0, 0), |again| {
        (again.since, again.times, again.attempts)
    })
}

/// The rows of a call that the handler marked, with their memos. The memos and tickets of the
/// others keep their order.
fn take_marked<T>(
    in_flight: &mut InFlight,
    course: &Course,
    marked: Vec<Marked<T>>,
) -> Vec<(Row<T>, Mark)> {
    if marked.is_empty() {
        return Vec::new();
    }
    let first = course.first.wrapping_sub(in_flight.memos.len() as u64);
    let mut memos: Vec<Option<Memo>> = in_flight.memos.drain(..).map(Some).collect();
    let mut rows = Vec::with_capacity(marked.len());
    for Marked {
        index,
        item,
        mark,
        weight,
    } in marked
    {
        let mut memo = memos
            .get_mut(index)
            .and_then(Option::take)
            .unwrap_or_else(|| {
                let place = in_flight
                    .tickets
                    .binary_search_by_key(&index, |(index, _)| *index);
                let ticket = place.ok().map(|place| in_flight.tickets.remove(place).1);
                Memo::new(first.wrapping_add(index as u64), ticket)
            });
        memo.calls += 1;
        memo.weight = weight;
        rows.push((Row { item, memo }, mark));
    }
    in_flight.memos = memos.into_iter().flatten().collect();
    rows
}

/// The rows of a call that failed, with their memos.
fn undecided<T>(batch: &mut Batch<T>, in_flight: InFlight) -> Vec<Row<T>> {
    // The number of the first item without a memo, less those before it.
    let first = batch
        .course
        .first
        .wrapping_sub(in_flight.memos.len() as u64);
    let mut tickets = in_flight.tickets.into_iter().peekable();
    let mut memos = in_flight.memos.into_iter();
    let row = |(index, item)| {
        let mut memo = memos.next().unwrap_or_else(|| {
            let ticket = tickets
                .next_if(|(at, _)| *at == index)
                .map(|(_, ticket)| ticket);
            Memo::new(first.wrapping_add(index as u64), ticket)
        });
        memo.calls += 1;
        Row { item, memo }
    };
    batch.items.drain(..).enumerate().map(row).collect()
}
