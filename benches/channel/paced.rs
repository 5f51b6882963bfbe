//! Items at an even pace, far below the possible throughput: how long an add takes, and how much
//! processor time an item takes.
//!
//! The batcher is compared with the loop that most programs have: it blocks in the channel's own
//! receive until the batch is full or the deadline of its first item has passed. The producer spins
//! between two items. The processor time is given without the spinning.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use load_aware_batcher::{Batch, LoadFeedback};
use rustix::time::{ClockId, clock_gettime};

use crate::Scale;
use crate::items::{LONG, capacity, fixed};
use testkit::pairs::{Pairs, Report, Target};

const BATCH: usize = 1_000;
const LINGER: Duration = Duration::from_secs(1);
/// An add that took longer has lost the processor to another process. That time is not its cost.
const PREEMPTED_NS: f64 = 50_000.0;

/// The figures of one paced run.
struct Paced {
    add_p50_ns: f64,
    add_p99_ns: f64,
    /// The processor time for each item of the thread that forms batches.
    flusher_ns: f64,
    /// The processor time for each item of the whole process, without the spinning.
    process_ns: f64,
}

/// The processor time of the flusher's thread and the number of items, at the first batch and at
/// the latest one.
#[derive(Clone, Copy, Default)]
struct Progress {
    first: Option<(f64, usize)>,
    last: (f64, usize),
}

impl Progress {
    /// A batch has arrived, on this thread.
    fn batch(&mut self, items: usize) {
        let cpu_ns = cpu_ns(ClockId::ThreadCPUTime);
        self.last = (cpu_ns, self.last.1 + items);
        self.first.get_or_insert(self.last);
    }

    fn an_item(&self) -> f64 {
        let (first, last) = (self.first.expect("batches arrived"), self.last);
        (last.0 - first.0) / (last.1 - first.1) as f64
    }
}

pub(crate) fn paced(scale: Scale, report: &mut Report) {
    for rate in [10_000, 100_000, 1_000_000] {
        let time = if rate < 100_000 {
            scale.pick(350, 1_000)
        } else {
            scale.pick(150, 500)
        };
        let items = rate / 1_000 * time;
        let all: Vec<_> = (0..scale.pick(15, 21))
            .map(|_| (batcher(rate, items), receive_loop(rate, items)))
            .collect();
        let mut line = |name: &str, figure: fn(&Paced) -> f64, target| {
            let mut pairs = Pairs::default();
            all.iter()
                .for_each(|(ours, theirs)| pairs.push(figure(ours), figure(theirs)));
            report.line(&format!("paced rate={rate} {name}"), &pairs, "ns", target);
        };
        let (slow, fast) = (rate == 10_000, rate == 1_000_000);
        line("add p50", |run| run.add_p50_ns, Target::None);
        line(
            "add p99",
            |run| run.add_p99_ns,
            if slow {
                Target::AtMost(0.5)
            } else {
                Target::None
            },
        );
        line(
            "flusher CPU",
            |run| run.flusher_ns,
            if fast {
                Target::AtMost(1.0 / 3.0)
            } else {
                Target::None
            },
        );
        line("process CPU", |run| run.process_ns, Target::None);
    }
}

fn batcher(rate: u64, items: u64) -> Paced {
    let progress = Arc::new(Mutex::new(Progress::default()));
    let noted = Arc::clone(&progress);
    let batcher = fixed(BATCH, capacity(BATCH))
        .linger(LINGER)
        .spawn(move |batch: &mut Batch<u64>| {
            black_box(&batch[..]);
            noted.lock().unwrap().batch(batch.len());
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let producer = batcher.producer();
    let paced = produce(
        rate,
        items,
        &progress,
        |number| producer.add(number).is_ok(),
        || batcher.flush(LONG).unwrap(),
    );
    assert!(batcher.close(LONG).is_clean());
    paced
}

fn receive_loop(rate: u64, items: u64) -> Paced {
    let progress = Arc::new(Mutex::new(Progress::default()));
    let noted = Arc::clone(&progress);
    let (sender, receiver) = bounded(capacity(BATCH));
    let flusher = thread::spawn(move || {
        gather_by_receive(&receiver, |batch| {
            black_box(batch);
            noted.lock().unwrap().batch(batch.len());
        });
    });
    let add = |number| sender.send(number).is_ok();
    // The last item completes a batch, so nothing is left. The exception is a machine that stood
    // still for a whole linger.
    let settle = || thread::sleep(Duration::from_millis(1));
    let paced = produce(rate, items, &progress, add, settle);
    drop(sender);
    flusher.join().unwrap();
    paced
}

/// Batches of the full size, or what came within one linger of the first item.
fn gather_by_receive(receiver: &Receiver<u64>, mut handle: impl FnMut(&[u64])) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = receiver.recv() {
        batch.push(first);
        let deadline = Instant::now() + LINGER;
        while batch.len() < BATCH {
            match receiver.recv_deadline(deadline) {
                Ok(item) => batch.push(item),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        handle(&batch);
        batch.clear();
    }
}

/// Adds at the rate from this thread, calls `settle`, and takes the figures.
fn produce(
    rate: u64,
    items: u64,
    progress: &Mutex<Progress>,
    mut add: impl FnMut(u64) -> bool,
    settle: impl FnOnce(),
) -> Paced {
    let gap = Duration::from_nanos(1_000_000_000 / rate);
    let mut times_ns = Vec::with_capacity(items as usize);
    let (process, own) = (
        cpu_ns(ClockId::ProcessCPUTime),
        cpu_ns(ClockId::ThreadCPUTime),
    );
    let mut due = Instant::now();
    for number in 0..items {
        let mut begun = Instant::now();
        while begun < due {
            std::hint::spin_loop();
            begun = Instant::now();
        }
        assert!(add(number));
        times_ns.push(begun.elapsed().as_nanos() as f64);
        // After a standstill of the machine, no burst makes up for it.
        due = (due + gap).max(begun);
    }
    settle();
    let in_adds: f64 = times_ns.iter().map(|time| time.min(PREEMPTED_NS)).sum();
    let own = cpu_ns(ClockId::ThreadCPUTime) - own;
    let others = cpu_ns(ClockId::ProcessCPUTime) - process - own;
    times_ns.sort_by(f64::total_cmp);
    let quantile = |share: f64| times_ns[((times_ns.len() - 1) as f64 * share) as usize];
    Paced {
        add_p50_ns: quantile(0.5),
        add_p99_ns: quantile(0.99),
        flusher_ns: progress.lock().unwrap().an_item(),
        process_ns: (others + in_adds) / items as f64,
    }
}

fn cpu_ns(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
