//! One batcher at full speed for the whole time: faults in its handler, changes of its limits, and
//! an account that costs a sum.
//!
//! An item is its number with its lane in the upper bits; each end keeps how many it has and the
//! wrapping sum of their mixed numbers. The sums agree only if the same items ended as were
//! accepted, each once (or by a chance of 2^-64).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::Duration;

use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, Fixed, LoadFeedback, Outcome, Producer, Retry, Ticket,
};

const LANES: u64 = 3;
const LANE_SHIFT: u32 = 48;
/// Set in items that somebody holds a ticket for.
const TICKETED: u64 = 1 << 63;
const BURST_MAX: u64 = 300;
const TICKETS_MAX: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct Dice(u64);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % n
    }
}

/// How many, and which: their count and the sum of their mixed numbers.
#[derive(Default)]
struct Sum {
    count: AtomicU64,
    mixed: AtomicU64,
}

impl Sum {
    // Relaxed: read behind joins, or as a progress report.
    fn add(&self, item: u64) {
        self.count.fetch_add(1, Relaxed);
        self.mixed.fetch_add(mix(item), Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.count.load(Relaxed), self.mixed.load(Relaxed))
    }
}

fn both(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1.wrapping_add(other.1))
}

#[derive(Default)]
struct Account {
    accepted: Sum,
    refused: Sum,
    handled: Sum,
    /// Given to the hook or to the report.
    failed: Sum,
    unsent: Sum,
    /// The same for the items with tickets: what the ends say, and what the tickets say.
    handled_ticketed: Sum,
    failed_ticketed: Sum,
    told_handled: Sum,
    told_failed: Sum,
    wrong: Mutex<Vec<String>>,
}

impl Account {
    fn handled(&self, item: u64) {
        self.handled.add(item);
        if item & TICKETED != 0 {
            self.handled_ticketed.add(item);
        }
    }

    fn failed(&self, item: u64) {
        self.failed.add(item);
        if item & TICKETED != 0 {
            self.failed_ticketed.add(item);
        }
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// See the module's doc.
pub struct Steady {
    batcher: Batcher<u64>,
    account: Arc<Account>,
    seed: u64,
}

impl Steady {
    pub fn start(seed: u64) -> Self {
        let account = Arc::new(Account::default());
        let hook = Arc::clone(&account);
        let batcher = Batcher::builder()
            .initial_batch_size(100)
            .max_batch_size(2_000)
            .queue_capacity(4_000)
            .linger(Duration::from_millis(1))
            // `LoadThreshold` would go to batches of one under so many failures, and nothing
            // would be searched for bad rows.
            .policy(Fixed(200))
            .load_check_interval(Duration::from_millis(5))
            .retry(
                Retry::attempts(3).backoff(Duration::from_micros(20), Duration::from_micros(100)),
            )
            .on_failed(move |failed| {
                hook.failed(failed.item);
                if failed.item % 97 == 0 {
                    std::panic::resume_unwind(Box::new("the hook's panic"));
                }
            })
            .spawn(handler(Arc::clone(&account), seed))
            .expect("the settings are valid");
        Self {
            batcher,
            account,
            seed,
        }
    }

    /// Starts the producers; they end on request.
    pub fn produce<'scope>(&self, scope: &'scope Scope<'scope, '_>, stop: &'scope AtomicBool) {
        for lane in 1..=LANES {
            let account = Arc::clone(&self.account);
            let dice = Dice(mix(self.seed ^ lane));
            let mut lane = Lane {
                number: lane << LANE_SHIFT,
                producer: self.batcher.producer(),
                account,
                dice,
                tickets: VecDeque::new(),
            };
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    lane.act();
                }
                lane.settle(0);
            });
        }
    }

    pub fn accepted(&self) -> u64 {
        self.account.accepted.get().0
    }

    /// A check from outside, and a change of the limits.
    pub fn check(&self, seed: u64, wrong: &mut Vec<String>) {
        let stats = self.batcher.stats();
        if stats.added
            != stats.handled + stats.failed + stats.unsent + stats.abandoned + stats.pending
        {
            wrong.push(format!("{stats:?}"));
        }
        let size = 1 + mix(seed) as usize % 2_000;
        let changed = self.batcher.reconfigure(|limits| {
            limits.max_batch_size(size);
            limits.policy(Fixed(size));
        });
        if let Err(problem) = changed {
            wrong.push(problem.to_string());
        }
        wrong.append(&mut self.account.wrong.lock().unwrap());
    }

    /// Closes and settles the account, with all producers gone; what was wrong.
    pub fn finish(self) -> Vec<String> {
        let Self {
            batcher, account, ..
        } = self;
        let report = batcher.shutdown(60 * SECOND);
        let stats = batcher.stats();
        report
            .failed
            .iter()
            .for_each(|failed| account.failed(failed.item));
        report
            .unsent
            .iter()
            .for_each(|item| account.unsent.add(*item));
        let (accepted, handled, failed, unsent) = (
            account.accepted.get(),
            account.handled.get(),
            account.failed.get(),
            account.unsent.get(),
        );
        println!(
            "one batcher: {} accepted = {} handled + {} failed + {} unsent; {} refused; {} calls, {} retries, {} bisections, \
             {} panics, {} in doubt, {} rejected; {report:?}",
            accepted.0,
            handled.0,
            failed.0,
            unsent.0,
            account.refused.get().0,
            stats.calls,
            stats.retries,
            stats.bisections,
            stats.handler_panics + stats.hook_panics,
            stats.in_doubt,
            stats.rejected,
        );
        let mut wrong = std::mem::take(&mut *account.wrong.lock().unwrap());
        let mut same = |what: &str, one: (u64, u64), other: (u64, u64)| {
            if one != other {
                wrong.push(format!("{what}: {one:?} and {other:?}"));
            }
        };
        same(
            "accepted, ended",
            accepted,
            both(both(handled, failed), unsent),
        );
        same(
            "tickets handled",
            account.handled_ticketed.get(),
            account.told_handled.get(),
        );
        same(
            "tickets failed",
            account.failed_ticketed.get(),
            account.told_failed.get(),
        );
        for (what, counter, sum) in [
            ("added", stats.added, accepted.0),
            ("handled", stats.handled, handled.0),
            ("failed", stats.failed, failed.0),
            ("unsent", stats.unsent, unsent.0),
            ("pending", stats.pending, 0),
            ("abandoned", stats.abandoned, 0),
        ] {
            same(what, (counter, 0), (sum, 0));
        }
        wrong
    }
}

/// Every fault but a hang, by chance; most calls are well.
fn handler(
    account: Arc<Account>,
    seed: u64,
) -> impl FnMut(&mut Batch<u64>) -> Result<LoadFeedback, BatchError> + Send {
    let mut dice = Dice(mix(seed));
    let mut last = [0; LANES as usize + 1];
    move |batch| {
        // Now and then a row is bad for as long as it lives.
        let bad = |item: &u64| mix(*item) % 20_000 == 0;
        match dice.below(64) {
            0 => return Err(BatchError::transient("transient")),
            1 => return Err(std::io::Error::other("unclassified").into()),
            2 if batch.len() < 50 => return Err(BatchError::in_doubt("in doubt")),
            3 => std::panic::resume_unwind(Box::new("the handler's panic")),
            4 => std::thread::sleep(Duration::from_micros(dice.below(200))),
            _ => {}
        }
        if batch.iter().any(bad) {
            return Err(if dice.below(2) == 0 {
                BatchError::permanent("bad")
            } else {
                BatchError::transient("bad")
            });
        }
        let reject = if dice.below(8) == 0 {
            dice.below(batch.len() as u64) as usize
        } else {
            usize::MAX
        };
        for index in 0..batch.len() {
            let item = batch[index];
            let number = item & !TICKETED;
            let lane = (number >> LANE_SHIFT) as usize;
            if std::mem::replace(&mut last[lane], number) >= number {
                account.wrong(format!("{number:x} out of order"));
            }
            if index == reject {
                batch.reject(index, BatchError::permanent("rejected"));
            } else {
                account.handled(item);
            }
        }
        Ok(LoadFeedback::new()
            .cpu_load(dice.below(100) as f64 / 100.0)
            .db_locks(dice.below(50)))
    }
}

/// One producer.
struct Lane {
    number: u64,
    producer: Producer<u64>,
    account: Arc<Account>,
    dice: Dice,
    tickets: VecDeque<(u64, Ticket)>,
}

impl Lane {
    fn act(&mut self) {
        let burst = 1 + self.dice.below(BURST_MAX);
        match self.dice.below(200) {
            0..90 => self.singles(burst, |producer, item| producer.add(item)),
            90..120 => self.singles(burst, |producer, item| producer.try_add(item)),
            120..130 => self.singles(burst, |producer, item| producer.add_timeout(item, SECOND)),
            130..170 => self.many(burst, |producer, items| producer.add_many(items)),
            170..180 => self.many(burst, |producer, items| producer.try_add_many(items)),
            180..185 => self.many(burst, |producer, items| {
                producer.add_many_timeout(items, SECOND)
            }),
            185..198 => self.submit(),
            198 => self.producer.request_flush(),
            _ => {
                // What it says depends on the others; that it returns is the point.
                let _ = self.producer.flush(SECOND);
            }
        }
    }

    fn singles(
        &mut self,
        burst: u64,
        add: impl Fn(&Producer<u64>, u64) -> Result<(), AddError<u64>>,
    ) {
        for _ in 0..burst {
            self.number += 1;
            match add(&self.producer, self.number) {
                Ok(()) => self.account.accepted.add(self.number),
                Err(refused) => self.refused(refused.into_inner(), self.number),
            }
        }
    }

    fn many(
        &mut self,
        burst: u64,
        add: impl FnOnce(&Producer<u64>, std::ops::Range<u64>) -> Result<usize, AddError<Vec<u64>>>,
    ) {
        let items = self.number + 1..self.number + 1 + burst;
        self.number += burst;
        let back = match add(&self.producer, items.clone()) {
            Ok(_) => Vec::new(),
            Err(refused) => refused.into_inner(),
        };
        let accepted = items.end - back.len() as u64;
        (items.start..accepted).for_each(|item| self.account.accepted.add(item));
        back.into_iter()
            .zip(accepted..items.end)
            .for_each(|(item, expected)| self.refused(item, expected));
    }

    fn submit(&mut self) {
        self.number += 1;
        let item = self.number | TICKETED;
        match self.producer.submit(item) {
            Ok(ticket) => {
                self.account.accepted.add(item);
                self.tickets.push_back((item, ticket));
            }
            Err(refused) => self.refused(refused.into_inner(), item),
        }
        self.settle(TICKETS_MAX);
    }

    /// Waits for the oldest tickets until `left` are left.
    fn settle(&mut self, left: usize) {
        while self.tickets.len() > left {
            let Some((item, ticket)) = self.tickets.pop_front() else {
                return;
            };
            match ticket.wait_timeout(60 * SECOND) {
                Some(Outcome::Handled) => self.account.told_handled.add(item),
                Some(Outcome::Failed(_) | Outcome::InDoubt) => self.account.told_failed.add(item),
                outcome => self
                    .account
                    .wrong(format!("the ticket of {item:x} says {outcome:?}")),
            }
        }
    }

    fn refused(&self, item: u64, expected: u64) {
        self.account.refused.add(item);
        if item != expected {
            self.account
                .wrong(format!("{expected:x} was refused and {item:x} came back"));
        }
    }
}
