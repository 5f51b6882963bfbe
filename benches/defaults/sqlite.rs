//! The short program that most users write first, against a real file.

use load_aware_batcher::{Batch, LoadFeedback};
use rusqlite::Connection;

use crate::batcher;
use crate::servers::rows_per_ms;

/// Rows a millisecond, from the start of the batcher to the end of its close.
pub(crate) fn sqlite(fixed: Option<usize>) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let mut connection = Connection::open(folder.path().join("db")).expect("a database");
    connection
        .execute_batch("CREATE TABLE readings (id INTEGER PRIMARY KEY, value REAL, text TEXT)")
        .expect("a table");
    rows_per_ms(batcher(fixed), move |batch: &mut Batch<u64>| {
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO readings VALUES (?, ?, ?)")?;
        for id in batch.iter() {
            insert.execute((*id as i64, *id as f64 / 4.0, "a reading"))?;
        }
        drop(insert);
        transaction.commit()?;
        Ok(LoadFeedback::new())
    })
}
