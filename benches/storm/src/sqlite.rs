//! SQLite: a file for each candidate, WAL, `synchronous = FULL`, and two further indexes. SQLite
//! has no statement timeout.
//!
//! The files of each round begin with so many rows that each value of the smaller index has a page.
//! Until then a row costs more the more rows there are, and a candidate that was slow in the
//! warm-up was the fastest after it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use load_aware_batcher::{Handler, Sensor};
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::writers::sqlite::SqliteWriter;
use testkit::writers::sqlite_load::SqliteLoad;
use testkit::writers::{Dedup, Row};

use crate::backend::Backend;
use crate::competitors::{CPU_CLIENTS, Competitors, FSYNC_CLIENTS, LOCK_FREE, LOCK_HELD, Storm};

struct Measured {
    folder: TempDir,
    candidates: usize,
}

const ROWS: u32 = 300_000;
const TABLE: &str = "readings";

pub fn open() -> Box<dyn Backend> {
    let measured = Measured {
        folder: tempfile::tempdir().expect("a temporary folder"),
        candidates: 0,
    };
    let path = measured.full();
    SqliteWriter::create_tables(&path, TABLE, Dedup::Key).expect("the table");
    let fill = format!(
        "CREATE INDEX a ON {TABLE} (value);
         CREATE INDEX b ON {TABLE} (text, value);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO {TABLE} (id, value, text) SELECT -i, i % 1000, 'reading ' || i || ' of a bench' FROM n"
    );
    // Closed at once: that writes the log into the file.
    Connection::open(path)
        .and_then(|db| db.execute_batch(&fill))
        .expect("the rows");
    Box::new(measured)
}

impl Measured {
    /// Each candidate's file is a copy of this one.
    fn full(&self) -> PathBuf {
        self.folder.path().join("full")
    }

    fn path(&self, candidate: usize) -> PathBuf {
        self.folder.path().join(format!("db-{candidate}"))
    }
}

impl Backend for Measured {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn reset(&mut self, candidates: usize) {
        self.candidates = candidates;
        for candidate in 0..candidates {
            for tail in ["", "-wal", "-shm"] {
                let _ =
                    std::fs::remove_file(self.folder.path().join(format!("db-{candidate}{tail}")));
            }
            std::fs::copy(self.full(), self.path(candidate)).expect("a copy");
        }
    }

    fn handler(&self, candidate: usize) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>) {
        let writer = SqliteWriter::new(&self.path(candidate), TABLE, Dedup::Key);
        let sensor = SqliteLoad::new(writer.timeouts());
        (Box::new(writer), Box::new(sensor))
    }

    fn competitors(&self, storm: Storm) -> Competitors {
        let paths: Vec<PathBuf> = (0..self.candidates)
            .map(|candidate| self.path(candidate))
            .collect();
        let folder = self.folder.path().to_owned();
        match storm {
            // In memory: the competitors share the machine, not the file.
            Storm::Cpu => Competitors::start(CPU_CLIENTS, move |_| {
                let db = Connection::open_in_memory().expect("a database in memory");
                let query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                    SELECT sum(i % 7) FROM n";
                move || {
                    Ok(db
                        .query_row(query, [], |row| row.get::<_, i64>(0))
                        .map(drop)?)
                }
            }),
            Storm::Locks => Competitors::start(1, move |_| {
                // `BEGIN IMMEDIATE` locks all that is attached.
                let db = Connection::open(&paths[0]).expect("the file");
                for (candidate, path) in paths.iter().enumerate().skip(1) {
                    db.execute(&format!("ATTACH ?1 AS other_{candidate}"), [path.to_str()])
                        .expect("a further file");
                }
                db.busy_handler(Some(again)).expect("a setting");
                move || {
                    db.execute_batch("BEGIN IMMEDIATE")?;
                    sleep(LOCK_HELD);
                    db.execute_batch("ROLLBACK")?;
                    sleep(LOCK_FREE);
                    Ok(())
                }
            }),
            Storm::Fsync => Competitors::start(FSYNC_CLIENTS, move |number| {
                let mut file =
                    File::create(folder.join(format!("other-{number}"))).expect("a file");
                move || {
                    file.write_all(&[0; 20_000])?;
                    Ok(file.sync_data()?)
                }
            }),
        }
    }
}

/// SQLite's own busy timeout polls only ten times a second after a while. Then chance decides how
/// often the competitor gets the lock between two batches, and no two rounds are alike.
fn again(_: i32) -> bool {
    sleep(Duration::from_millis(1));
    true
}
