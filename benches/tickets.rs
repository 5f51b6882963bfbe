//! How long it takes to submit an item and to wait for its ticket, and what one waiter costs the
//! threads that only add.
//!
//! `cargo bench --bench tickets -- [--quick] [--check]`
//!
//! A call takes 2 ms and 5 µs an item. The linger is the default, a second. Times are given in
//! calls: the median from before the submit until after the wait, divided by the median time of a
//! call. With `--check` the exit code is 1 if a waiter waits for more than two calls, or if threads
//! that only add keep less than 0.9 of their throughput.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, Builder, CostModel, Fixed, LoadFeedback};

fn handler(batch: &mut Batch<u64>) -> Result<LoadFeedback, load_aware_batcher::BatchError> {
    thread::sleep(Duration::from_millis(2) + Duration::from_micros(5) * batch.len() as u32);
    Ok(LoadFeedback::new())
}

fn builder(policy: &str) -> Builder<u64> {
    let builder = Batcher::builder().max_batch_size(1_000);
    if policy == "Fixed(500)" {
        builder.policy(Fixed(500))
    } else {
        builder.policy(CostModel::new())
    }
}

fn median(times: &mut [Duration]) -> Duration {
    let middle = times.len() / 2;
    *times.select_nth_unstable(middle).1
}

/// This many threads submit and wait in turn. The first half of the time is for the policy to
/// learn.
fn waiters(policy: &str, threads: usize, time: Duration) -> (f64, f64, Duration) {
    let batcher = builder(policy).spawn(handler).unwrap();
    let times = Mutex::new(Vec::new());
    let begun = Instant::now();
    let calls = Mutex::new((0, 0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Vec::new();
                while begun.elapsed() < time {
                    let submitted = Instant::now();
                    assert!(batcher.submit(1).unwrap().wait().is_handled());
                    if begun.elapsed() > time / 2 {
                        own.push(submitted.elapsed());
                    }
                }
                times.lock().unwrap().append(&mut own);
            });
        }
        scope.spawn(|| {
            thread::sleep(time / 2);
            let stats = batcher.stats();
            *calls.lock().unwrap() = (stats.handled, stats.calls);
        });
    });
    let stats = batcher.stats();
    let (handled, before) = *calls.lock().unwrap();
    let rows = (stats.handled - handled) as f64 / (stats.calls - before) as f64;
    let p50 = median(&mut times.into_inner().unwrap());
    // The measured time of a call, which includes the delay of the sleep.
    (
        p50.as_secs_f64() / stats.service_time.p50.as_secs_f64(),
        rows,
        p50,
    )
}

/// The items a second of two threads that add chunks while this many threads submit and wait.
fn bulk(policy: &str, waiters: usize, time: Duration) -> f64 {
    let batcher = builder(policy).spawn(handler).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..waiters {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(batcher.submit(1).unwrap().wait().is_handled());
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    batcher.add_many(0..100).unwrap();
                }
            });
        }
        thread::sleep(time / 2);
        let (begun, before) = (Instant::now(), batcher.stats().handled);
        thread::sleep(time / 2);
        let rate = (batcher.stats().handled - before) as f64 / begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

fn main() -> ExitCode {
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    let time = Duration::from_secs(if has("--quick") { 2 } else { 8 });
    let mut missed = 0;
    for policy in ["Fixed(500)", "CostModel"] {
        for threads in [1, 8, 1_000] {
            let (in_calls, rows, p50) = waiters(policy, threads, time);
            let ok = in_calls <= 2.0;
            missed += u32::from(!ok);
            println!(
                "{policy:<12} {threads:>5} waiters: p50 {in_calls:.2} calls ({p50:.1?}), {rows:.1} rows a call{}",
                if ok { "" } else { "  over 2" }
            );
        }
        let mut rates: Vec<_> = (0..3)
            .map(|_| (bulk(policy, 0, time), bulk(policy, 1, time)))
            .collect();
        rates.sort_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
        let (without, with) = rates[1];
        let ok = with / without >= 0.9;
        missed += u32::from(!ok);
        println!(
            "{policy:<12} chunks alongside one waiter: {with:.0} rows/s instead of {without:.0}, {:.2}{}",
            with / without,
            if ok { "" } else { "  under 0.9" }
        );
    }
    if has("--check") && missed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
