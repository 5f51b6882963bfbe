//! The history of every item of a program, by identity: whether it was accepted, whether it was in
//! a call, and how it ended.
//!
//! Producers' threads, the scripted handler, the hook and the caller that gets a report write it.
//! It takes one byte for each item.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use load_aware_batcher::{CloseReport, Failed};

/// The add returned `Ok`.
pub const ACCEPTED: u8 = 1;
/// The add returned `Err` with the item.
pub const REFUSED: u8 = 2;
/// It was in a call of the handler.
pub const CALLED: u8 = 4;
/// A call ended in doubt while it was in the batch.
pub const DOUBT: u8 = 8;
/// It must not be in a call again.
pub const OVER: u8 = 16;
pub const HANDLED: u8 = 32;
/// Given to the hook, `take_failed` or the report.
pub const FAILED: u8 = 64;
/// In the report.
pub const UNSENT: u8 = 128;
const ENDS: u8 = REFUSED | HANDLED | FAILED | UNSENT;

/// See the module's doc.
pub struct Ledger {
    /// One lane for each thread. The last one is the handler's.
    pub lanes: Vec<Vec<AtomicU8>>,
    /// How many items exist.
    pub alive: AtomicI64,
    /// How many items were dropped before they had ended.
    pub dropped: AtomicUsize,
    /// How many items ended in each way.
    pub handled: AtomicUsize,
    pub failed: AtomicUsize,
    pub unsent: AtomicUsize,
    /// How many items were made, and for how many the add has returned `Ok`.
    pub begun: AtomicUsize,
    pub accepted: AtomicUsize,
    /// How many adds returned `Err`.
    pub refusals: AtomicUsize,
    /// The largest batch size that was ever allowed.
    pub batch_max: AtomicUsize,
    /// Whether a thread's items stay in order.
    pub is_ordered: bool,
    /// Whether there are several calls at once.
    pub several_calls: bool,
    violations: Mutex<Vec<String>>,
}

/// An item of the program. It has only its identity, and is neither `Clone` nor `Debug`.
pub struct Item {
    pub lane: usize,
    pub number: usize,
    ledger: Arc<Ledger>,
}

impl Item {
    pub fn weight(&self) -> usize {
        1 + self.number % 5
    }

    pub fn mark(&self, flags: u8) -> u8 {
        let before = self.ledger.lanes[self.lane][self.number].fetch_or(flags, SeqCst);
        if flags & ENDS != 0 && before & ENDS != 0 {
            self.ledger.violation(format!(
                "{}/{} ended twice: {before:#b}, then {flags:#b}",
                self.lane, self.number
            ));
        }
        before
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.ledger.alive.fetch_sub(1, SeqCst);
        if self.ledger.lanes[self.lane][self.number].load(SeqCst) & ENDS == 0 {
            self.ledger.dropped.fetch_add(1, SeqCst);
        }
    }
}

impl Ledger {
    pub fn new(
        lanes: impl Iterator<Item = usize>,
        batch_max: usize,
        is_ordered: bool,
        several_calls: bool,
    ) -> Arc<Self> {
        let lane = |items| (0..items).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Self {
            lanes: lanes.map(lane).collect(),
            alive: AtomicI64::new(0),
            dropped: AtomicUsize::new(0),
            handled: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            batch_max: AtomicUsize::new(batch_max),
            is_ordered,
            several_calls,
            violations: Mutex::new(Vec::new()),
        })
    }

    pub fn item(self: &Arc<Self>, lane: usize, number: usize) -> Item {
        self.alive.fetch_add(1, SeqCst);
        self.begun.fetch_add(1, SeqCst);
        Item {
            lane,
            number,
            ledger: Arc::clone(self),
        }
    }

    pub fn flags(&self, lane: usize, number: usize) -> u8 {
        self.lanes[lane][number].load(SeqCst)
    }

    /// The add of this item returned.
    pub fn accepted(&self, lane: usize, number: usize) {
        self.accepted.fetch_add(1, SeqCst);
        if self.lanes[lane][number].fetch_or(ACCEPTED, SeqCst) & (ACCEPTED | REFUSED) != 0 {
            self.violation(format!("{lane}/{number} answered twice"));
        }
    }

    pub fn refused(&self, item: &Item) {
        let before = item.mark(REFUSED);
        if before != 0 {
            self.violation(format!(
                "{}/{} refused, but {before:#b}",
                item.lane, item.number
            ));
        }
    }

    /// These failed rows were returned or given to the hook.
    pub fn given(&self, failed: &[Failed<Item>]) {
        for Failed {
            item,
            in_doubt,
            attempts,
            ..
        } in failed
        {
            self.failed.fetch_add(1, SeqCst);
            let before = item.mark(FAILED | OVER);
            if before & CALLED == 0 || *attempts == 0 {
                self.violation(format!(
                    "{}/{} failed without having been called",
                    item.lane, item.number
                ));
            }
            if *in_doubt != (before & DOUBT != 0) {
                self.violation(format!(
                    "{}/{} in doubt: {in_doubt}, but {before:#b}",
                    item.lane, item.number
                ));
            }
        }
    }

    pub fn reported(&self, report: &CloseReport<Item>) {
        self.given(&report.failed);
        let mut last = vec![None; self.lanes.len()];
        for item in &report.unsent {
            self.unsent.fetch_add(1, SeqCst);
            if item.mark(UNSENT | OVER) & CALLED != 0 {
                self.violation(format!(
                    "{}/{} unsent, but it was in a call",
                    item.lane, item.number
                ));
            }
            let is_late = last[item.lane].replace(item.number) >= Some(item.number);
            if is_late && self.is_ordered(item.lane) {
                self.violation(format!("{}/{} unsent out of order", item.lane, item.number));
            }
        }
    }

    /// Whether the items of this lane stay in order. With several calls at once those of the
    /// handlers, the last lane, are added by several threads.
    pub fn is_ordered(&self, lane: usize) -> bool {
        self.is_ordered && (lane + 1 < self.lanes.len() || !self.several_calls)
    }

    pub fn violation(&self, what: String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < 20 {
            violations.push(what);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }
}
