//! The protocols under loom: every interleaving within the preemption bound.
//!
//! Each model is named after the promise it keeps and has mutants beside it: the same model with one deliberate mistake in the
//! protocol, which it must find. Mistakes are made at run time, by `sync::mutant`, so one build runs them all. A mutant passes
//! when the model fails.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --profile loom --lib`, with `LOOM_MAX_PREEMPTIONS=3` for the gate (the default here).
//! `-- --nocapture` prints the number of executions and the time of each model.

mod admission;
mod flush;
mod ring;
mod setpoint;
mod ticket;
mod wake_up;
mod whole;

use std::process::Command;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::batch::{Batch, Closing};
use crate::doorbell::Doorbell;
use crate::flusher::{Chance, Flusher};
use crate::intake::Intake;
use crate::policy::Zone;
use crate::queue::Queue;
use crate::reporter::Reporter;
use crate::retry::Retry;
use crate::ring::Ring;
use crate::setpoint::{Setpoint, SetpointCell};
use crate::settle::Rules;
use crate::sync::{Arc, Parker, make_mistake, now};

/// The bound in the gate; the environment's `LOOM_MAX_PREEMPTIONS` overrides it.
const PREEMPTIONS: usize = 3;

fn builder() -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 20_000;
    builder
}

/// Explores a model; at the gate's bound or above it must have at least so many executions, or it explores less than it did.
fn model(name: &str, floor: usize, body: impl Fn() + Sync + Send + 'static) {
    make_mistake(None);
    let executions = StdArc::new(AtomicUsize::new(0));
    let count = StdArc::clone(&executions);
    let begun = Instant::now();
    let builder = builder();
    let bound = builder.preemption_bound.unwrap_or(PREEMPTIONS);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{name}: {executions} executions at {bound} preemptions in {:.1?}", begun.elapsed());
    assert!(executions > 1, "a model with one schedule proves nothing");
    assert!(bound < PREEMPTIONS || executions >= floor, "{executions} executions, {floor} expected");
}

/// Explores a model with a mistake in the protocol, in a process of its own; it must fail there.
///
/// A deadlock that loom finds ends in a panic amid the model's own drops, which aborts the process.
fn mutant(mistake: &'static str, body: impl Fn() + Sync + Send + 'static) {
    const CHILD: &str = "LOOM_MUTANT";
    if std::env::var_os(CHILD).is_some() {
        make_mistake(Some(mistake));
        builder().check(body);
        return;
    }
    let test = std::thread::current().name().expect("libtest names a test's thread after it").to_owned();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&child.stdout).contains("running 1 test"), "the child did not run {test}");
    assert!(!child.status.success(), "the model does not notice: {mistake}");
}

/// The parts of a batcher without a controller.
struct Parts<T> {
    queue: Arc<Queue<T>>,
    setpoint: Arc<SetpointCell>,
    reporter: Arc<Reporter>,
    parker: Parker,
}

impl<T> Parts<T> {
    fn new(capacity: usize, batch_size: usize) -> Self {
        let parker = Parker::new();
        let doorbell = Arc::new(Doorbell::new(&parker));
        let (ring, _) = Ring::new(1);
        let reporter = Arc::new(Reporter::new(ring, Vec::new(), Doorbell::new(&Parker::new())));
        let first = Setpoint {
            batch_size,
            linger: Duration::from_secs(3_600),
            pause_ratio: 0.0,
            probe: None,
            zone: Zone::Unknown,
            score: None,
            reason: "start".into(),
        };
        let setpoint = Arc::new(SetpointCell::new(first, Arc::clone(&doorbell)));
        let queue = Arc::new(Queue::new(capacity, None, doorbell, 1, |receiver| {
            Intake::new(receiver, Arc::new(Closing::new()), 0, now(), (false, usize::MAX))
        }));
        Self { queue, setpoint, reporter, parker }
    }

    /// Starts the real flusher with this handler, two attempts and no backoff.
    fn start(self, mut handler: impl FnMut(&mut Batch<T>) -> Outcome + Send + 'static) -> loom::thread::JoinHandle<()>
    where
        T: Send + 'static,
    {
        let Self { queue, setpoint, reporter, parker } = self;
        let retry = Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO).bisect(false);
        let rules = Rules { retry, idempotent: false };
        let mut flusher = Flusher { queue, setpoint, reporter, parker, on_failed: None, rules, chance: Chance(0) };
        loom::thread::spawn(move || {
            flusher.run_to_the_end(&mut handler);
            flusher.finish((), &crate::sync::Mutex::new(None));
        })
    }
}

type Outcome = Result<crate::feedback::LoadFeedback, crate::error::BatchError>;

/// Closes as `Core` does, without a flusher: everything accepted comes back.
fn close_and_seize<T>(queue: &Queue<T>) -> Vec<T> {
    begin_close(queue);
    queue.lock().seize().0
}

fn begin_close<T>(queue: &Queue<T>) {
    queue.lock().close(queue, None);
    queue.doorbell.ring();
    queue.credit.wake_all();
}
