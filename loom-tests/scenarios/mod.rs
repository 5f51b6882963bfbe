//! Whole batchers: more threads and steps than loom can exhaust, with time that passes. The
//! scenarios use the public API on the modelled parts, and so test everything in between.

mod account;
mod closing;
mod failing;
mod flowing;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use super::sampled::scenario;
use crate::{Batcher, Builder};
use account::Account;

/// Longer than the clock of any scenario runs.
const LONG: Duration = Duration::from_secs(3_600);
/// A deadline that may pass at any check.
const SOON: Duration = Duration::from_millis(20);

/// With a small feedback ring, since a sample takes some twenty atomics, and without checks of the
/// load. No wait ends to check for a stall, since that would hide a lost wake-up.
fn builder() -> Builder<u32> {
    Batcher::builder()
        .feedback_capacity(2)
        .load_check_interval(LONG)
        .stall_timeout(LONG)
}

/// A panic of the handler without the panic hook, which would print a schedule for each.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// A stuck handler waits for this gate.
#[derive(Clone)]
struct Gate(Arc<(shuttle::sync::Mutex<bool>, shuttle::sync::Condvar)>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new((
            shuttle::sync::Mutex::new(false),
            shuttle::sync::Condvar::new(),
        )))
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
