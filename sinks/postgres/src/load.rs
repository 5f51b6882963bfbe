//! How loaded the server is, over a connection of the sensor's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use load_aware_batcher::{LoadFeedback, Sensor};

use crate::connection::{AnyError, Link, Source};

/// The custom signal: deadlocks of the database since the last sample, ten or more as 1.
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

const SESSION: &str = "SET application_name = 'load sensor'; SET statement_timeout = '1s'";

const QUERY: &str = "SELECT
    (SELECT count(*) FROM pg_locks WHERE NOT granted),
    (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()),
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())";

pub(crate) struct ServerSensor {
    source: Arc<Source>,
    link: Option<Link>,
    deadlocks: Option<i64>,
    timeouts: Arc<Timeouts>,
}

struct Figures {
    waiting_locks: i64,
    active_backends: i64,
    deadlocks: i64,
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
            None => {
                let mut link = self.source.connect()?;
                link.batch_execute(SESSION)?;
                link
            }
        };
        let row = link.query_one(QUERY, &[])?;
        self.link = Some(link);
        Ok(Figures {
            waiting_locks: row.try_get(0)?,
            active_backends: row.try_get(1)?,
            deadlocks: row.try_get(2)?,
        })
    }
}

impl Sensor for ServerSensor {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        let Ok(figures) = self.read_figures() else {
            // The server may be back with counters at zero.
            self.deadlocks = None;
            return feedback;
        };
        let timeouts = self.timeouts.0.swap(0, Ordering::Relaxed);
        let before = self.deadlocks.replace(figures.deadlocks);
        let deadlocks = figures.deadlocks - before.unwrap_or(figures.deadlocks);
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        feedback
            .db_locks(count(figures.waiting_locks))
            .queue_depth(count(figures.active_backends))
            .custom(DEADLOCKS, share(count(deadlocks)))
            .custom(TIMEOUTS, share(timeouts))
    }
}

fn share(events: u64) -> f64 {
    (events as f64 / 10.0).min(1.0)
}
