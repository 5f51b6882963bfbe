//! How loaded the server is, over a connection of the sensor's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use load_aware_batcher::{LoadFeedback, Sensor};
use mysql::prelude::Queryable;

use crate::connection::{AnyError, Link, Source};

/// The custom signal: deadlocks of the whole server since the last sample, ten or more as 1.
pub(crate) const DEADLOCKS: &str = "deadlocks";
/// The custom signal: statements that ran into a time-out since the last sample, ten or more as 1.
pub(crate) const TIMEOUTS: &str = "timeouts";

/// Statements of the writers that ran into a time-out: the server keeps no such figure. Relaxed:
/// statistics.
#[derive(Debug, Default)]
pub(crate) struct Timeouts(AtomicU64);

impl Timeouts {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(1);

const QUERY: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN
    ('Innodb_row_lock_current_waits', 'Threads_running', 'Innodb_deadlocks')";

pub(crate) struct ServerSensor {
    source: Arc<Source>,
    link: Option<Link>,
    deadlocks: Option<u64>,
    timeouts: Arc<Timeouts>,
}

#[derive(Default)]
struct Figures {
    lock_waits: Option<u64>,
    threads_running: Option<u64>,
    /// MariaDB has this one, MySQL does not.
    deadlocks: Option<u64>,
}

impl ServerSensor {
    pub(crate) fn new(source: Arc<Source>, timeouts: Arc<Timeouts>) -> Self {
        Self {
            source,
            link: None,
            deadlocks: None,
            timeouts,
        }
    }

    fn read_figures(&mut self) -> Result<Figures, AnyError> {
        // Taken out: only a connection that has answered is kept.
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.source.connect(PATIENCE)?,
        };
        let mut figures = Figures::default();
        for (name, value) in link.conn().query::<(String, String), _>(QUERY)? {
            let value = value.parse::<u64>().ok();
            match &*name {
                "Innodb_row_lock_current_waits" => figures.lock_waits = value,
                // Without the sensor's own.
                "Threads_running" => {
                    figures.threads_running = value.map(|running| running.saturating_sub(1));
                }
                "Innodb_deadlocks" => figures.deadlocks = value,
                _ => {}
            }
        }
        self.link = Some(link);
        Ok(figures)
    }
}

impl Sensor for ServerSensor {
    fn sample(&mut self, mut feedback: LoadFeedback) -> LoadFeedback {
        let Ok(figures) = self.read_figures() else {
            // The server may be back with counters at zero.
            self.deadlocks = None;
            return feedback;
        };
        if let Some(waits) = figures.lock_waits {
            feedback = feedback.db_locks(waits);
        }
        if let Some(running) = figures.threads_running {
            feedback = feedback.queue_depth(running);
        }
        if let Some(deadlocks) = figures.deadlocks {
            let before = self.deadlocks.replace(deadlocks).unwrap_or(deadlocks);
            feedback = feedback.custom(DEADLOCKS, share(deadlocks.saturating_sub(before)));
        }
        let timeouts = self.timeouts.0.swap(0, Ordering::Relaxed);
        feedback.custom(TIMEOUTS, share(timeouts))
    }
}

fn share(events: u64) -> f64 {
    (events as f64 / 10.0).min(1.0)
}
