//! How many batchers one process can hold: memory and start time of each, idle processor time, and
//! the number at which no further one starts.
//!
//! `cargo bench --bench batchers` or, without the search for that number, `cargo bench --bench
//! batchers -- --quick`. The figures in the crate's docs, "How many batchers", come from here. It
//! runs on Linux only, since it reads /proc.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, BuildError, LoadFeedback};

/// How long the batchers are idle while their processor time is measured.
const IDLE: Duration = Duration::from_secs(5);
/// The number at which the search gives up.
const MOST: usize = 20_000;

fn start(queue_capacity: Option<usize>) -> Result<Batcher<u64>, BuildError> {
    let builder = Batcher::builder();
    let builder = match queue_capacity {
        Some(items) => builder
            .queue_capacity(items)
            .max_batch_size(items)
            .feedback_capacity(items),
        None => builder,
    };
    builder.spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
}

/// A number of /proc/self/status, in KiB or without a unit.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.trim_start_matches(':')
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Starts `count` batchers, handles one item in each, measures, and closes them.
fn measure(count: usize, queue_capacity: Option<usize>) {
    let (resident, virtual_size) = (status("VmRSS"), status("VmSize"));
    let begun = Instant::now();
    let batchers: Vec<_> = (0..count)
        .map(|_| start(queue_capacity).expect("this many batchers start"))
        .collect();
    let started = begun.elapsed();
    for batcher in &batchers {
        batcher.add(1).expect("open");
        batcher.flush(Duration::from_secs(60)).expect("handled");
    }
    let each = |kib: u64, before: u64| kib.saturating_sub(before) as f64 / count as f64;
    let (resident, virtual_size) = (
        each(status("VmRSS"), resident),
        each(status("VmSize"), virtual_size),
    );
    let before = processor_time();
    std::thread::sleep(IDLE);
    let busy = (processor_time() - before).as_secs_f64() / IDLE.as_secs_f64();
    let threads = status("Threads");
    let begun = Instant::now();
    drop(batchers);
    let queue = queue_capacity.map_or_else(|| "default".to_owned(), |items| format!("{items:7}"));
    println!(
        "{count:8} {queue:>8} {threads:8} {:10.0} {resident:14.0} {virtual_size:14.0} {:11.2} {:10.0}",
        started.as_secs_f64() * 1e6 / count as f64,
        busy * 100.0,
        begun.elapsed().as_secs_f64() * 1e6 / count as f64,
    );
}

/// Starts batchers until one does not start.
fn find_the_limit() {
    let mut batchers = Vec::new();
    let problem = loop {
        if batchers.len() == MOST {
            break "none".to_owned();
        }
        match start(Some(64)) {
            Ok(batcher) => batchers.push(batcher),
            Err(error) => break error.to_string(),
        }
    };
    println!(
        "{} batchers at once, {} threads; the next one: {problem}",
        batchers.len(),
        status("Threads")
    );
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    println!(
        "batchers    queue  threads start, µs  resident, KiB   virtual, KiB idle, % CPU  close, µs"
    );
    for (count, queue_capacity) in [
        (10, None),
        (100, None),
        (1_000, None),
        (100, Some(64)),
        (1_000, Some(64)),
    ] {
        measure(count, queue_capacity);
    }
    if !quick {
        find_the_limit();
    }
    ExitCode::SUCCESS
}
