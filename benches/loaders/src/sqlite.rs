//! SQLite: `.import` in the sqlite3 shell.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use load_aware_batcher_rusqlite as sink;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use tempfile::TempDir;

use crate::database::{Database, Failure, Key, ROWS_A_STATEMENT, Rows, Way, write_by};
use crate::program::{ended, installed};
use crate::row::{Reading, readings};
use crate::usage::Usage;

pub struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    pub fn start() -> Result<Self, Failure> {
        Ok(Self {
            folder: tempfile::tempdir()?,
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn import(&self, rows: Rows<'_>) -> Result<bool, Failure> {
        if !installed("sqlite3") {
            return Ok(false);
        }
        let mut shell = Command::new("sqlite3")
            .arg(self.path())
            .stdin(Stdio::piped())
            .spawn()?;
        let mut input = shell.stdin.take().ok_or("the input is a pipe")?;
        writeln!(input, ".import --csv {} readings", rows.csv.display())?;
        drop(input);
        let status = shell.wait()?;
        ended("sqlite3", status)
    }

    fn sink(&self, key: Key, rows: Rows<'_>) -> Result<(), Failure> {
        let sink = sink::Sqlite::open(self.path())
            .table("readings")
            .column("id", |r: &Reading| &r.id)
            .column("value", |r| &r.value)
            .column("text", |r| &r.text);
        let sink = match key {
            Key::Primary => sink.on_conflict(sink::OnConflict::Ignore),
            Key::None => sink,
        };
        write_by(sink, rows)
    }

    fn multi_row(&self, rows: Rows<'_>) -> Result<(), Failure> {
        let connection = Connection::open(self.path())?;
        let places = vec!["(?, ?, ?)"; ROWS_A_STATEMENT].join(", ");
        let mut insert = connection.prepare(&format!("INSERT INTO readings VALUES {places}"))?;
        let mut readings = readings(rows.count);
        loop {
            let values: Vec<Value> = readings
                .by_ref()
                .take(ROWS_A_STATEMENT)
                .flat_map(|r| [r.id.into(), r.value.into(), r.text.into()])
                .collect();
            if values.is_empty() {
                return Ok(());
            }
            insert.execute(params_from_iter(values))?;
        }
    }

    fn row_by_row(&self, rows: Rows<'_>) -> Result<(), Failure> {
        let mut connection = Connection::open(self.path())?;
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare("INSERT INTO readings VALUES (?1, ?2, ?3)")?;
        for r in readings(rows.count) {
            insert.execute(params![r.id, r.value, r.text])?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }
}

impl Database for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn loader(&self) -> &'static str {
        "`.import`"
    }

    /// A new file, so that no way reuses the pages of another.
    fn create(&mut self, key: Key) -> Result<(), Failure> {
        for end in ["", "-wal", "-shm", "-journal"] {
            // Most of them are not there.
            let _ = fs::remove_file(format!("{}{end}", self.path().display()));
        }
        let connection = Connection::open(self.path())?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        Ok(connection.execute_batch(&format!(
            "CREATE TABLE readings (id INTEGER NOT NULL{}, value REAL NOT NULL, text TEXT NOT NULL)",
            key.clause()
        ))?)
    }

    fn write(&mut self, way: Way, key: Key, rows: Rows<'_>) -> Result<bool, Failure> {
        match way {
            Way::Loader => return self.import(rows),
            Way::Sink => self.sink(key, rows)?,
            Way::MultiRow => self.multi_row(rows)?,
            Way::RowByRow => self.row_by_row(rows)?,
        }
        Ok(true)
    }

    fn stored(&mut self) -> Result<usize, Failure> {
        let connection = Connection::open(self.path())?;
        let count: i64 =
            connection.query_row("SELECT count(*) FROM readings", [], |row| row.get(0))?;
        Ok(usize::try_from(count)?)
    }

    fn server(&self) -> Option<Usage> {
        None
    }

    fn target(&self, _: Key) -> f64 {
        1.0
    }
}
