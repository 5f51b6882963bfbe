//! Models on real threads and the real parts: for Miri, with one order for each seed, and as a
//! quick check on every machine.

pub(super) use std::thread;

/// Runs a model some times. A lost wake-up hangs.
pub(super) fn model(_name: &str, _floor: usize, body: impl Fn() + Sync + Send + 'static) {
    let times = if cfg!(miri) { 1 } else { 200 };
    (0..times).for_each(|_| body());
}
