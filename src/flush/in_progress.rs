//! The batch that is being worked on: what the handler holds, what is tried again, and what is
//! remembered from call to call. Part of the backlog, under its lock.

use std::time::{Duration, Instant};

use crate::batch::id::BatchId;
use crate::batch::rows::{Memo, Name, Row};
use crate::batch::{Batch, Closing};
use crate::error::BatchError;
use crate::flush::search::{Search, later};
use crate::sync::Arc;
use crate::ticket::Resolver;

/// What the handler holds at this moment.
pub(crate) struct InFlight {
    pub(crate) items: usize,
    /// When it was taken off.
    pub(crate) begun: Instant,
    pub(crate) tickets: Vec<(usize, Resolver)>,
    pub(crate) memos: Vec<Memo>,
}

/// How long calls take that go through: means over about eight of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct TypicalCall {
    len: f64,
    time: f64,
}

impl TypicalCall {
    const GAIN: f64 = 0.125;

    pub(crate) fn learn(&mut self, len: usize, time: Duration) {
        let gain = if self.len > 0.0 { Self::GAIN } else { 1.0 };
        self.len += gain * (len as f64 - self.len);
        self.time += gain * (time.as_secs_f64() - self.time);
    }

    /// Whether a call of this length ended in less than half of the time that it should take at
    /// least.
    pub(crate) fn is_early(&self, len: usize, time: Duration) -> bool {
        self.len > 0.0 && time.as_secs_f64() < 0.5 * self.time * (len as f64 / self.len).min(1.0)
    }
}

/// See the module's doc.
pub(crate) struct InProgress<T> {
    pub(crate) in_flight: Option<InFlight>,
    /// The batch that failed and is not decided yet, but for the rows in flight.
    pub(crate) search: Option<Box<Search<T>>>,
    /// Rows that the handler asked for again, or that head the next batch for another reason, by
    /// number.
    set_aside: Vec<Row<T>>,
    pub(crate) typical_call: TypicalCall,
    /// The error that says that statement or schema is wrong, since the last call that went
    /// through.
    pub(crate) misconfigured: Option<BatchError>,
    /// Errors to be dropped outside the lock.
    pub(crate) spent: Vec<BatchError>,
    /// The call that is paused after: when it ended and how long it took.
    pub(crate) paused_after: Option<(Instant, Duration)>,
    /// When the last call ended.
    pub(crate) last_call_end: Option<Instant>,
    /// Somebody flushed during a call: the pause or backoff after it is cut.
    pub(crate) cut_next_wait: bool,
    /// An emptied batch, for its buffers.
    spare: Option<Box<Batch<T>>>,
    ids: BatchIds,
    closing: Arc<Closing>,
    /// The number of the lane.
    worker: usize,
}

/// The ids of one batcher: a random part and a counter.
struct BatchIds {
    random: u64,
    last: u64,
}

impl BatchIds {
    fn next(&mut self) -> BatchId {
        self.last += 1;
        BatchId::new(self.random, self.last)
    }
}

impl<T> InProgress<T> {
    /// `random` is for the ids of the batches, `worker` the number of the lane.
    pub(crate) fn new(closing: Arc<Closing>, random: u64, worker: usize) -> Self {
        Self {
            in_flight: None,
            search: None,
            set_aside: Vec::new(),
            typical_call: TypicalCall::default(),
            misconfigured: None,
            spent: Vec::new(),
            paused_after: None,
            last_call_end: None,
            cut_next_wait: false,
            spare: None,
            ids: BatchIds { random, last: 0 },
            closing,
            worker,
        }
    }

    /// Whether items that were gathered have no outcome yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.is_some() || self.search.is_some() || !self.set_aside.is_empty()
    }

    /// Somebody flushes. One pause or backoff is cut: the present one, or the one after the call
    /// under way.
    pub(crate) fn cut_wait(&mut self, now: Instant) {
        self.paused_after = None;
        self.cut_next_wait = self.in_flight.is_some();
        if let Some(search) = self.search.as_mut().filter(|_| self.in_flight.is_none()) {
            search.outage.flush(now);
        }
    }

    /// The end of the pause, by the ratio that is in force now.
    pub(crate) fn paused_until(&self, ratio: f64) -> Option<Instant> {
        let (end, service_time) = self.paused_after.filter(|_| ratio > 0.0)?;
        let pause = Duration::try_from_secs_f64(service_time.as_secs_f64() * ratio)
            .unwrap_or(Duration::MAX);
        Some(later(end, pause))
    }

    /// A batch under this name, or under a new one, whose first item from the line has this number.
    pub(crate) fn fresh_batch(&mut self, name: Option<Name>, first: u64) -> Box<Batch<T>> {
        let Name { id, attempts } = name.unwrap_or_else(|| Name {
            id: self.ids.next(),
            attempts: 0,
        });
        let mut batch = match self.spare.take() {
            Some(mut spare) => {
                spare.renew(id);
                spare
            }
            None => Box::new(Batch::new(id, Arc::clone(&self.closing), self.worker)),
        };
        batch.course.first = first;
        batch.attempt = attempts;
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

    /// A row that is to head a later batch, once it is due.
    pub(crate) fn set_aside(&mut self, row: Row<T>) {
        let place = self
            .set_aside
            .partition_point(|other| other.memo.number < row.memo.number);
        self.set_aside.insert(place, row);
    }

    /// How many rows are set aside.
    pub(crate) fn aside(&self) -> usize {
        self.set_aside.len()
    }

    /// The number of the first row that is set aside.
    pub(crate) fn first_aside(&self) -> Option<u64> {
        self.set_aside.first().map(|row| row.memo.number)
    }

    /// When the first of the rows that are set aside may be called.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        self.dues().min()
    }

    /// When all of them may be.
    pub(crate) fn all_due(&self) -> Option<Instant> {
        self.dues().max()
    }

    /// A close begins: rows that are set aside wait no longer than the backend asked for.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let rows = self.set_aside.iter_mut();
        for again in rows.filter_map(|row| row.memo.again.as_mut()) {
            again.due = again.due.min(again.earliest.max(now));
        }
    }

    fn dues(&self) -> impl Iterator<Item = Instant> {
        self.set_aside
            .iter()
            .filter_map(|row| row.memo.again.as_ref())
            .map(|again| again.due)
    }

    pub(crate) fn take_aside(&mut self) -> Vec<Row<T>> {
        std::mem::take(&mut self.set_aside)
    }

    /// Takes rows that were set aside and are due, at most `size`, and of at most this weight
    /// unless one alone is heavier; returns them with their weight.
    pub(crate) fn take_due(
        &mut self,
        size: usize,
        weight_limit: usize,
        now: Instant,
    ) -> (Vec<Row<T>>, usize) {
        let (mut due, mut later) = (Vec::new(), Vec::new());
        let mut weight = 0usize;
        for row in self.take_aside() {
            let is_due = row.memo.again.as_ref().is_none_or(|again| again.due <= now);
            let fits = due.len() < size
                && (due.is_empty() || weight.saturating_add(row.memo.weight) <= weight_limit);
            if is_due && fits {
                weight = weight.saturating_add(row.memo.weight);
                due.push(row);
            } else {
                later.push(row);
            }
        }
        self.set_aside = later;
        (due, weight)
    }
}
