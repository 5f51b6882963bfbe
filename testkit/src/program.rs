//! Random programs for a batcher: what several threads do with it, how its handler behaves, and how
//! it ends.
//!
//! Generated from a seed or from bytes without any dependency, run on real threads (`run.rs`), and
//! accounted for item by item (`ledger.rs`). Shared by the property test, the soak and the fuzz
//! target.
//!
//! ```ignore
//! let program = Program::from_seed(seed, Scale::LARGE);
//! let account = program.run();
//! assert!(account.violations.is_empty(), "{program:#?}\n{account:#?}");
//! ```

mod account;
mod ledger;
mod run;
mod scripted;

pub use account::Account;

/// Where a program's choices come from. 0 is always the simplest choice, so that shorter bytes are
/// simpler programs.
pub enum Dice<'a> {
    /// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA
    /// 2014).
    Seed(u64),
    /// One byte for each choice, two if there are more than 256. After the last byte, 0 forever.
    Bytes(std::slice::Iter<'a, u8>),
}

impl Dice<'_> {
    /// A number from 0 to `n - 1`.
    pub fn below(&mut self, n: u64) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ (z >> 31)) % n
            }
            Self::Bytes(bytes) => {
                let mut next = || u64::from(bytes.next().copied().unwrap_or(0));
                if n > 256 {
                    (next() << 8 | next()) % n
                } else {
                    next() % n
                }
            }
        }
    }

    fn is_exhausted(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.len() == 0)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }
}

/// How large the programs are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub threads_max: u64,
    /// Operations of one thread.
    pub ops_max: u64,
    /// Items in one operation.
    pub burst_max: u64,
    pub capacity_max: u64,
    pub batch_max: u64,
}

impl Scale {
    /// Some dozens of items. Thousands of programs run in a minute, and each is small enough to
    /// read.
    pub const SMALL: Self = Self {
        threads_max: 4,
        ops_max: 12,
        burst_max: 8,
        capacity_max: 12,
        batch_max: 8,
    };
    /// For Miri.
    pub const TINY: Self = Self {
        threads_max: 2,
        ops_max: 4,
        burst_max: 3,
        capacity_max: 3,
        batch_max: 3,
    };
    /// Up to some hundred thousand items.
    pub const LARGE: Self = Self {
        threads_max: 6,
        ops_max: 400,
        burst_max: 300,
        capacity_max: 2_000,
        batch_max: 500,
    };
}

/// What a thread does next. An add has the number of its repetitions, or of its items.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Add(u64),
    TryAdd(u64),
    AddTimeout(u64, Us),
    AddMany(u64),
    TryAddMany(u64),
    AddManyTimeout(u64, Us),
    Submit(u64),
    WaitForTicket(Us),
    Flush(Us),
    RequestFlush,
    Look,
    TakeFailed,
    Report,
    Reconfigure { min: usize, max: usize, linger: Us },
    Close(Us),
}

/// What stays in order where there are several calls at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The items of one thread: they have one key.
    Key,
    Producer,
    None,
}

/// Microseconds.
pub type Us = u64;

/// What the handler does in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Ok,
    /// Rejects every row whose number is a multiple of this, and an index beyond the batch.
    RejectEvery(u64),
    /// The same, and the call fails.
    RejectAndFail(u64),
    /// Asks for every row again whose number leaves no rest.
    RetryEvery(u64),
    Unavailable,
    Misconfigured,
    Unclassified,
    Transient,
    Permanent,
    InDoubt,
    Panic,
    /// A permanent error if a row of the batch has a multiple of this as its number. The search has
    /// to find it.
    BadRow(u64),
    /// The same with an error of no class.
    SulkyRow(u64),
    Slow(Us),
    /// Adds on the handler's thread, and makes every call that would wait for itself.
    Reenter,
    /// Begins the close on the handler's thread.
    Close,
}

/// How main ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Shutdown,
    Drop,
}

/// See the module's doc.
#[derive(Clone, Debug)]
pub struct Program {
    pub capacity: usize,
    pub min: usize,
    pub max: usize,
    pub linger: Us,
    pub attempts: u32,
    /// How long a batch is tried again at least, and whether attempts are counted as well.
    pub patience: Option<(Us, bool)>,
    pub backoff: Us,
    pub bisect: bool,
    pub split_on_retry: bool,
    pub keep_order: bool,
    pub idempotent: bool,
    /// The hook, if there is one: it panics at every n-th row (0 is never) and takes this time for
    /// each row.
    pub hook: Option<(u64, Us)>,
    pub keep_failed: usize,
    /// The limit, and whether heavier items are refused. Items weigh 1 to 5.
    pub weight: Option<(usize, bool)>,
    /// Calls at once, and what stays in order.
    pub calls: usize,
    pub order: Order,
    /// One thread each.
    pub scripts: Vec<Vec<Op>>,
    /// What the handler does, call by call, again from the start after the last.
    pub deeds: Vec<Deed>,
    /// At this call the handler hangs until the close has returned.
    pub hang_at: Option<u64>,
    /// Main ends the program after this many calls of the handler, or when all threads are done.
    pub calls_max: u64,
    pub ending: Ending,
    pub close_timeout: Us,
}

/// Long enough for everything that ends at all.
pub const LONG: Us = 60_000_000;

impl Program {
    pub fn from_seed(seed: u64, scale: Scale) -> Self {
        Self::generate(&mut Dice::Seed(seed), scale)
    }

    /// A small program. Any bytes give one.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::generate(&mut Dice::Bytes(bytes.iter()), Scale::SMALL)
    }

    pub fn generate(dice: &mut Dice<'_>, scale: Scale) -> Self {
        let capacity = 1 + dice.below(scale.capacity_max);
        let max = 1 + dice.below(scale.batch_max.min(capacity));
        let min = 1 + dice.below(max);
        let calls_max = if dice.one_in(4) {
            1 + dice.below(8 * scale.ops_max)
        } else {
            u64::MAX
        };
        let mut program = Self {
            capacity: capacity as usize,
            min: min as usize,
            max: max as usize,
            linger: [100, 0, 1_000, LONG][dice.below(4) as usize],
            attempts: 1 + dice.below(4) as u32,
            patience: dice
                .one_in(3)
                .then(|| ([0, 500, 3_000][dice.below(3) as usize], dice.one_in(2))),
            backoff: [0, 50, 500][dice.below(3) as usize],
            bisect: !dice.one_in(4),
            split_on_retry: dice.one_in(3),
            keep_order: dice.one_in(3),
            idempotent: dice.one_in(3),
            hook: dice
                .one_in(2)
                .then(|| (dice.below(5), [0, 0, 300][dice.below(3) as usize])),
            keep_failed: [10_000, 1, 5][dice.below(3) as usize],
            weight: dice
                .one_in(4)
                .then(|| (3 + dice.below(2 * max) as usize, dice.one_in(2))),
            calls: [1, 1, 2, 3][dice.below(4) as usize],
            order: [Order::Key, Order::Producer, Order::None][dice.below(3) as usize],
            hang_at: dice.one_in(4).then(|| dice.below(2 * scale.ops_max)),
            calls_max,
            ending: if dice.one_in(3) {
                Ending::Drop
            } else {
                Ending::Shutdown
            },
            close_timeout: [LONG, LONG, LONG, 0, 300, 5_000][dice.below(6) as usize],
            deeds: Vec::new(),
            scripts: Vec::new(),
        };
        if program.hang_at.is_some() {
            // No thread waits for a handler that hangs until the close has returned.
            program.close_timeout %= LONG;
        }
        let threads = 1 + dice.below(scale.threads_max);
        for _ in 0..1 + dice.below(12) {
            program.deeds.push(deed(dice));
        }
        if program.deeds.iter().all(|deed| *deed == Deed::Unavailable) {
            // A backend that refuses every call is waited for longer than a program lasts.
            program.deeds.push(Deed::Ok);
        }
        for _ in 0..threads {
            let ops = if dice.is_exhausted() {
                1
            } else {
                1 + dice.below(scale.ops_max)
            };
            program
                .scripts
                .push((0..ops).map(|_| op(dice, scale, capacity)).collect());
        }
        program
    }
}

fn deed(dice: &mut Dice<'_>) -> Deed {
    match dice.below(30) {
        24 | 25 => Deed::RetryEvery(1 + dice.below(4)),
        26 | 27 => Deed::RejectAndFail(1 + dice.below(4)),
        28 => Deed::Unavailable,
        29 => Deed::Misconfigured,
        12 => Deed::RejectEvery(1 + dice.below(5)),
        13 => Deed::Unclassified,
        14 => Deed::Transient,
        15 => Deed::Permanent,
        16 => Deed::InDoubt,
        17 => Deed::Panic,
        18 => Deed::BadRow(2 + dice.below(40)),
        19 => Deed::SulkyRow(2 + dice.below(40)),
        20 => Deed::Slow(dice.below(300)),
        21 | 22 => Deed::Reenter,
        23 if dice.one_in(16) => Deed::Close,
        _ => Deed::Ok,
    }
}

fn op(dice: &mut Dice<'_>, scale: Scale, capacity: u64) -> Op {
    let burst = |dice: &mut Dice<'_>| 1 + dice.below(scale.burst_max);
    let wait = |dice: &mut Dice<'_>| [0, 200, 3_000][dice.below(3) as usize];
    match dice.below(24) {
        0..=4 => Op::Add(burst(dice)),
        5 | 6 => Op::TryAdd(burst(dice)),
        7 => Op::AddTimeout(burst(dice), wait(dice)),
        8..=10 => Op::AddMany(burst(dice)),
        11 => Op::TryAddMany(burst(dice)),
        12 => Op::AddManyTimeout(burst(dice), wait(dice)),
        13 | 14 => Op::Submit(1 + dice.below(scale.burst_max.min(20))),
        15 => Op::WaitForTicket(wait(dice)),
        16 | 17 => Op::Flush(wait(dice) * 5),
        18 => Op::RequestFlush,
        19 => Op::Look,
        20 => Op::TakeFailed,
        21 => Op::Report,
        22 => {
            let max = 1 + dice.below(scale.batch_max.min(capacity)) as usize;
            Op::Reconfigure {
                min: 1 + dice.below(max as u64) as usize,
                max,
                linger: wait(dice),
            }
        }
        _ if dice.one_in(10) => Op::Close(wait(dice)),
        _ => Op::Look,
    }
}
