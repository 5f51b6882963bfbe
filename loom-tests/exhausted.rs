//! Models under loom: every interleaving within the preemption bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use loom::model::Builder;

pub(super) use loom::thread;

/// The bound in the gate; the environment's `LOOM_MAX_PREEMPTIONS` overrides it.
const PREEMPTIONS: usize = 3;

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 20_000;
    builder
}

/// Explores a model. At the gate's bound or above, it must have at least this many executions.
/// Otherwise it explores less than it did. With a mutant the number does not count.
pub(super) fn model(name: &str, floor: usize, body: impl Fn() + Sync + Send + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let begun = Instant::now();
    let builder = builder();
    let bound = builder.preemption_bound.unwrap_or(PREEMPTIONS);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!(
        "{name}: {executions} executions at {bound} preemptions in {:.1?}",
        begun.elapsed()
    );
    if std::env::var_os("MUTANT").is_some() {
        return;
    }
    assert!(executions > 1, "a model with one schedule proves nothing");
    assert!(
        bound < PREEMPTIONS || executions >= floor,
        "{executions} executions, {floor} expected"
    );
}
