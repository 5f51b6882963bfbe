//! What the flusher does next: the decisions between two calls of the handler, under the intake's
//! lock.

use std::time::{Duration, Instant};

use crate::batch::{Batch, Failed, Trigger};
use crate::channel::Singles;
use crate::gate::Gate;
use crate::intake::{Intake, Lent, Phase};
use crate::message::{CHUNKS_TOGETHER, Load, Message};
use crate::retry::{Retry, Rules};
use crate::rows::{Name, Purpose, Row};
use crate::search::{Circumstances, Next, later};
use crate::sync::Arc;

/// What is in force at this visit: from the setpoint, and from the builder.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) batch_size: usize,
    pub(crate) linger: Duration,
    /// The linger of an item that somebody waits for: the policy's own, or none.
    pub(crate) waited_linger: Duration,
    pub(crate) pause_ratio: f64,
    pub(crate) probe: bool,
    pub(crate) rules: Rules,
    /// 64 random bits, for the jitter of a wait.
    pub(crate) chance: u64,
}

/// What the flusher does next.
pub(crate) enum Step<T> {
    /// Lend this batch.
    Lend(Box<Batch<T>>),
    /// Give this row to the hook.
    Hook(Failed<T>),
    /// Nothing until so many items are in the channel, the deadline, or a ring.
    Sleep {
        wanted: usize,
        deadline: Option<Instant>,
    },
    /// Nothing any more.
    Stop,
}

impl<T> Intake<T> {
    /// What to do now. Sets `flushed` if a flush is done and its callers must be woken.
    pub(crate) fn next(
        &mut self,
        gate: &Gate<T>,
        target: Target,
        now: Instant,
        flushed: &mut bool,
    ) -> Step<T> {
        let for_hook = self.for_hook.pop_front();
        self.hooking = for_hook.is_some();
        if let Some(failed) = for_hook {
            return Step::Hook(failed);
        }
        if self.phase == Phase::Abandoned {
            return Step::Stop;
        }
        let closing = self.phase == Phase::Closing;
        if let Some(step) = self.go_on_with_search(gate, &target, now) {
            return step;
        }
        *flushed = self
            .flushes
            .settle(self.gathered, self.again.first().map(|row| row.memo.number));
        let was_stalled = std::mem::replace(&mut self.stalled, self.kept.is_full() && !closing);
        if was_stalled != self.stalled {
            if self.stalled {
                gate.stall.begin(now)
            } else {
                gate.stall.end()
            }
        }
        if self.stalled {
            return Step::Sleep {
                wanted: 0,
                deadline: None,
            };
        }
        self.gather_or_sleep(gate, target, now, closing)
    }

    /// What the batch that failed needs next; `None` if there is none.
    fn go_on_with_search(
        &mut self,
        gate: &Gate<T>,
        target: &Target,
        now: Instant,
    ) -> Option<Step<T>> {
        let mut search = self.search.take()?;
        let retry = self.retry_in_force(&target.rules);
        let at = self.circumstances(gate, target, &retry, now);
        let next = search.next(&at);
        let renew = search.needs_new_handler();
        let parent = search.parent;
        if let Next::Done = next {
            self.search_is_over(*search);
            return None;
        }
        self.search = Some(search);
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
                let mut batch = self.fresh_batch();
                self.gather(gate, &mut batch, 1);
                batch.course.purpose = Purpose::FromLine;
                batch.course.cut_at = 1;
                batch.trigger = Trigger::Retry;
                self.counts.batches.count(batch.trigger);
                Step::Lend(self.lend(batch))
            }
            Next::Call {
                rows,
                purpose,
                name,
            } => {
                let mut batch = self.fresh_batch_named(name);
                batch.parent = (batch.id != parent).then_some(parent);
                batch.course.purpose = purpose;
                batch.course.renew = renew;
                batch.course.cut_at = target.batch_size;
                fill(&mut batch, rows);
                Step::Lend(self.lend(batch))
            }
        })
    }

    /// As the builder says, but for a close that allows one attempt.
    pub(crate) fn retry_in_force(&self, rules: &Rules) -> Retry {
        if self.close_terms.one_attempt {
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
        let closing = self.phase == Phase::Closing;
        let in_channel = if self.phase == Phase::Open {
            gate.items_in_channel()
        } else {
            0
        };
        Circumstances {
            now,
            chance: target.chance,
            retry,
            idempotent: target.rules.idempotent,
            closing,
            deadline: self.close_limit().filter(|_| closing),
            has_line: self.surplus_items + in_channel > 0,
        }
    }

    fn gather_or_sleep(
        &mut self,
        gate: &Gate<T>,
        target: Target,
        now: Instant,
        closing: bool,
    ) -> Step<T> {
        let (gathered, behind) = (self.gathered, self.gathered + self.surplus.len() as u64);
        let line_end = || behind + if closing { 0 } else { self.outlet.len() as u64 };
        let waited = self.waited.check(&gate.waiters, gathered, line_end);
        let end = self.end();
        let since = self.ages.look(self.gathered, end, now);
        let keeps_order = target.rules.retry.keeps_order();
        // Rows that were set aside: when the first of them may be called, and whether the line
        // waits for them.
        let holds_line =
            !self.again.is_empty() && (keeps_order || self.again.len() >= target.batch_size);
        let dues = self
            .again
            .iter()
            .filter_map(|row| row.memo.again.as_ref())
            .map(|again| again.due);
        let again_due = if keeps_order { dues.max() } else { dues.min() };
        let is_empty = self.gathered == end;
        if is_empty && again_due.is_none() {
            return if closing {
                Step::Stop
            } else {
                Step::Sleep {
                    wanted: 1,
                    deadline: None,
                }
            };
        }
        if closing
            && self.close_limit().is_some_and(|limit| {
                limit <= now.max(again_due.filter(|_| is_empty).unwrap_or(now))
            })
        {
            self.give_up();
            return Step::Stop;
        }
        if let Some(until) = self
            .paused_until(target.pause_ratio)
            .filter(|until| *until > now && !closing)
        {
            return Step::Sleep {
                wanted: 0,
                deadline: Some(until),
            };
        }
        let again_is_due = again_due.is_some_and(|due| due <= now);
        if (is_empty || holds_line) && !again_is_due {
            let wanted = usize::from(!holds_line);
            return Step::Sleep {
                wanted,
                deadline: again_due,
            };
        }
        let surplus = self.surplus_items;
        let available = if closing {
            surplus
        } else {
            surplus + gate.items_in_channel()
        };
        let urgent = self.flushes.is_urgent(self.gathered);
        let ordinary_due = since.checked_add(target.linger);
        let due = if waited {
            since.checked_add(target.waited_linger)
        } else {
            ordinary_due
        };
        let overdue = due.is_some_and(|due| due <= now) && !is_empty;
        let is_ready = available >= target.batch_size
            || closing
            || urgent
            || overdue
            || gate.is_heavy()
            || again_is_due;
        if !is_ready {
            if !waited {
                self.waited.doze();
            }
            // The closed bit may be set just now: the sleep then is none.
            let deadline = due.into_iter().chain(again_due).min();
            return Step::Sleep {
                wanted: target.batch_size.saturating_sub(surplus),
                deadline,
            };
        }
        let pressed = gate.is_pressed();
        let mut batch = self.fresh_batch();
        let mut weight = 0;
        if again_is_due {
            weight = self.take_due(gate, &mut batch, target.batch_size, now);
        }
        let full = if keeps_order && again_is_due {
            false
        } else {
            self.gather_beside(gate, &mut batch, target.batch_size, weight)
        };
        batch.trigger = match () {
            () if full || pressed => Trigger::Size,
            () if closing => Trigger::Close,
            () if urgent => Trigger::Flush,
            () if again_is_due => Trigger::Retry,
            () if waited && ordinary_due.is_none_or(|due| due > now) => Trigger::Wait,
            () => Trigger::Linger,
        };
        batch.course.cut_at = target.batch_size;
        batch.course.full = full;
        batch.course.probe = target.probe;
        batch.course.queue_wait = now.saturating_duration_since(since);
        self.counts.batches.count(batch.trigger);
        Step::Lend(self.lend(batch))
    }

    /// Moves rows that were set aside and are due to the front of a batch; returns their weight.
    fn take_due(
        &mut self,
        gate: &Gate<T>,
        batch: &mut Batch<T>,
        size: usize,
        now: Instant,
    ) -> usize {
        let limit = gate
            .weigher
            .as_ref()
            .map_or(usize::MAX, |weigher| weigher.limit);
        let (mut due, mut later) = (Vec::new(), Vec::new());
        let mut weight = 0usize;
        for row in std::mem::take(&mut self.again) {
            let is_due = row.memo.again.as_ref().is_none_or(|again| again.due <= now);
            let fits = due.len() < size
                && (due.is_empty() || weight.saturating_add(row.memo.weight) <= limit);
            if is_due && fits {
                weight = weight.saturating_add(row.memo.weight);
                due.push(row);
            } else {
                later.push(row);
            }
        }
        self.again = later;
        fill(batch, due);
        weight
    }

    /// The end of the pause, by the ratio that is in force now.
    fn paused_until(&self, ratio: f64) -> Option<Instant> {
        let (end, service_time) = self.paused_after.filter(|_| ratio > 0.0)?;
        let pause = Duration::try_from_secs_f64(service_time.as_secs_f64() * ratio)
            .unwrap_or(Duration::MAX);
        Some(later(end, pause))
    }

    /// Moves up to `size` items into the batch; whether it is full, by count or by weight.
    fn gather(&mut self, gate: &Gate<T>, batch: &mut Batch<T>, size: usize) -> bool {
        self.gather_beside(gate, batch, size, 0)
    }

    /// The same beside items of this weight that the batch holds already.
    fn gather_beside(
        &mut self,
        gate: &Gate<T>,
        batch: &mut Batch<T>,
        size: usize,
        beside: usize,
    ) -> bool {
        let limit = gate
            .weigher
            .as_ref()
            .map_or(usize::MAX, |weigher| weigher.limit);
        let before = batch.items.len();
        let mut weight = beside;
        let mut credit = 0;
        let mut boundary = self.flushes.next_boundary();
        let mut full_by_weight = before > 0 && weight >= limit;
        while batch.items.len() < size && !full_by_weight {
            if self.gathered == boundary {
                boundary = self.pass_boundary(batch.items.len() - before);
            }
            let message = match self.surplus.pop_front() {
                Some(message) => {
                    self.surplus_items -= message.items();
                    message
                }
                None if self.phase != Phase::Open => break,
                None => {
                    let most = ((size - batch.items.len()) as u64).min(boundary - self.gathered);
                    match self.gather_singles(batch, most) {
                        Singles::All => continue,
                        Singles::Until(message) => {
                            self.left_channel(gate, &message);
                            message
                        }
                        Singles::Empty => break,
                    }
                }
            };
            let tag = message.tag;
            match message.load {
                Load::One(item) => batch.items.push(item),
                Load::Special(special) => {
                    if !batch.items.is_empty() && weight.saturating_add(special.weight) > limit {
                        self.put_back(Message {
                            tag,
                            load: Load::Special(special),
                        });
                        full_by_weight = true;
                        continue;
                    }
                    weight = weight.saturating_add(special.weight);
                    full_by_weight = weight >= limit;
                    if let Some(ticket) = special.ticket {
                        ticket.leave_line();
                        batch.tickets.push((batch.items.len(), ticket));
                    }
                    batch.items.push(special.item);
                }
                Load::Chunk(mut chunk) => {
                    let room = size - batch.items.len();
                    let taken = chunk.fitting(room, limit, batch.items.is_empty(), &mut weight);
                    full_by_weight = taken < chunk.items.len().min(room) || weight >= limit;
                    credit += taken;
                    batch.items.extend(chunk.items.drain(..taken));
                    chunk.weights.drain(..taken.min(chunk.weights.len()));
                    if !chunk.items.is_empty() {
                        self.put_back(Message {
                            tag,
                            load: Load::Chunk(chunk),
                        });
                        continue;
                    }
                    self.emptied.push(chunk);
                    if self.emptied.len() == CHUNKS_TOGETHER {
                        gate.spare_chunks.put_all(&mut self.emptied);
                    }
                }
            }
            self.gathered += 1;
        }
        if self.gathered == boundary {
            self.pass_boundary(batch.items.len() - before);
        }
        self.gathered_items += (batch.items.len() - before) as u64;
        gate.spare_chunks.put_all(&mut self.emptied);
        gate.weight_left(weight - beside);
        gate.credit.give_back(credit);
        full_by_weight || batch.items.len() >= size
    }

    /// Items of single adds, from the channel straight into the batch.
    fn gather_singles(&mut self, batch: &mut Batch<T>, most: u64) -> Singles<T> {
        let before = batch.items.len();
        let end = self.outlet.take_singles(&mut batch.items, most);
        self.gathered += (batch.items.len() - before) as u64;
        end
    }

    /// First in line again.
    fn put_back(&mut self, message: Message<T>) {
        self.surplus_items += message.items();
        self.surplus.push_front(message);
    }

    /// A position that a flush waits for is reached, with so many items in the batch being
    /// gathered; returns the next one.
    fn pass_boundary(&mut self, in_batch: usize) -> u64 {
        self.flushes
            .pass(self.gathered, self.gathered_items + in_batch as u64);
        self.flushes.next_boundary()
    }

    fn fresh_batch(&mut self) -> Box<Batch<T>> {
        self.fresh_batch_named(None)
    }

    /// A batch under this name, or under a new one.
    fn fresh_batch_named(&mut self, name: Option<Name>) -> Box<Batch<T>> {
        let Name { id, attempts } = name.unwrap_or_else(|| Name {
            id: self.next_id(),
            attempts: 0,
        });
        let first = self.gathered_items;
        let mut batch = match self.spare.take() {
            Some(mut spare) => {
                spare.renew(id);
                spare
            }
            None => Box::new(Batch::new(id, Arc::clone(&self.closing))),
        };
        batch.course.first = first;
        batch.attempt = attempts;
        batch
    }

    /// Marks the batch as in flight.
    fn lend(&mut self, mut batch: Box<Batch<T>>) -> Box<Batch<T>> {
        batch.attempt += 1;
        batch.course.closing = self.phase == Phase::Closing;
        self.counts.calls += 1;
        self.counts.retries += u64::from(batch.attempt > 1);
        self.lent = Some(Lent {
            items: batch.items.len(),
            tickets: std::mem::take(&mut batch.tickets),
            memos: std::mem::take(&mut batch.memos),
        });
        batch
    }

    /// Keeps an emptied batch for its buffers; one that is far too large for the size in force is
    /// given back instead.
    pub(crate) fn keep_spare(&mut self, mut batch: Box<Batch<T>>, batch_size: usize) {
        debug_assert!(batch.items.is_empty());
        if batch.items.capacity() > batch_size.max(64).saturating_mul(4) {
            batch.items.shrink_to(batch_size);
        }
        self.spare = Some(batch);
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
#[path = "gather/tests.rs"]
pub(crate) mod tests;
