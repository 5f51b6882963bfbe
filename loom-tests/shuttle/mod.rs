//! Whole batchers under shuttle: more threads and steps than loom can exhaust, in schedules drawn at random, with time that
//! passes. The public face on the modelled parts, so what is tested is everything between them.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --profile loom --lib -- --nocapture`. Each scenario runs `SHUTTLE_SCHEDULES` schedules
//! (100 000), half of them drawn step by step, half with priorities that change at three steps (PCT: Burckhardt, Kothari,
//! Musuvathi, Nagarakatti, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). The same
//! `SHUTTLE_SEED` draws the same schedules; it is printed when a scenario fails, behind shuttle's own print of the schedule.

mod account;
#[path = "../child.rs"]
mod child;
mod closing;
mod failing;
mod flowing;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::sync::{begin_time, make_mistake};
use crate::{Batcher, Builder};
use account::Account;
use child::must_fail;

/// Beyond what a scenario's clock reaches.
const LONG: Duration = Duration::from_secs(3_600);
/// A deadline that may pass at any look.
const SOON: Duration = Duration::from_millis(20);

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

fn schedules() -> usize {
    from_environment("SHUTTLE_SCHEDULES", 100_000) as usize
}

fn seed() -> u64 {
    from_environment("SHUTTLE_SEED", 1)
}

/// Runs a scenario on many schedules.
fn scenario(name: &str, body: fn()) {
    make_mistake(None);
    let begun = Instant::now();
    let run = catch_unwind(AssertUnwindSafe(|| explore(schedules(), body)));
    match run {
        Ok(run) => {
            let rate = run as f64 / begun.elapsed().as_secs_f64();
            println!("{name}: {run} schedules in {:.1?}, {rate:.0} a second", begun.elapsed());
            assert_eq!(run, schedules());
        }
        Err(failure) => {
            eprintln!("{name} failed: SHUTTLE_SEED={} SHUTTLE_SCHEDULES={}", seed(), schedules());
            resume_unwind(failure);
        }
    }
}

/// Runs a scenario with a mistake in the protocol; some schedule must fail.
fn mutant(mistake: &'static str, body: fn()) {
    must_fail(mistake, || {
        explore(schedules().max(20_000), body);
    });
}

fn explore(schedules: usize, body: fn()) -> usize {
    let random = schedules / 2;
    run(RandomScheduler::new_from_seed(seed(), random), body)
        + run(PctScheduler::new_from_seed(seed(), 3, schedules - random), body)
}

fn run(scheduler: impl Scheduler + 'static, body: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 0x4_0000;
    // A livelock, such as a thread that is never let to sleep, ends here.
    config.max_steps = MaxSteps::FailAfter(50_000);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        begin_time();
        body();
    })
}

/// With a small feedback ring, which is some twenty atomics a sample, and no check of the load.
fn builder() -> Builder<u32> {
    Batcher::builder().feedback_capacity(2).load_check_interval(LONG)
}

/// A handler's panic without the panic hook, which would print a schedule for each.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// A gate that a stuck handler waits at.
#[derive(Clone)]
struct Gate(Arc<(shuttle::sync::Mutex<bool>, shuttle::sync::Condvar)>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new((shuttle::sync::Mutex::new(false), shuttle::sync::Condvar::new())))
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}
