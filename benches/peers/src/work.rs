//! The work that every peer does, and the figures of one run.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The batch size, and the queue's capacity.
pub const BATCH: usize = 1_000;
pub const CAPACITY: usize = 2 * BATCH;
/// How long a batch waits to fill.
pub const LINGER: Duration = Duration::from_millis(10);
/// How long paced producers sleep between two bursts.
pub const TICK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Batcher,
    Reference,
    Nothing,
}

/// A number of items from a number of producers, at full speed or at a rate.
#[derive(Clone, Copy)]
pub struct Work {
    pub producers: usize,
    /// Of all producers together.
    pub items: u64,
    /// Items a second; 0 is full speed.
    pub rate: u64,
}

/// What reached the handlers of this process: how many items and their sum.
static DELIVERED: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);

/// The handler of every batcher: reads each item.
pub fn handle(batch: &[u64]) {
    // Relaxed: read once all threads have ended.
    DELIVERED.fetch_add(batch.len() as u64, Ordering::Relaxed);
    SUM.fetch_add(batch.iter().sum(), Ordering::Relaxed);
}

impl Work {
    pub fn share(&self) -> u64 {
        self.items / self.producers as u64
    }

    /// The items of one producer on a plain thread, at the rate of the work.
    pub fn produce(&self, mut add: impl FnMut(u64)) {
        self.in_tempo(|items| items.for_each(&mut add));
    }

    /// The same in chunks of at most this many items.
    pub fn produce_chunks(&self, most: u64, mut add: impl FnMut(Range<u64>)) {
        self.in_tempo(|items| {
            for first in items.clone().step_by(most as usize) {
                add(first..items.end.min(first + most));
            }
        });
    }

    /// Calls the function for all items at once, or in each tick for those that are due.
    fn in_tempo(&self, mut add: impl FnMut(Range<u64>)) {
        if self.rate == 0 {
            return add(0..self.share());
        }
        let mut next = 0;
        let begun = Instant::now();
        while next < self.share() {
            let due = self.due(begun.elapsed());
            add(next..due);
            next = due;
            thread::sleep(TICK);
        }
    }

    /// How many items a paced producer has added after this time.
    pub fn due(&self, elapsed: Duration) -> u64 {
        let due = elapsed.as_micros() as u64 * self.rate / 1_000_000 / self.producers as u64;
        due.min(self.share())
    }

    /// Runs the producers on plain threads until all have added their items.
    pub fn on_threads<F: FnOnce() + Send>(&self, producer: impl Fn() -> F) {
        thread::scope(|scope| {
            (0..self.producers).for_each(|_| {
                scope.spawn(producer());
            });
        });
    }

    pub fn arguments(&self) -> [String; 3] {
        [
            self.producers.to_string(),
            self.items.to_string(),
            self.rate.to_string(),
        ]
    }

    pub fn parse(arguments: &[String]) -> Self {
        let number = |place: usize| arguments[place].parse::<u64>().expect("a number");
        Self {
            producers: number(0) as usize,
            items: number(1),
            rate: number(2),
        }
    }
}

/// One run.
pub struct Measured {
    pub items: u64,
    pub delivered: u64,
    sum_is_right: bool,
    /// From the start of the peer to the arrival of its last item.
    pub seconds: f64,
    /// Processor time of the whole process.
    pub cpu_ns: f64,
    pub peak_kib: u64,
}

/// Does the work and measures this process.
pub fn measure(work: &Work, peer: fn(&Work)) -> Measured {
    let begun = Instant::now();
    peer(work);
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let delivered = DELIVERED.load(Ordering::Relaxed);
    let expected = work.producers as u64 * (0..work.share()).sum::<u64>();
    Measured {
        items: work.share() * work.producers as u64,
        delivered,
        sum_is_right: SUM.load(Ordering::Relaxed) == expected,
        seconds,
        cpu_ns: cpu.tv_sec as f64 * 1e9 + cpu.tv_nsec as f64,
        peak_kib: peak_kib(),
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            items,
            delivered,
            sum_is_right,
            seconds,
            cpu_ns,
            peak_kib,
        } = self;
        write!(
            f,
            "{items} {delivered} {sum_is_right} {seconds} {cpu_ns} {peak_kib}"
        )
    }
}

impl Measured {
    pub fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [items, delivered, sum, seconds, cpu, peak] = words[..] else {
            panic!("not a measurement: {line}")
        };
        Self {
            items: items.parse().expect("a number"),
            delivered: delivered.parse().expect("a number"),
            sum_is_right: sum == "true",
            seconds: seconds.parse().expect("a number"),
            cpu_ns: cpu.parse().expect("a number"),
            peak_kib: peak.parse().expect("a number"),
        }
    }

    pub fn all_arrived(&self, work: &Work) -> bool {
        self.delivered == work.items && self.sum_is_right
    }

    pub fn arrival(&self, work: &Work) -> String {
        match work.items.checked_sub(self.delivered) {
            Some(0) if self.sum_is_right => "every item arrived".to_owned(),
            Some(0) => "as many arrived, but not the same".to_owned(),
            Some(lost) => format!("{lost} of {} did not arrive", work.items),
            None => format!("{} arrived twice", self.delivered - work.items),
        }
    }
}
