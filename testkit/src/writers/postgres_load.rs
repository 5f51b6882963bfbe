//! How loaded a PostgreSQL server is, over a connection of the sensor's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use load_aware_batcher::{LoadFeedback, Sensor};
use postgres::{Client, Config, Error, NoTls};

use super::{DEADLOCKS, TIMEOUTS, share};

/// Waiting locks (`pg_locks`), active backends (`pg_stat_activity`), deadlocks
/// (`pg_stat_database`), and the statement timeouts that the writer counts. Costs the server well
/// under a millisecond a sample.
pub struct PostgresLoad {
    config: Config,
    client: Option<Client>,
    deadlocks: Option<i64>,
    timeouts: Arc<AtomicU64>,
}

struct Figures {
    waiting_locks: i64,
    active_backends: i64,
    deadlocks: i64,
}

const QUERY: &str = "SELECT
    (SELECT count(*) FROM pg_locks WHERE NOT granted),
    (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()),
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())";

impl PostgresLoad {
    /// `timeouts` is the writer's own count.
    pub fn new(config: Config, timeouts: Arc<AtomicU64>) -> Self {
        Self {
            config,
            client: None,
            deadlocks: None,
            timeouts,
        }
    }

    fn read_figures(&mut self) -> Result<Figures, Error> {
        // Taken out: only a connection that has answered is kept.
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                let mut client = self.config.connect(NoTls)?;
                client.batch_execute(
                    "SET application_name = 'load sensor'; SET statement_timeout = '1s'",
                )?;
                client
            }
        };
        let row = client.query_one(QUERY, &[])?;
        self.client = Some(client);
        Ok(Figures {
            waiting_locks: row.get(0),
            active_backends: row.get(1),
            deadlocks: row.get(2),
        })
    }
}

impl Sensor for PostgresLoad {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        let Ok(figures) = self.read_figures() else {
            // The server may be back with counters at zero.
            self.deadlocks = None;
            return feedback;
        };
        let timeouts = self.timeouts.swap(0, Ordering::Relaxed);
        let before = self
            .deadlocks
            .replace(figures.deadlocks)
            .unwrap_or(figures.deadlocks);
        feedback
            .db_locks(u64::try_from(figures.waiting_locks).unwrap_or(0))
            .queue_depth(u64::try_from(figures.active_backends).unwrap_or(0))
            .custom(
                DEADLOCKS,
                share(u64::try_from(figures.deadlocks - before).unwrap_or(0)),
            )
            .custom(TIMEOUTS, share(timeouts))
    }
}
