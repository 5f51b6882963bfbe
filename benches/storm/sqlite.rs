//! SQLite to be measured: WAL, synchronous full, and two further indexes. It has no statement time-out.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use load_aware_batcher::Handler;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::ingest::monitor::Sensor;
use crate::ingest::once::Once;
use crate::ingest::rows::Row;
use crate::ingest::sqlite_load::SqliteLoad;
use crate::ingest::sqlite_writer::SqliteWriter;
use crate::neighbours::{CPU_CLIENTS, FSYNC_CLIENTS, LOCK_FREE, LOCK_HELD, Neighbours, Storm};

struct Measured {
    folder: TempDir,
}

pub fn open() -> Box<dyn Backend> {
    Box::new(Measured { folder: tempfile::tempdir().expect("a temporary folder") })
}

impl Measured {
    fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }
}

impl Backend for Measured {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn reset(&mut self) {
        for file in ["db", "db-wal", "db-shm"] {
            let _ = std::fs::remove_file(self.folder.path().join(file));
        }
        SqliteWriter::create_tables(&self.path(), "readings", Once::Key).expect("the table");
        Connection::open(self.path())
            .and_then(|db| {
                db.execute_batch("CREATE INDEX a ON readings (value); CREATE INDEX b ON readings (text, value)")
            })
            .expect("the indexes");
    }

    fn handler(&self) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>) {
        let writer = SqliteWriter::new(&self.path(), "readings", Once::Key);
        let sensor = SqliteLoad::new(writer.timeouts());
        (Box::new(writer), Box::new(sensor))
    }

    fn neighbours(&self, storm: Storm) -> Neighbours {
        let path = self.path();
        let folder = self.folder.path().to_owned();
        match storm {
            // In memory: they share the machine, not the file.
            Storm::Cpu => Neighbours::start(CPU_CLIENTS, move |_| {
                let db = Connection::open_in_memory().expect("a database in memory");
                let query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                    SELECT sum(i % 7) FROM n";
                move || Ok(db.query_row(query, [], |row| row.get::<_, i64>(0)).map(drop)?)
            }),
            Storm::Locks => Neighbours::start(1, move |_| {
                let db = Connection::open(&path).expect("the file");
                db.busy_handler(Some(again)).expect("a setting");
                move || {
                    db.execute_batch("BEGIN IMMEDIATE")?;
                    sleep(LOCK_HELD);
                    db.execute_batch("ROLLBACK")?;
                    sleep(LOCK_FREE);
                    Ok(())
                }
            }),
            Storm::Fsync => Neighbours::start(FSYNC_CLIENTS, move |number| {
                let mut file = File::create(folder.join(format!("other-{number}"))).expect("a file");
                move || {
                    file.write_all(&[0; 20_000])?;
                    Ok(file.sync_data()?)
                }
            }),
        }
    }
}

/// SQLite's own busy time-out looks ten times a second after a while: then luck decides how often a neighbour ever gets in
/// between two batches, and no two rounds are alike.
fn again(_: i32) -> bool {
    sleep(Duration::from_millis(1));
    true
}
