//! The protocols under loom: every interleaving within the preemption bound.
//!
//! Each model is named after the promise it keeps and has mutants beside it: the same model with one deliberate mistake in the
//! protocol, which it must find. Mistakes are made at run time, by `sync::mutant`, so one build runs them all. A mutant passes
//! when the model fails.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --profile loom --lib`, with `LOOM_MAX_PREEMPTIONS=3` for the gate (the default here).
//! `-- --nocapture` prints the number of executions and the time of each model.

mod admission;
mod child;
mod close;
mod flush;
mod parts;
mod reporter;
mod ring;
mod setpoint;
mod ticket;
mod wake_up;
mod whole;

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use loom::model::Builder;

use crate::sync::make_mistake;
use child::must_fail;
use parts::{Parts, begin_close, close_and_seize};

/// The bound in the gate; the environment's `LOOM_MAX_PREEMPTIONS` overrides it.
const PREEMPTIONS: usize = 3;

fn builder() -> Builder {
    let mut builder = Builder::new();
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

/// Explores a model with a mistake in the protocol; it must fail.
fn mutant(mistake: &'static str, body: impl Fn() + Sync + Send + 'static) {
    must_fail(mistake, || builder().check(body));
}
