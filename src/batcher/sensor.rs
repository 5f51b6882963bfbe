//! Sensors: what measures the backend's load alongside the handler, each on a thread of its own.
//!
//! A sensor's thread samples, reports and sleeps until its next turn. It ends when the controller
//! has: nobody reads a report then. A close does not wait for it, since a sensor may hang with its
//! server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::batcher::threads::Latch;
use crate::error::BuildError;
use crate::exchange::reporter::Reporter;
use crate::feedback::LoadFeedback;
use crate::sync::{Arc, now, spawn};
use crate::unwind::message;

/// Measures how loaded the backend is. For [`Builder::sensor`](crate::Builder::sensor).
///
/// A closure `|feedback: LoadFeedback| feedback.cpu_load(…)` is a sensor. A sensor that asks a
/// server needs a connection of its own, so that it can measure while the handler waits.
pub trait Sensor: Send {
    /// Adds the values that can be measured now to `feedback`. A sensor that cannot measure returns
    /// the feedback unchanged: no signal is better than a wrong one. An empty feedback is not
    /// reported.
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback;
}

impl<F: FnMut(LoadFeedback) -> LoadFeedback + Send> Sensor for F {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        self(feedback)
    }
}

/// A sensor with the time from one sample to the next.
pub(crate) struct Sampled {
    pub(crate) interval: Duration,
    pub(crate) sensor: Box<dyn Sensor>,
}

impl Sampled {
    /// Starts the thread. The first sample is taken at once; the thread ends when `ended` is open.
    pub(crate) fn start(
        mut self,
        name: &str,
        reporter: Arc<Reporter>,
        ended: Arc<Latch>,
    ) -> Result<(), BuildError> {
        let body = move || {
            loop {
                let sample = || self.sensor.sample(LoadFeedback::new());
                match catch_unwind(AssertUnwindSafe(sample)) {
                    Ok(feedback) => reporter.report(&feedback),
                    Err(panic) => {
                        drop(message(panic));
                        reporter.sensor_panicked();
                    }
                }
                // An interval beyond the clock's range has no second turn.
                if ended.wait_until(now().checked_add(self.interval)) {
                    return;
                }
            }
        };
        match spawn(&format!("load-{name}"), body, || ()) {
            // Not joined: see the module's doc.
            Ok(_) => Ok(()),
            Err(source) => Err(BuildError::Thread {
                name: "sensor",
                source,
            }),
        }
    }
}
