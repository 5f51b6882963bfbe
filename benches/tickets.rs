//! How long it takes to submit an item and to wait for its ticket, and what one waiter costs the
//! threads that only add.
//!
//! `cargo bench --bench tickets -- [--quick] [--check]`
//!
//! A call takes 2 ms and 5 µs an item. The linger is the default, a second. Times are given in
//! calls: the median from before the submit until after the wait, divided by the median time of a
//! call.
//!
//! A thousand threads that do nothing but submit and wait are at least one of the cores' work: to
//! wake a thread and to let it submit costs some 15 µs. By Little's law the threads divided by the
//! rows of a call is the number of calls that a thread waits for: two, if each call has the half of
//! the threads that the call before it did not have, and the more the later they come back. What
//! this machine can do is the same loop written by hand, in the same run: a list under a mutex, a
//! thread that takes all of it, sleeps for the call and unparks each.
//!
//! `--check` exits 1 if one or eight waiters wait for more than two calls, if a thousand wait for
//! more than two calls and for more than 1.1 times as long as by hand, or if bulk adders keep less
//! than 0.9 of their throughput.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, Builder, CostModel, Fixed, LoadFeedback};

const ROWS_MAX: usize = 1_000;

/// A call with so many rows.
fn call(rows: usize) {
    thread::sleep(Duration::from_millis(2) + Duration::from_micros(5) * rows as u32);
}

fn handler(batch: &mut Batch<u64>) -> Result<LoadFeedback, load_aware_batcher::BatchError> {
    call(batch.len());
    Ok(LoadFeedback::new())
}

fn builder(policy: &str) -> Builder<u64> {
    let builder = Batcher::builder().max_batch_size(ROWS_MAX);
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

/// What waiting took.
struct Waits {
    /// The median, in calls.
    calls: f64,
    /// The mean length of a batch.
    rows: f64,
    p50: Duration,
}

/// This many threads submit and wait in turn. The first half of the time is for the policy to
/// learn.
fn waiters(policy: &str, threads: usize, time: Duration) -> Waits {
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
    Waits {
        calls: p50.as_secs_f64() / stats.service_time.p50.as_secs_f64(),
        rows,
        p50,
    }
}

/// A thread that waits for its row, in the loop written by hand.
struct Waiting {
    done: Arc<AtomicBool>,
    thread: Thread,
}

/// The same threads, with a group commit written by hand in the batcher's place.
fn by_hand(threads: usize, time: Duration) -> Waits {
    let line = (Mutex::new(Vec::<Waiting>::new()), Condvar::new());
    let (times, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (mut service_times, mut rows, mut calls) = (Vec::new(), 0, 0);
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut own = Vec::new();
                    while begun.elapsed() < time {
                        let submitted = Instant::now();
                        let done = Arc::new(AtomicBool::new(false));
                        let thread = thread::current();
                        line.0.lock().unwrap().push(Waiting {
                            done: Arc::clone(&done),
                            thread,
                        });
                        line.1.notify_one();
                        while !done.load(Ordering::Acquire) {
                            thread::park();
                        }
                        if begun.elapsed() > time / 2 {
                            own.push(submitted.elapsed());
                        }
                    }
                    times.lock().unwrap().append(&mut own);
                })
            })
            .collect();
        let (service_times, rows, calls) = (&mut service_times, &mut rows, &mut calls);
        let (line, stop) = (&line, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut waiting = line.0.lock().unwrap();
                if waiting.is_empty() {
                    let patience = Duration::from_millis(10);
                    waiting = line.1.wait_timeout(waiting, patience).unwrap().0;
                }
                let mut batch = std::mem::take(&mut *waiting);
                if batch.len() > ROWS_MAX {
                    waiting.extend(batch.drain(ROWS_MAX..));
                }
                drop(waiting);
                if batch.is_empty() {
                    continue;
                }
                let call_begun = Instant::now();
                call(batch.len());
                if begun.elapsed() > time / 2 {
                    service_times.push(call_begun.elapsed());
                    *rows += batch.len();
                    *calls += 1;
                }
                for Waiting { done, thread } in batch {
                    done.store(true, Ordering::Release);
                    thread.unpark();
                }
            }
        });
        for waiter in waiters {
            waiter.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let p50 = median(&mut times.into_inner().unwrap());
    Waits {
        calls: p50.as_secs_f64() / median(&mut service_times).as_secs_f64(),
        rows: f64::from(rows as u32) / f64::from(calls),
        p50,
    }
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
            let Waits { calls, rows, p50 } = waiters(policy, threads, time);
            let by_hand = by_hand(threads, time);
            let ratio = p50.as_secs_f64() / by_hand.p50.as_secs_f64();
            let ok = calls <= 2.0 || (threads == 1_000 && ratio <= 1.1);
            missed += u32::from(!ok);
            println!(
                "{policy:<12} {threads:>5} waiters: p50 {calls:.2} calls ({p50:.1?}), {rows:.1} rows a call; by hand \
                 {:.2} calls ({:.1?}), {:.1} rows a call; {ratio:.2}{}",
                by_hand.calls,
                by_hand.p50,
                by_hand.rows,
                if ok { "" } else { "  missed" }
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
