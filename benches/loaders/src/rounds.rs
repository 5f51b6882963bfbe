//! The runs of one database and one kind of table. The ways of writing take turns.

use std::time::Instant;

use crate::database::{Database, Failure, Key, Rows, Way};
use crate::usage::Usage;

/// One run.
#[derive(Clone, Copy)]
pub struct Run {
    pub rows_per_s: f64,
    /// Of this process and of the loader's program.
    pub client: Usage,
    pub server: Option<Usage>,
}

/// All runs of one way of writing. Empty where its program is not installed.
pub struct Runs {
    pub way: Way,
    pub runs: Vec<Run>,
}

/// Runs each way once a round. Every round begins with another way, so that none is always the
/// first.
///
/// # Errors
///
/// A way that fails, or that stores another number of rows than it was given.
pub fn measure(
    database: &mut dyn Database,
    key: Key,
    rows: Rows<'_>,
    rounds: usize,
) -> Result<Vec<Runs>, Failure> {
    let mut all = Way::ALL.map(|way| Runs {
        way,
        runs: Vec::new(),
    });
    for round in 0..rounds {
        for turn in 0..all.len() {
            let place = (turn + round) % all.len();
            let one = &mut all[place];
            one.runs.extend(run(database, one.way, key, rows)?);
        }
    }
    Ok(all.into())
}

/// `None` where the program is not installed.
fn run(
    database: &mut dyn Database,
    way: Way,
    key: Key,
    rows: Rows<'_>,
) -> Result<Option<Run>, Failure> {
    database.create(key)?;
    let rows = Rows {
        count: way.share(rows.count),
        ..rows
    };
    let (client, server) = (Usage::of_this_process(), database.server());
    let begun = Instant::now();
    if !database.write(way, key, rows)? {
        return Ok(None);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let client = Usage::of_this_process() - client;
    let server = database
        .server()
        .zip(server)
        .map(|(after, before)| after - before);
    let stored = database.stored()?;
    if stored != rows.count {
        return Err(format!("{stored} rows are stored instead of {}", rows.count).into());
    }
    Ok(Some(Run {
        rows_per_s: rows.count as f64 / seconds,
        client,
        server,
    }))
}
