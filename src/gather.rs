//! What the flusher does next: the decisions between two calls of the handler, under the intake's lock.

use std::time::{Duration, Instant};

use crate::batch::{Batch, Failed, Trigger};
use crate::channel::Singles;
use crate::intake::{Intake, Lent, Phase, Search, later};
use crate::message::{CHUNKS_TOGETHER, Load, Message};
use crate::queue::Queue;
use crate::sync::Arc;

/// What is in force at this look, from the setpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) batch_size: usize,
    pub(crate) linger: Duration,
    /// The linger of an item that somebody waits for: the policy's own, or none.
    pub(crate) waited_linger: Duration,
    pub(crate) pause_ratio: f64,
    pub(crate) probe: bool,
}

/// What the flusher does next.
pub(crate) enum Step<T> {
    /// Lend this batch.
    Lend(Box<Batch<T>>),
    /// Give this row to the hook.
    Hook(Failed<T>),
    /// Nothing until so many items are in the channel, the deadline, or a ring.
    Sleep { wanted: usize, deadline: Option<Instant> },
    /// Nothing any more.
    Stop,
}

impl<T> Intake<T> {
    /// What to do now. Sets `flushed` if a flush is done and its callers must be woken.
    pub(crate) fn next(&mut self, queue: &Queue<T>, target: Target, now: Instant, flushed: &mut bool) -> Step<T> {
        let for_hook = self.for_hook.pop_front();
        self.hooking = for_hook.is_some();
        if let Some(failed) = for_hook {
            return Step::Hook(failed);
        }
        if self.phase == Phase::Abandoned {
            return Step::Stop;
        }
        let closing = self.phase == Phase::Closing;
        if let Some(part) = self.parts.pop_front() {
            match part.course.not_before {
                Some(time) if time > now && !closing => {
                    self.parts.push_front(part);
                    return Step::Sleep { wanted: 0, deadline: Some(time) };
                }
                _ => return Step::Lend(self.lend(part)),
            }
        }
        self.search = Search::default();
        *flushed = self.flushes.settle(self.gathered);
        let was_stalled = std::mem::replace(&mut self.stalled, !self.has_hook && self.kept.is_full() && !closing);
        if was_stalled != self.stalled {
            if self.stalled { queue.stall.begin(now) } else { queue.stall.end() }
        }
        if self.stalled {
            return Step::Sleep { wanted: 0, deadline: None };
        }
        self.gather_or_sleep(queue, target, now, closing)
    }

    fn gather_or_sleep(&mut self, queue: &Queue<T>, target: Target, now: Instant, closing: bool) -> Step<T> {
        let (gathered, behind) = (self.gathered, self.gathered + self.surplus.len() as u64);
        let line_end = || behind + if closing { 0 } else { self.outlet.len() as u64 };
        let waited = self.waited.check(&queue.waiters, gathered, line_end);
        let end = self.end();
        let since = self.ages.look(self.gathered, end, now);
        if self.gathered == end {
            return if closing { Step::Stop } else { Step::Sleep { wanted: 1, deadline: None } };
        }
        if let Some(until) = self.paused_until(target.pause_ratio).filter(|until| *until > now && !closing) {
            return Step::Sleep { wanted: 0, deadline: Some(until) };
        }
        let surplus = self.surplus_items;
        let available = if closing { surplus } else { surplus + queue.items_in_channel() };
        let urgent = self.flushes.is_urgent(self.gathered);
        let ordinary_due = since.checked_add(target.linger);
        let due = if waited { since.checked_add(target.waited_linger) } else { ordinary_due };
        let overdue = due.is_some_and(|due| due <= now);
        if available < target.batch_size && !closing && !urgent && !overdue && !queue.is_heavy() {
            if !waited {
                self.waited.doze();
            }
            // The closed bit may be set just now: the sleep then is none.
            return Step::Sleep { wanted: target.batch_size.saturating_sub(surplus), deadline: due };
        }
        let pressed = queue.is_pressed();
        let mut batch = self.fresh_batch();
        let full = self.gather(queue, &mut batch, target.batch_size);
        batch.trigger = match () {
            () if full || pressed => Trigger::Size,
            () if closing => Trigger::Close,
            () if urgent => Trigger::Flush,
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

    /// The end of the pause, by the ratio that is in force now.
    fn paused_until(&self, ratio: f64) -> Option<Instant> {
        let (end, service_time) = self.paused_after.filter(|_| ratio > 0.0)?;
        let pause = Duration::try_from_secs_f64(service_time.as_secs_f64() * ratio).unwrap_or(Duration::MAX);
        Some(later(end, pause))
    }

    /// Moves up to `size` items into the batch; whether it is full, by count or by weight.
    fn gather(&mut self, queue: &Queue<T>, batch: &mut Batch<T>, size: usize) -> bool {
        let limit = queue.weigher.as_ref().map_or(usize::MAX, |weigher| weigher.limit);
        let mut weight = 0usize;
        let mut credit = 0;
        let mut boundary = self.flushes.next_boundary();
        let mut full_by_weight = false;
        while batch.items.len() < size && !full_by_weight {
            if self.gathered == boundary {
                boundary = self.pass_boundary(batch.items.len());
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
                            self.left_channel(queue, &message);
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
                        self.put_back(Message { tag, load: Load::Special(special) });
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
                        self.put_back(Message { tag, load: Load::Chunk(chunk) });
                        continue;
                    }
                    self.emptied.push(chunk);
                    if self.emptied.len() == CHUNKS_TOGETHER {
                        queue.spare_chunks.put_all(&mut self.emptied);
                    }
                }
            }
            self.gathered += 1;
        }
        if self.gathered == boundary {
            self.pass_boundary(batch.items.len());
        }
        self.gathered_items += batch.items.len() as u64;
        queue.spare_chunks.put_all(&mut self.emptied);
        queue.weight_left(weight);
        queue.credit.give_back(credit);
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

    /// A position that a flush waits for is reached, with so many items in the batch being gathered; returns the next one.
    fn pass_boundary(&mut self, in_batch: usize) -> u64 {
        self.flushes.pass(self.gathered, self.gathered_items + in_batch as u64);
        self.flushes.next_boundary()
    }

    fn fresh_batch(&mut self) -> Box<Batch<T>> {
        let id = self.next_id();
        let first = self.gathered_items;
        let mut batch = match self.spare.take() {
            Some(mut spare) => {
                spare.renew(id);
                spare
            }
            None => Box::new(Batch::new(id, Arc::clone(&self.closing))),
        };
        batch.course.first = first;
        batch
    }

    /// Marks the batch as in the handler's hands.
    fn lend(&mut self, mut batch: Box<Batch<T>>) -> Box<Batch<T>> {
        batch.attempt += 1;
        batch.course.closing = self.phase == Phase::Closing;
        self.counts.calls += 1;
        self.counts.retries += u64::from(batch.attempt > 1);
        self.lent = Some(Lent { items: batch.items.len(), tickets: std::mem::take(&mut batch.tickets) });
        batch
    }

    /// Keeps an emptied batch for its buffers; one that is far too large for the size in force is given back instead.
    pub(crate) fn keep_spare(&mut self, mut batch: Box<Batch<T>>, batch_size: usize) {
        debug_assert!(batch.items.is_empty());
        if batch.items.capacity() > batch_size.max(64).saturating_mul(4) {
            batch.items.shrink_to(batch_size);
        }
        self.spare = Some(batch);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "gather/tests.rs"]
mod tests;
