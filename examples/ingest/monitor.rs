//! A thread that reports the backend's load to the batcher, on a connection of its own.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use load_aware_batcher::{Batcher, LoadFeedback};

/// Something that can be measured. A sensor that cannot measure just now leaves the feedback as it
/// is: no signal is better than a wrong one.
pub trait Sensor: Send {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback;
}

/// The custom signals that the sensors here report, with their weights, for the builder.
pub const SIGNALS: [(&str, f64); 2] = [(DEADLOCKS, 0.1), (TIMEOUTS, 0.2)];
/// Deadlocks since the last sample, ten or more as 1.
pub const DEADLOCKS: &str = "deadlocks";
/// Statements that ran into a time-out since the last sample, ten or more as 1.
pub const TIMEOUTS: &str = "timeouts";

/// So many events since the last sample, as a share.
pub fn share(events: u64) -> f64 {
    (events as f64 / 10.0).min(1.0)
}

/// The thread; ends when this is dropped, or with the batcher.
pub struct Monitor {
    _stop: Sender<()>,
}

impl Monitor {
    /// Samples all sensors every `interval`. The thread is not waited for: a sensor may hang with
    /// its server.
    pub fn start<T: Send + 'static>(
        batcher: &Arc<Batcher<T>>,
        mut sensors: Vec<Box<dyn Sensor>>,
        interval: Duration,
    ) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let batcher: Weak<Batcher<T>> = Arc::downgrade(batcher);
        std::thread::spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let feedback = sensors
                    .iter_mut()
                    .fold(LoadFeedback::new(), |feedback, sensor| {
                        sensor.sample(feedback)
                    });
                // Only now: a sensor that hangs must not keep the batcher alive.
                let Some(batcher) = batcher.upgrade() else {
                    return;
                };
                batcher.report(feedback);
            }
        });
        Self { _stop: stop }
    }
}
