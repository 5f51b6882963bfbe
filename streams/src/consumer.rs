//! The thread between a source and a batcher.
//!
//! # Protocol
//! One round: collect outcomes, acknowledge, bury, refresh, give back, read, submit. While the batcher
//! retries a call or has stalled, nothing is buried, read or submitted: a dead backend says nothing
//! about an entry, and what others left is not claimed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use load_aware_batcher::{AddError, Batcher, Outcome, Ticket};

use crate::ledger::{End, Ledger, Next, Recall, Suspicion};
use crate::{ConsumerReport, Delivery, Options, Snapshot, Source, SourceError};

/// Two: one may have been ended by something else.
const DEATHS: u64 = 2;
/// How long the loop waits for the oldest ticket, or with nothing to do, before it reads again.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two attempts at a source that does not answer, and before an entry is submitted again.
const BACKOFF: Duration = Duration::from_millis(100);
/// Why nothing is read meanwhile.
const RECALLED: &str = "the log gives entries to another consumer";

/// Reads a [`Source`], submits each entry to a [`Batcher`], and acknowledges an entry once its
/// ticket says [`Handled`](Outcome::Handled).
///
/// One thread reads. Dropping it stops it as [`stop`](Self::stop) does with ten seconds.
///
/// ```no_run
/// use std::time::Duration;
/// # #[cfg(feature = "redis")] {
/// use load_aware_batcher_streams::load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_streams::{Consumer, Options, RedisSource};
///
/// let batcher = Batcher::builder().idempotent(true).spawn(|batch: &mut Batch<i64>| {
///     // INSERT ... ON CONFLICT DO NOTHING
///     Ok(LoadFeedback::new())
/// })?;
/// let source = RedisSource::new("redis://127.0.0.1/", "in", "g", "host-1");
/// let consumer = Consumer::start(source, batcher, Options::new(), |d| d.parse("n"))?;
/// let report = consumer.stop(Duration::from_secs(10));
/// assert!(report.is_clean, "{report:?}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<ConsumerReport>>,
}

struct Shared {
    /// Milliseconds after `started` at which the consumer has to have ended; `u64::MAX` while it
    /// runs. One writer: `stop`.
    deadline: AtomicU64,
    started: Instant,
    snapshot: Mutex<Snapshot>,
}

impl Shared {
    fn deadline(&self) -> Option<Instant> {
        // Relaxed: nothing else is published with it.
        match self.deadline.load(Ordering::Relaxed) {
            u64::MAX => None,
            ms => Some(self.started + Duration::from_millis(ms)),
        }
    }
}

impl Consumer {
    /// Opens the source and starts the thread. `decode` makes an item of an entry; an entry that it
    /// refuses is buried. It is called again if the entry is submitted again.
    ///
    /// The batcher's handler has to make a repeated entry harmless, by a key that the entry carries
    /// or by its id. The batcher is closed when the consumer stops.
    ///
    /// # Errors
    /// The source does not open, or the thread does not start.
    pub fn start<S, T, E, D>(
        mut source: S,
        batcher: Batcher<T>,
        options: Options,
        mut decode: D,
    ) -> Result<Self, SourceError>
    where
        S: Source,
        T: Send + 'static,
        E: std::fmt::Display,
        D: FnMut(&Delivery<S::Id>) -> Result<T, E> + Send + 'static,
    {
        source.open()?;
        let shared = Arc::new(Shared {
            deadline: AtomicU64::new(u64::MAX),
            started: Instant::now(),
            snapshot: Mutex::default(),
        });
        let decode = move |delivery: &Delivery<S::Id>| decode(delivery).map_err(|e| e.to_string());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("stream-consumer".to_owned())
            .spawn(move || Round::new(source, batcher, options, decode, theirs).run())
            .map_err(|error| SourceError::with_source("failed to start the consumer", error))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The books at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.shared.snapshot.lock();
        snapshot.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the thread has ended, by `stop` or by a panic of `decode`.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Reads no more, waits until everything in hand is stored and acknowledged, for at most
    /// `timeout`, and closes the batcher. What is not stored by then stays with the log, which
    /// delivers it again. A source that does not answer may add the time-out of one call.
    #[must_use = "the report says what was left"]
    pub fn stop(mut self, timeout: Duration) -> ConsumerReport {
        self.end(timeout)
    }

    fn end(&mut self, timeout: Duration) -> ConsumerReport {
        let ms = (self.shared.started.elapsed() + timeout).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX - 1).min(u64::MAX / 4);
        // Relaxed: see `deadline`.
        self.shared.deadline.store(ms, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => report,
            _ => ConsumerReport {
                books: self.snapshot(),
                is_clean: false,
            },
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.end(Duration::from_secs(10));
        }
    }
}

struct Round<S: Source, T: Send + 'static, D> {
    source: S,
    batcher: Batcher<T>,
    options: Options,
    decode: D,
    shared: Arc<Shared>,
    ledger: Ledger<S::Id>,
    deliveries: BTreeMap<S::Id, Delivery<S::Id>>,
    /// In the order of submission.
    tickets: VecDeque<(S::Id, Ticket)>,
    /// The entry that is noted with the source as being out alone.
    alone: Option<S::Id>,
    /// Since when the log wants entries back.
    recalled_at: Option<Instant>,
    kept_at: Instant,
    released_at: Instant,
    source_errors: u64,
    source_retry_at: Option<Instant>,
    last_error: Option<String>,
}

impl<S, T, D> Round<S, T, D>
where
    S: Source,
    T: Send + 'static,
    D: FnMut(&Delivery<S::Id>) -> Result<T, String>,
{
    fn new(
        source: S,
        batcher: Batcher<T>,
        options: Options,
        decode: D,
        shared: Arc<Shared>,
    ) -> Self {
        let suspicion = Suspicion {
            deliveries: options.delivery_limit,
            deaths: DEATHS,
        };
        Self {
            source,
            batcher,
            options,
            decode,
            shared,
            ledger: Ledger::new(suspicion),
            deliveries: BTreeMap::new(),
            tickets: VecDeque::new(),
            alone: None,
            recalled_at: None,
            kept_at: Instant::now(),
            released_at: Instant::now(),
            source_errors: 0,
            source_retry_at: None,
            last_error: None,
        }
    }

    fn run(mut self) -> ConsumerReport {
        loop {
            let deadline = self.shared.deadline();
            self.collect();
            let halted = self.halted();
            let source_is_up = self.source_retry_at.is_none_or(|at| at <= Instant::now());
            let mut read = 0;
            if source_is_up {
                let step = self.step(halted.is_some(), deadline.is_some());
                match step {
                    Ok(count) => {
                        (read, self.source_retry_at, self.last_error) = (count, None, None)
                    }
                    Err(error) => {
                        self.source_errors += 1;
                        self.source_retry_at = Some(Instant::now() + BACKOFF);
                        self.last_error = Some(error.to_string());
                    }
                }
            }
            let recalled = self.recalled_at.map(|_| RECALLED.to_owned());
            self.publish(halted.or(recalled).or_else(|| self.last_error.clone()));
            if let Some(deadline) = deadline
                && (self.ledger.in_hand() == 0 || Instant::now() >= deadline)
            {
                return self.finish(deadline);
            }
            if read == 0 {
                self.pause();
            }
        }
    }

    /// Waits for the oldest ticket, which has its item handed over without a linger.
    fn pause(&mut self) {
        match self.tickets.front() {
            Some((_, ticket)) => {
                // The outcome is taken by `collect`.
                let begun = Instant::now();
                let outcome = ticket.wait_timeout(PAUSE);
                if matches!(outcome, Some(Outcome::Stalled | Outcome::Reentrant)) {
                    thread::sleep(PAUSE.saturating_sub(begun.elapsed()));
                }
            }
            None if self.source_retry_at.is_some() || self.ledger.in_hand() > 0 => {
                thread::sleep(PAUSE);
            }
            None => {}
        }
    }

    /// Why nothing is read, if the batcher is the reason.
    fn halted(&self) -> Option<String> {
        let stats = self.batcher.stats();
        if let Some(retrying) = &stats.retrying {
            return Some(format!("the backend: {}", retrying.error.source()));
        }
        stats
            .stalled
            .then(|| "the batcher's failed rows are to be taken".to_owned())
    }

    /// Takes the outcomes that there are.
    fn collect(&mut self) {
        let ledger = &mut self.ledger;
        self.tickets.retain(|(id, ticket)| {
            let end = match ticket.try_wait() {
                // The item goes its way.
                None | Some(Outcome::Stalled | Outcome::Reentrant) => return true,
                Some(Outcome::Handled) => End::Stored,
                Some(Outcome::Failed(error)) if error.is_permanent() => {
                    End::Permanent(error.source().to_string())
                }
                Some(_) => End::Again,
            };
            ledger.ended(id, end);
            false
        });
        if self.released_at.elapsed() >= BACKOFF {
            self.released_at = Instant::now();
            self.ledger.release();
        }
    }

    /// One exchange with the source. Returns how many entries it delivered.
    fn step(&mut self, halted: bool, stopping: bool) -> Result<usize, SourceError> {
        if !self.ledger.stored().is_empty() {
            self.source.ack(self.ledger.stored())?;
            for id in self.ledger.stored() {
                self.deliveries.remove(id);
            }
            self.ledger.acknowledged();
        }
        if self.kept_at.elapsed() >= self.options.keep_every {
            self.source.keep(&self.ledger.ids())?;
            self.kept_at = Instant::now();
        }
        if !halted {
            self.bury()?;
        }
        if let Some(id) = self.alone.clone().filter(|_| self.ledger.out() == 0) {
            self.source.survived(&id)?;
            self.alone = None;
            if let Some(delivery) = self.deliveries.get_mut(&id) {
                delivery.deaths = 0;
            }
        }
        let is_recalling = self.source.is_recalling();
        if is_recalling {
            self.recall()?;
        }
        let mut read = 0;
        // At the end, and while one entry is out alone, nothing new comes.
        let room = self.options.capacity.saturating_sub(self.ledger.in_hand());
        let reads = !halted && !stopping && !is_recalling && self.alone.is_none();
        if reads && room > 0 {
            let idle = self.ledger.in_hand() == 0;
            let wait = if idle {
                self.options.idle_wait
            } else {
                Duration::ZERO
            };
            for delivery in self.source.poll(room, wait)? {
                read += 1;
                if self
                    .ledger
                    .take(&delivery.id, delivery.times, delivery.deaths)
                {
                    self.deliveries.insert(delivery.id.clone(), delivery);
                }
            }
        } else {
            self.source.serve()?;
        }
        if !halted {
            self.submit()?;
        }
        Ok(read)
    }

    /// Gives back what the log wants back, once nothing of it is in hand.
    fn recall(&mut self) -> Result<(), SourceError> {
        let since = *self.recalled_at.get_or_insert_with(|| {
            // What is submitted would wait for others, of which none comes.
            self.batcher.request_flush();
            Instant::now()
        });
        let whose = match since.elapsed() < self.options.recall_timeout {
            true => Recall::NotSubmitted,
            false => Recall::All,
        };
        let left = self.ledger.recall(|id| self.source.is_recalled(id), whose);
        for id in &left {
            self.deliveries.remove(id);
            self.alone.take_if(|alone| alone == id);
        }
        if whose == Recall::All {
            // Sorted, as the ledger is.
            self.tickets
                .retain(|(id, _)| left.binary_search(id).is_err());
        }
        if !self.ledger.holds(|id| self.source.is_recalled(id)) {
            self.source.give_back()?;
            self.recalled_at = None;
        }
        Ok(())
    }

    fn bury(&mut self) -> Result<(), SourceError> {
        while let Some((id, why)) = self.ledger.dead() {
            self.source.bury(&self.deliveries[&id], why)?;
            self.ledger.buried();
            self.deliveries.remove(&id);
            self.alone.take_if(|alone| *alone == id);
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), SourceError> {
        while let Some(next) = self.ledger.next() {
            let (Next::WithOthers(id) | Next::Alone(id)) = next.clone();
            // Before `decode`, which may end the process too.
            if matches!(next, Next::Alone(_)) {
                self.source.alone(&self.deliveries[&id])?;
                self.alone = Some(id.clone());
            }
            let item = match (self.decode)(&self.deliveries[&id]) {
                Ok(item) => item,
                Err(why) => {
                    self.ledger.dead_on_arrival(next, why);
                    continue;
                }
            };
            match self.batcher.try_submit(item) {
                Ok(ticket) => {
                    self.tickets.push_back((id, ticket));
                    self.ledger.submitted(next);
                }
                Err(error @ AddError::TooHeavy(_)) => {
                    self.ledger.dead_on_arrival(next, error.to_string());
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn publish(&self, waiting_for: Option<String>) -> Snapshot {
        let counts = self.ledger.counts();
        let snapshot = Snapshot {
            read: counts.read,
            acknowledged: counts.acknowledged,
            buried: counts.buried,
            in_hand: self.ledger.in_hand() as u64,
            left: counts.left,
            resubmitted: counts.resubmitted,
            source_errors: self.source_errors,
            waiting_for,
        };
        let mut shared = self
            .shared
            .snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.clone_from(&snapshot);
        snapshot
    }

    fn finish(mut self, deadline: Instant) -> ConsumerReport {
        // The batcher's end resolves every ticket.
        let timeout = deadline.saturating_duration_since(Instant::now());
        drop(self.batcher.shutdown(timeout));
        self.collect();
        // Without the answer these stay with the log, which is harmless.
        let _ = self.step(true, true);
        let left = self.ledger.leave();
        let closed = self.source.close();
        let why = closed.as_ref().err().map(SourceError::to_string);
        let books = self.publish(why.or_else(|| self.last_error.clone()));
        let is_clean = left.is_empty() && closed.is_ok();
        ConsumerReport { books, is_clean }
    }
}
