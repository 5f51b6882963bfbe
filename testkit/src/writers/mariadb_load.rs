//! How loaded a MariaDB or MySQL server is, over a connection of the sensor's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use load_aware_batcher::{LoadFeedback, Sensor};
use mysql::prelude::Queryable;
use mysql::{Conn, Error, Opts, OptsBuilder};

use super::{DEADLOCKS, TIMEOUTS, share};

/// `Innodb_row_lock_current_waits`, `Threads_running` without the sensor's own, `Innodb_deadlocks`
/// (MariaDB; others have none), and the timeouts that the writer counts.
pub struct MariadbLoad {
    opts: Opts,
    conn: Option<Conn>,
    deadlocks: Option<u64>,
    timeouts: Arc<AtomicU64>,
}

#[derive(Default)]
struct Figures {
    lock_waits: Option<u64>,
    threads_running: Option<u64>,
    deadlocks: Option<u64>,
}

const QUERY: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN
    ('Innodb_row_lock_current_waits', 'Threads_running', 'Innodb_deadlocks')";

impl MariadbLoad {
    /// `timeouts` is the writer's own count.
    pub fn new(opts: Opts, timeouts: Arc<AtomicU64>) -> Self {
        let patience = Some(Duration::from_secs(1));
        let opts = OptsBuilder::from_opts(opts)
            .tcp_connect_timeout(patience)
            .read_timeout(patience)
            .write_timeout(patience)
            .into();
        Self {
            opts,
            conn: None,
            deadlocks: None,
            timeouts,
        }
    }

    fn read_figures(&mut self) -> Result<Figures, Error> {
        // Taken out: only a connection that has answered is kept.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => Conn::new(self.opts.clone())?,
        };
        let mut figures = Figures::default();
        for (name, value) in conn.query::<(String, String), _>(QUERY)? {
            let value = value.parse().ok();
            match &*name {
                "Innodb_row_lock_current_waits" => figures.lock_waits = value,
                "Threads_running" => {
                    figures.threads_running = value.map(|running: u64| running.saturating_sub(1))
                }
                "Innodb_deadlocks" => figures.deadlocks = value,
                _ => {}
            }
        }
        self.conn = Some(conn);
        Ok(figures)
    }
}

impl Sensor for MariadbLoad {
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
        feedback.custom(TIMEOUTS, share(self.timeouts.swap(0, Ordering::Relaxed)))
    }
}
