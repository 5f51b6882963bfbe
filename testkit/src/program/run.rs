//! Runs a program on real threads, and makes its account.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{
    AddError, Batcher, BuildError, Builder, FlushError, LoadFeedback, Outcome, Producer, Retry,
    Stats,
};

use super::account::{Account, Shared};
use super::ledger::{ACCEPTED, CALLED, Item, Ledger, OVER};
use super::scripted::{Event, Gate, OWN_ITEMS, Own, Scripted, State, hook};
use super::{Ending, LONG, Op, Order, Program, Us};

const fn us(us: Us) -> Duration {
    Duration::from_micros(us)
}

impl Program {
    /// Runs it to its end, and accounts for every item.
    pub fn run(&self) -> Account {
        let program = Arc::new(self.clone());
        let lanes = self
            .scripts
            .iter()
            .map(|script| script.iter().map(Op::items).sum());
        let is_ordered = self.calls == 1 || self.order != Order::None;
        let lanes = lanes.chain([OWN_ITEMS]);
        let ledger = Ledger::new(lanes, self.max, is_ordered, self.calls > 1);
        let gate = Arc::new(Gate::default());
        let own: Own = Arc::new(OnceLock::new());
        let (events, happened) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (on_close, closed) = mpsc::channel();
        let scripted = Scripted {
            program,
            ledger: Arc::clone(&ledger),
            gate: Arc::clone(&gate),
            events: events.clone(),
            own: Arc::clone(&own),
            _end: end,
            done: Arc::default(),
            state: Arc::default(),
        };
        let backoff = (us(self.backoff), us(4 * self.backoff));
        let retry = match self.patience {
            None => Retry::attempts(self.attempts),
            Some((patience, false)) => Retry::default().for_at_least(us(patience)),
            Some((patience, true)) => Retry::attempts(self.attempts).for_at_least(us(patience)),
        };
        let retry = retry.backoff(backoff.0, backoff.1);
        let mut builder = Batcher::builder()
            .initial_batch_size(self.max)
            .min_batch_size(self.min)
            .max_batch_size(self.max)
            .queue_capacity(self.capacity)
            .linger(us(self.linger))
            .load_check_interval(us(1_000))
            .retry(
                retry
                    .bisect(self.bisect)
                    .split_on_retry(self.split_on_retry)
                    .keep_order(self.keep_order),
            )
            .idempotent(self.idempotent)
            .keep_failed(self.keep_failed)
            .close_timeout(us(self.close_timeout))
            .on_close(move |report| drop(on_close.send(report)));
        if let Some(every) = self.hook {
            builder = builder.on_failed(hook(Arc::clone(&ledger), Arc::clone(&own), every));
        }
        if let Some((limit, refuse)) = self.weight {
            builder = builder
                .max_batch_weight(limit, Item::weight)
                .refuse_too_heavy(refuse);
        }
        let batcher = Arc::new(
            self.start(builder, scripted)
                .expect("a program's settings are valid"),
        );
        let _ = own.set((Arc::downgrade(&batcher), batcher.producer()));
        let shared = Shared {
            ledger: Arc::clone(&ledger),
            batcher: Arc::downgrade(&batcher),
            tickets: Mutex::default(),
            told: Mutex::default(),
            reports: Mutex::default(),
            // A batch in flight, and one item that was too heavy for the previous batch.
            pending_max: self.pending_max(),
        };
        let mut kept = Some(batcher);
        std::thread::scope(|scope| {
            for (lane, script) in self.scripts.iter().enumerate() {
                let (shared, events, producer) =
                    (&shared, events.clone(), kept.as_ref().unwrap().producer());
                scope.spawn(move || {
                    let mut worker = Worker {
                        lane,
                        next: 0,
                        flushed: 0,
                        producer,
                        shared,
                        seen: None,
                    };
                    script.iter().for_each(|op| worker.act(*op));
                    let _ = events.send(Event::Done);
                });
            }
            self.wait(kept.as_ref().unwrap(), &happened, &shared);
            match self.ending {
                Ending::Shutdown => {
                    shared.reported(kept.as_ref().unwrap().shutdown(us(self.close_timeout)))
                }
                Ending::Drop => kept = None,
            }
            gate.open();
        });
        // The flusher's thread drops the handler when every item has ended.
        if ended.recv_timeout(us(LONG)) != Err(mpsc::RecvTimeoutError::Disconnected) {
            ledger.violation("the flusher's thread does not end".to_owned());
            return shared.account(self, None);
        }
        let stats = kept.map(|batcher| {
            let stats = batcher.stats();
            drop(batcher);
            stats
        });
        loop {
            match closed.recv_timeout(us(LONG)) {
                Ok(report) => shared.reported(report),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    ledger.violation("the hook for the report is never let go".to_owned());
                    break;
                }
            }
        }
        shared.account(self, stats)
    }

    fn start(
        &self,
        builder: Builder<Item>,
        scripted: Scripted,
    ) -> Result<Batcher<Item>, BuildError> {
        if self.calls == 1 {
            return builder.spawn(scripted);
        }
        let builder = builder.concurrency(self.calls);
        let builder = match self.order {
            Order::Key => builder.order_by(|item: &Item| item.lane),
            Order::Producer => builder.order_by_producer(),
            Order::None => builder.unordered(),
        };
        // Kept here, since a handler is replaced after a panic.
        let states: Vec<Arc<Mutex<State>>> = (0..self.calls).map(|_| Arc::default()).collect();
        builder.spawn_workers(move |worker| {
            let state = Arc::clone(&states[worker.index()]);
            Ok::<_, BuildError>(Scripted {
                state,
                ..scripted.clone()
            })
        })
    }

    /// How many items may wait. The queue does not count a batch in flight, nor one item that was
    /// too heavy for the previous batch.
    fn pending_max(&self) -> u64 {
        if self.calls == 1 {
            return 2 * self.capacity as u64 + 1;
        }
        let queue = self.capacity.div_ceil(self.calls).max(2 * self.max);
        (self.calls * (2 * queue + 1 + self.max)) as u64
    }

    /// Waits until all scripts are done, or the program should end. Takes failed rows meanwhile.
    fn wait(&self, batcher: &Batcher<Item>, happened: &mpsc::Receiver<Event>, shared: &Shared) {
        let begun = Instant::now();
        let mut running = self.scripts.len();
        while running > 0 {
            match happened.recv_timeout(us(1_000)) {
                Ok(Event::Done) => running -= 1,
                Ok(Event::End) => return,
                Err(_) if begun.elapsed() > 2 * us(LONG) => {
                    shared
                        .ledger
                        .violation(format!("it does not end: {:?}", batcher.stats()));
                    return;
                }
                Err(_) if batcher.stats().stalled => shared.ledger.given(&batcher.take_failed()),
                Err(_) => {}
            }
        }
    }
}

impl Op {
    /// How many items it adds at most.
    fn items(&self) -> usize {
        match *self {
            Self::Add(n)
            | Self::TryAdd(n)
            | Self::AddTimeout(n, _)
            | Self::AddMany(n)
            | Self::TryAddMany(n)
            | Self::AddManyTimeout(n, _)
            | Self::Submit(n) => n as usize,
            _ => 0,
        }
    }
}

/// One thread of a run.
struct Worker<'a> {
    lane: usize,
    /// The next item's number.
    next: usize,
    /// Up to this number all items have their outcome.
    flushed: usize,
    producer: Producer<Item>,
    shared: &'a Shared,
    seen: Option<Stats>,
}

impl Worker<'_> {
    fn act(&mut self, op: Op) {
        let ledger = Arc::clone(&self.shared.ledger);
        match op {
            Op::Add(n) => self.each(n, |producer, item| producer.add(item)),
            Op::TryAdd(n) => self.each(n, |producer, item| producer.try_add(item)),
            Op::AddTimeout(n, wait) => {
                self.each(n, |producer, item| producer.add_timeout(item, us(wait)))
            }
            Op::AddMany(n) => self.many(n, |producer, items| producer.add_many(items)),
            Op::TryAddMany(n) => self.many(n, |producer, items| producer.try_add_many(items)),
            Op::AddManyTimeout(n, wait) => self.many(n, |producer, items| {
                producer.add_many_timeout(items, us(wait))
            }),
            Op::Submit(n) => {
                let (lane, shared) = (self.lane, self.shared);
                self.each(n, |producer, item| {
                    let number = item.number;
                    let ticket = producer.submit(item)?;
                    shared.tickets.lock().unwrap().push((lane, number, ticket));
                    Ok(())
                });
            }
            Op::WaitForTicket(wait) => {
                let ticket = self.shared.tickets.lock().unwrap().pop();
                if let Some((lane, number, ticket)) = ticket {
                    let outcome = ticket.wait_timeout(us(wait));
                    if matches!(outcome, Some(Outcome::Failed(_) | Outcome::InDoubt)) {
                        self.shared.told.lock().unwrap().insert((lane, number));
                    }
                    self.shared
                        .tickets
                        .lock()
                        .unwrap()
                        .push((lane, number, ticket));
                }
            }
            Op::Flush(wait) => self.flush(wait),
            Op::RequestFlush => self.producer.request_flush(),
            _ => {
                let Some(batcher) = self.shared.batcher.upgrade() else {
                    return;
                };
                match op {
                    Op::TakeFailed => ledger.given(&batcher.take_failed()),
                    Op::Report => batcher.report(LoadFeedback::new().cpu_load(0.1).queue_depth(3)),
                    Op::Reconfigure { min, max, linger } => {
                        ledger.batch_max.fetch_max(max, SeqCst);
                        let _ = batcher.reconfigure(|limits| {
                            (limits.min_batch_size, limits.max_batch_size, limits.linger) =
                                (min, max, us(linger));
                        });
                    }
                    Op::Close(wait) => self.shared.reported(batcher.shutdown(us(wait))),
                    _ => self.look(&batcher),
                }
            }
        }
    }

    fn each(
        &mut self,
        n: u64,
        mut add: impl FnMut(&Producer<Item>, Item) -> Result<(), AddError<Item>>,
    ) {
        let ledger = &self.shared.ledger;
        for number in self.next..self.next + n as usize {
            match add(&self.producer, ledger.item(self.lane, number)) {
                Ok(()) => ledger.accepted(self.lane, number),
                Err(refused) => {
                    ledger.refusals.fetch_add(1, SeqCst);
                    ledger.refused(&refused.into_inner());
                }
            }
        }
        self.next += n as usize;
    }

    fn many(
        &mut self,
        n: u64,
        add: impl FnOnce(
            &Producer<Item>,
            &mut dyn Iterator<Item = Item>,
        ) -> Result<usize, AddError<Vec<Item>>>,
    ) {
        let (ledger, lane, n) = (&self.shared.ledger, self.lane, n as usize);
        let numbers = self.next..self.next + n;
        self.next += n;
        let mut items = numbers.clone().map(|number| ledger.item(lane, number));
        let back = match add(&self.producer, &mut items) {
            Ok(accepted) if accepted == n => Vec::new(),
            Ok(accepted) => {
                return ledger.violation(format!("{accepted} of {n} accepted, the rest nowhere"));
            }
            Err(refused) => {
                ledger.refusals.fetch_add(1, SeqCst);
                refused.into_inner()
            }
        };
        // The returned items are the last ones of the chunk, in order.
        if !back
            .iter()
            .map(|item| item.number)
            .eq(numbers.end - back.len()..numbers.end)
        {
            ledger.violation(format!(
                "of {numbers:?} came back {:?}",
                back.iter().map(|i| i.number).collect::<Vec<_>>()
            ));
        }
        (numbers.start..numbers.end - back.len()).for_each(|number| ledger.accepted(lane, number));
        back.iter().for_each(|item| ledger.refused(item));
    }

    /// Checks a flush that reports that all items have their outcome.
    fn flush(&mut self, wait: Us) {
        let ledger = &self.shared.ledger;
        match self.producer.flush(us(wait)) {
            Ok(()) | Err(FlushError::Failed { .. }) => {
                for number in self.flushed..self.next {
                    let flags = ledger.lanes[self.lane][number].load(SeqCst);
                    if flags & ACCEPTED != 0 {
                        if flags & CALLED == 0 {
                            ledger.violation(format!(
                                "{}/{number} was flushed and never called",
                                self.lane
                            ));
                        }
                        // It has its outcome, and must not be in a call again.
                        ledger.lanes[self.lane][number].fetch_or(OVER, SeqCst);
                    }
                }
                self.flushed = self.next;
            }
            Err(FlushError::Reentrant) => {
                ledger.violation("a flush on a producer's thread is reentrant".to_owned())
            }
            Err(_) => {}
        }
    }

    fn look(&mut self, batcher: &Batcher<Item>) {
        let ledger = &self.shared.ledger;
        let accepted = ledger.accepted.load(SeqCst) as u64;
        let stats = batcher.stats();
        let (begun, handled) = (
            ledger.begun.load(SeqCst) as u64,
            ledger.handled.load(SeqCst) as u64,
        );
        let ends = stats.handled + stats.failed + stats.unsent + stats.abandoned;
        // In the handler's hands; set aside, fewer than two batches; and some witnesses.
        let lent_max = 3 * ledger.batch_max.load(SeqCst) as u64 + 8;
        let sound = stats.added == ends + stats.pending
            && (accepted..=begun).contains(&stats.added)
            && stats.handled <= handled
            && stats.pending <= self.shared.pending_max + lent_max
            && stats.in_doubt.max(stats.rejected).max(stats.dropped_late) <= stats.failed;
        if !sound {
            ledger.violation(format!(
                "accepted {accepted}, begun {begun}, handled {handled}: {stats:?}"
            ));
        }
        if let Some(before) = self.seen.replace(stats.clone()) {
            let numbers = |stats: &Stats| {
                [
                    stats.added,
                    stats.handled,
                    stats.failed,
                    stats.in_doubt,
                    stats.rejected,
                    stats.unsent,
                    stats.dropped_late,
                    stats.calls,
                    stats.batches.total(),
                ]
            };
            if numbers(&before)
                .iter()
                .zip(numbers(&stats))
                .any(|(before, now)| *before > now)
            {
                ledger.violation(format!("backwards: {before:?} {stats:?}"));
            }
        }
    }
}
