//! What both databases need of the demo: their tables, and other clients that lock them.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::scene::Scene;

/// Of the three batchers, each one's own.
pub const TABLES: [&str; 3] = [
    "load_aware_batcher_demo_1",
    "load_aware_batcher_demo_2",
    "load_aware_batcher_demo_3",
];

/// A problem that is said in one line.
pub type Problem = Box<dyn Error + Send + Sync>;

/// A connection of the demo's own, beside those of the sinks.
pub trait Database: Send + 'static {
    fn run(&mut self, statements: &str) -> Result<(), Problem>;

    /// Locks the tables for that time.
    fn hold(&mut self, time: Duration) -> Result<(), Problem>;
}

/// Makes the tables anew.
pub fn make_tables(database: &mut impl Database) -> Result<(), Problem> {
    drop_tables(database)?;
    TABLES.into_iter().try_for_each(|table| {
        // Types that both databases have.
        database.run(&format!(
            "CREATE TABLE {table} (id BIGINT NOT NULL PRIMARY KEY, value DOUBLE PRECISION NOT NULL)"
        ))
    })
}

pub fn drop_tables(database: &mut impl Database) -> Result<(), Problem> {
    TABLES
        .into_iter()
        .try_for_each(|table| database.run(&format!("DROP TABLE IF EXISTS {table}")))
}

/// The other clients: they hold the tables for their share of the time.
pub fn start_neighbours(mut database: impl Database, scene: Arc<Scene>) {
    const PERIOD: Duration = Duration::from_millis(100);
    thread::spawn(move || {
        loop {
            let share = scene.neighbours();
            if share > 0.0 {
                if let Err(problem) = database.hold(PERIOD.mul_f64(share)) {
                    eprintln!("the neighbours: {problem}");
                }
            }
            thread::sleep(PERIOD.mul_f64(1.0 - share));
        }
    });
}

/// The error with its reasons, which a driver may keep one level down, in one line.
pub fn said(problem: &(dyn Error + 'static)) -> String {
    let mut line = problem.to_string();
    let mut source = problem.source();
    while let Some(reason) = source {
        if !line.contains(&reason.to_string()) {
            line = format!("{line}: {reason}");
        }
        source = reason.source();
    }
    line.replace('\n', " ")
}
