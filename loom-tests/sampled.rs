//! Models and scenarios under shuttle: schedules drawn at random.
//!
//! Each runs on `SHUTTLE_SCHEDULES` schedules (100 000), half of them drawn step by step, half with
//! priorities that change at three steps (PCT: Burckhardt, Kothari, Musuvathi, Nagarakatti, "A
//! Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). The same
//! `SHUTTLE_SEED` draws the same schedules; it is printed when one fails, after shuttle's own
//! print of the schedule.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::sync::begin_time;

pub(super) use shuttle::thread;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}"))
    })
}

fn schedules() -> usize {
    from_environment("SHUTTLE_SCHEDULES", 100_000) as usize
}

fn seed() -> u64 {
    from_environment("SHUTTLE_SEED", 1)
}

/// Runs a scenario on many schedules.
pub(super) fn scenario(name: &str, body: impl Fn() + Sync + Send + 'static) {
    let begun = Instant::now();
    let body = Arc::new(body);
    let run = catch_unwind(AssertUnwindSafe(|| explore(schedules(), &body)));
    match run {
        Ok(run) => {
            let rate = run as f64 / begun.elapsed().as_secs_f64();
            println!(
                "{name}: {run} schedules in {:.1?}, {rate:.0} a second",
                begun.elapsed()
            );
            assert_eq!(run, schedules());
        }
        Err(failure) => {
            eprintln!(
                "{name} failed: SHUTTLE_SEED={} SHUTTLE_SCHEDULES={}",
                seed(),
                schedules()
            );
            resume_unwind(failure);
        }
    }
}

/// The models of few steps, on as many schedules.
pub(super) fn model(name: &str, _floor: usize, body: impl Fn() + Sync + Send + 'static) {
    scenario(name, body);
}

fn explore(schedules: usize, body: &Arc<impl Fn() + Sync + Send + 'static>) -> usize {
    let random = schedules / 2;
    run(RandomScheduler::new_from_seed(seed(), random), body)
        + run(
            PctScheduler::new_from_seed(seed(), 3, schedules - random),
            body,
        )
}

fn run(
    scheduler: impl Scheduler + 'static,
    body: &Arc<impl Fn() + Sync + Send + 'static>,
) -> usize {
    let body = Arc::clone(body);
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
