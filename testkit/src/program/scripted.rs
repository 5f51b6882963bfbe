//! The handler and the hook of a program. They follow the script, and check the rows that they get.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, Failed, FlushError, Handler, LoadFeedback, Outcome,
    Producer,
};

use super::ledger::{CALLED, DOUBT, HANDLED, Item, Ledger, OVER, UNSENT};
use super::{Deed, LONG, Program, Us};

/// The most items that the handler itself adds.
pub const OWN_ITEMS: usize = 40;

/// Shut until the close has returned.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn is_open(&self) -> bool {
        *self.open.lock().unwrap()
    }

    fn wait(&self) {
        drop(
            self.opened
                .wait_while(self.open.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
    }
}

/// The events that main waits for.
pub enum Event {
    /// A thread's script is done.
    Done,
    /// The handler hangs, or was called often enough.
    End,
}

/// The batcher as its own handler has it.
pub type Own = Arc<OnceLock<(Weak<Batcher<Item>>, Producer<Item>)>>;

/// See the module's doc.
#[derive(Clone)]
pub struct Scripted {
    pub program: Arc<Program>,
    pub ledger: Arc<Ledger>,
    pub gate: Arc<Gate>,
    pub events: mpsc::Sender<Event>,
    pub own: Own,
    /// Dropped with the handler. By then the flusher's thread has decided every item.
    pub _end: mpsc::Sender<()>,
    /// The counts over all handlers.
    pub done: Arc<Done>,
    pub state: Arc<Mutex<State>>,
}

/// Counts over all handlers.
#[derive(Default)]
pub struct Done {
    calls: AtomicU64,
    own_items: AtomicUsize,
}

/// What the handler remembers.
#[derive(Default)]
pub struct State {
    /// The items of each id, and in how many calls they were.
    named: HashMap<u128, (u32, Vec<(usize, usize)>)>,
    /// A call has failed: rows may have been set aside since.
    failed: bool,
    /// Rows were asked for again.
    asked_again: bool,
    /// By lane: the last number that was handed over for the first time, and the last number that a
    /// successful call decided.
    called: Vec<Option<usize>>,
    settled: Vec<Option<usize>>,
}

impl Handler<Item> for Scripted {
    fn handle(&mut self, batch: &mut Batch<Item>) -> Result<LoadFeedback, BatchError> {
        let call = self.done.calls.fetch_add(1, SeqCst);
        self.check(batch);
        if call + 1 == self.program.calls_max {
            let _ = self.events.send(Event::End);
        }
        if self.program.hang_at == Some(call) && !self.gate.is_open() {
            let _ = self.events.send(Event::End);
            self.gate.wait();
        }
        let deed = self.program.deeds[call as usize % self.program.deeds.len()];
        let sets_aside = matches!(deed, Deed::Panic | Deed::RetryEvery(_));
        self.state.lock().unwrap().failed |= sets_aside;
        // A row that was asked for again comes behind its neighbours even where order is kept.
        self.state.lock().unwrap().asked_again |= matches!(deed, Deed::RetryEvery(_));
        let result = self.act(batch, deed, call);
        self.state.lock().unwrap().failed |= result.is_err();
        result
    }
}

impl Scripted {
    fn act(
        &self,
        batch: &mut Batch<Item>,
        deed: Deed,
        call: u64,
    ) -> Result<LoadFeedback, BatchError> {
        match deed {
            Deed::Unclassified => return Err(std::io::Error::other("scripted").into()),
            Deed::Transient => return Err(BatchError::transient("scripted")),
            Deed::Permanent => return Err(BatchError::permanent("scripted")),
            Deed::Unavailable => return Err(BatchError::unavailable("scripted")),
            Deed::Misconfigured => return Err(BatchError::misconfigured("scripted")),
            Deed::RejectAndFail(n) => {
                for (index, item) in batch.iter().enumerate() {
                    if item.number as u64 % n == 0 {
                        item.mark(OVER);
                        batch.reject(index, BatchError::permanent("rejected"));
                    }
                }
                return Err(BatchError::transient("scripted"));
            }
            Deed::InDoubt => {
                let over = if self.program.idempotent { 0 } else { OVER };
                for item in &*batch {
                    item.mark(DOUBT | over);
                }
                return Err(BatchError::in_doubt("scripted"));
            }
            // Without the panic hook, which would print the panic.
            Deed::Panic => std::panic::resume_unwind(Box::new("scripted")),
            Deed::BadRow(n) if batch.iter().any(|item| item.number as u64 % n == 0) => {
                return Err(BatchError::permanent("a bad row"));
            }
            Deed::SulkyRow(n) if batch.iter().any(|item| item.number as u64 % n == 0) => {
                return Err(std::io::Error::other("a sulky row").into());
            }
            Deed::Slow(us) => std::thread::sleep(Duration::from_micros(us)),
            Deed::Reenter => self.reenter(),
            Deed::Close => self.close(),
            Deed::RejectEvery(_)
            | Deed::RetryEvery(_)
            | Deed::BadRow(_)
            | Deed::SulkyRow(_)
            | Deed::Ok => {}
        }
        let again_every = if let Deed::RetryEvery(n) = deed {
            n
        } else {
            u64::MAX
        };
        let every = if let Deed::RejectEvery(n) = deed {
            n
        } else {
            u64::MAX
        };
        if every < u64::MAX {
            batch.reject(batch.len(), BatchError::permanent("no such row"));
        }
        let mut state = self.state.lock().unwrap();
        for index in 0..batch.len() {
            let Item { lane, number, .. } = batch[index];
            // Rows that were set aside are called after later ones, unless order is kept.
            if (number as u64 + 1) % again_every == 0 {
                batch.retry(index, BatchError::transient("again"));
                continue;
            }
            let keeps_order = self.program.keep_order && !state.asked_again;
            let is_ordered = self.ledger.is_ordered(lane) && (keeps_order || !state.failed);
            if state.settled[lane].replace(number) >= Some(number) && is_ordered {
                self.ledger
                    .violation(format!("{lane}/{number} handled out of order"));
            }
            if (batch[index].number as u64 + 1) % every == 0 {
                batch[index].mark(OVER);
                batch.reject(index, BatchError::permanent("rejected"));
            } else {
                batch[index].mark(HANDLED | OVER);
                self.ledger.handled.fetch_add(1, SeqCst);
            }
        }
        Ok(LoadFeedback::new().cpu_load((call % 11) as f64 / 10.0))
    }

    /// Checks bounds, order and identity as far as the handler sees them.
    fn check(&self, batch: &Batch<Item>) {
        let ids: Vec<_> = batch.iter().map(|item| (item.lane, item.number)).collect();
        let name = batch.id().as_u128();
        let (ledger, mut state) = (&self.ledger, self.state.lock().unwrap());
        if ids.is_empty() || ids.len() > ledger.batch_max.load(SeqCst) {
            ledger.violation(format!("a batch of {}", ids.len()));
        }
        if let Some((limit, _)) = self.program.weight {
            let weight: usize = batch.iter().map(Item::weight).sum();
            if weight > limit && ids.len() > 1 {
                ledger.violation(format!("{} items weigh {weight}", ids.len()));
            }
        }
        state.called.resize(ledger.lanes.len(), None);
        state.settled.resize(ledger.lanes.len(), None);
        for item in batch {
            let Item { lane, number, .. } = *item;
            let before = item.mark(CALLED);
            if before & (OVER | UNSENT) != 0 {
                ledger.violation(format!("{lane}/{number} called although {before:#b}"));
            }
            let is_new = before & CALLED == 0;
            let is_late = is_new && state.called[lane].replace(number) >= Some(number);
            if is_late && ledger.is_ordered(lane) {
                ledger.violation(format!("{lane}/{number} out of order"));
            }
            if is_new && batch.parent().is_some() {
                ledger.violation(format!("{lane}/{number} is new in a part"));
            }
        }
        let (calls, named) = state.named.entry(name).or_insert_with(|| (0, ids.clone()));
        *calls += 1;
        if (*calls, &*named) != (batch.attempt(), &ids) {
            ledger.violation(format!(
                "attempt {} is not the same batch, or not counted",
                batch.attempt()
            ));
        }
        if batch
            .parent()
            .is_some_and(|parent| !state.named.contains_key(&parent.as_u128()))
        {
            ledger.violation("a part of an unknown batch".to_owned());
        }
    }

    fn own_item(&self) -> Option<(usize, Item)> {
        let number = self.done.own_items.fetch_add(1, SeqCst);
        let lane = self.ledger.lanes.len() - 1;
        (number < OWN_ITEMS).then(|| (number, self.ledger.item(lane, number)))
    }

    fn answered(&self, number: usize, result: Result<(), AddError<Item>>) {
        match result {
            Ok(()) => self.ledger.accepted(self.ledger.lanes.len() - 1, number),
            Err(refused) => {
                if refused.is_timeout() {
                    self.ledger.violation("its own thread waited".to_owned());
                }
                self.ledger.refusals.fetch_add(1, SeqCst);
                self.ledger.refused(&refused.into_inner());
            }
        }
    }

    /// Makes every call that might wait for this thread itself.
    fn reenter(&self) {
        let Some((batcher, producer)) = self.own.get().cloned() else {
            return;
        };
        let long = Duration::from_micros(LONG);
        if let Some((number, item)) = self.own_item() {
            self.answered(number, producer.add(item));
        }
        if let Some((number, item)) = self.own_item() {
            self.answered(number, producer.add_timeout(item, long));
        }
        if let Some((number, item)) = self.own_item() {
            let result = producer.add_many([item]);
            self.answered(
                number,
                result
                    .map(drop)
                    .map_err(|refused| refused.map(|mut items| items.remove(0))),
            );
        }
        if let Some((number, item)) = self.own_item() {
            let result = producer.submit(item).map(|ticket| {
                if self.program.calls > 1 {
                    // Another handler may have had it before.
                    return;
                }
                let outcome = ticket.wait();
                // A close that has run out of time has taken it meanwhile.
                let seized = matches!(outcome, Outcome::Unsent) && producer.is_closed();
                if !matches!(outcome, Outcome::Reentrant) && !seized {
                    self.ledger
                        .violation("a ticket's wait on the own thread".to_owned());
                }
            });
            self.answered(number, result);
        }
        if producer.flush(long) != Err(FlushError::Reentrant) {
            self.ledger
                .violation("a flush on the own thread".to_owned());
        }
        producer.request_flush();
        if let Some(batcher) = batcher.upgrade() {
            drop((batcher.stats(), batcher.decisions()));
            self.ledger.given(&batcher.take_failed());
        }
    }

    fn close(&self) {
        let Some(batcher) = self.own.get().and_then(|(batcher, _)| batcher.upgrade()) else {
            return;
        };
        let report = batcher.shutdown(Duration::from_micros(LONG));
        if !report.reentrant || report.failed.len() + report.unsent.len() > 0 {
            self.ledger
                .violation(format!("a close on the own thread: {report:?}"));
        }
    }
}

/// The hook for failed rows. It panics at every n-th row, and takes some time for each.
pub fn hook(
    ledger: Arc<Ledger>,
    own: Own,
    (panic_every, time): (u64, Us),
) -> impl FnMut(Failed<Item>) + Send {
    let mut rows = 0;
    move |failed| {
        ledger.given(std::slice::from_ref(&failed));
        rows += 1;
        if let Some((_, producer)) = own.get() {
            if producer.flush(Duration::from_micros(LONG)) != Err(FlushError::Reentrant) {
                ledger.violation("a flush in the hook".to_owned());
            }
        }
        if time > 0 {
            std::thread::sleep(Duration::from_micros(time));
        }
        if panic_every > 0 && rows % panic_every == 0 {
            std::panic::resume_unwind(Box::new("scripted"));
        }
    }
}
