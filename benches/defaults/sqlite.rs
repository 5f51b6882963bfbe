//! The program of eight lines that everybody writes first, into a real file.

use std::time::Instant;

use load_aware_batcher::{Batch, LoadFeedback};
use rusqlite::Connection;

use crate::{LONG, batcher};

const ROWS: u64 = 1_000_000;

/// Rows a millisecond, from the start of the batcher to the end of its close.
pub(crate) fn rows_per_ms(fixed: Option<usize>) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = Connection::open(folder.path().join("db")).expect("a database");
    connection
        .execute_batch("CREATE TABLE readings (id INTEGER PRIMARY KEY, value REAL, text TEXT)")
        .expect("a table");
    let begun = Instant::now();
    let mut connection = connection;
    let batcher = batcher(fixed)
        .spawn(move |batch: &mut Batch<u64>| {
            let transaction = connection.transaction()?;
            let mut insert = transaction.prepare_cached("INSERT INTO readings VALUES (?, ?, ?)")?;
            for id in batch.iter() {
                insert.execute((*id as i64, *id as f64 / 4.0, "a reading"))?;
            }
            drop(insert);
            transaction.commit()?;
            Ok(LoadFeedback::new())
        })
        .expect("two threads start");
    batcher.add_many(0..ROWS).expect("open until its close");
    let report = batcher.close(LONG);
    assert!(report.is_clean() && report.handled == ROWS, "{report:?}");
    ROWS as f64 / begun.elapsed().as_secs_f64() / 1e3
}
