//! Rows a second into SQLite: the sink beside one plain transaction.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-rusqlite --example measure_sqlite -- 300000 3
//! ```
//!
//! Each round writes the same rows into a new file: by the `sqlite3` shell's `.import` of a CSV
//! file if the shell is installed, by a loop of one prepared statement in one transaction, and by
//! the sink with nothing tuned. The table is with a key or without. The figures are medians.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use load_aware_batcher_rusqlite::load_aware_batcher::Batcher;
use load_aware_batcher_rusqlite::rusqlite::{Connection, params};
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};

type Failure = Box<dyn std::error::Error>;

struct Reading {
    id: i64,
    value: f64,
    text: String,
}

fn reading(id: i64) -> Reading {
    Reading {
        id,
        value: id as f64 / 4.0,
        text: format!("reading number {id}"),
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rows: i64 = arguments.next().map_or(Ok(300_000), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let csv = folder.path().join("rows.csv");
    let mut out = BufWriter::new(File::create(&csv)?);
    for row in (0..rows).map(reading) {
        writeln!(out, "{},{},{}", row.id, row.value, row.text)?;
    }
    drop(out);
    let path = folder.path().join("db");
    for keyed in [true, false] {
        let mut seconds = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            create(&path, keyed)?;
            seconds[0].extend(import(&path, &csv)?);
            create(&path, keyed)?;
            seconds[1].push(plain(&path, rows)?);
            create(&path, keyed)?;
            seconds[2].push(sink(&path, rows, keyed)?);
            let stored: i64 =
                Connection::open(&path)?
                    .query_row("SELECT count(*) FROM readings", [], |row| row.get(0))?;
            assert_eq!(stored, rows);
        }
        let kind = if keyed { "with a key" } else { "without a key" };
        for (name, seconds) in [".import", "plain loop", "sink"].iter().zip(&mut seconds) {
            seconds.sort_by(f64::total_cmp);
            if let Some(median) = seconds.get(seconds.len() / 2) {
                println!(
                    "{kind}: {name:>10} {median:.3} s, {:.0} rows/s",
                    rows as f64 / median
                );
            }
        }
    }
    Ok(())
}

fn create(path: &Path, keyed: bool) -> Result<(), Failure> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(format!("{}{end}", path.display()));
    }
    let key = if keyed { " PRIMARY KEY" } else { "" };
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(&format!(
        "CREATE TABLE readings (id INTEGER NOT NULL{key}, value REAL NOT NULL, text TEXT NOT NULL)"
    ))?;
    Ok(())
}

/// `None` where there is no shell.
fn import(path: &Path, csv: &Path) -> Result<Option<f64>, Failure> {
    let begun = Instant::now();
    let shell = Command::new("sqlite3")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut shell) = shell else {
        return Ok(None);
    };
    let mut input = shell.stdin.take().expect("piped");
    writeln!(input, ".import --csv {} readings", csv.display())?;
    drop(input);
    assert!(shell.wait()?.success());
    Ok(Some(begun.elapsed().as_secs_f64()))
}

fn plain(path: &Path, rows: i64) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut connection = Connection::open(path)?;
    let transaction = connection.transaction()?;
    let mut insert = transaction.prepare("INSERT INTO readings VALUES (?1, ?2, ?3)")?;
    for row in (0..rows).map(reading) {
        insert.execute(params![row.id, row.value, row.text])?;
    }
    drop(insert);
    transaction.commit()?;
    drop(connection);
    Ok(begun.elapsed().as_secs_f64())
}

fn sink(path: &Path, rows: i64, keyed: bool) -> Result<f64, Failure> {
    let begun = Instant::now();
    let sink = Sqlite::open(path)
        .table("readings")
        .column("id", |r: &Reading| &r.id)
        .column("value", |r| &r.value)
        .column("text", |r| &r.text);
    let sink = match keyed {
        true => sink.on_conflict(OnConflict::Ignore),
        false => sink,
    };
    let batcher = Batcher::builder().sink(sink)?;
    batcher.add_many((0..rows).map(reading))?;
    let report = batcher.close(Duration::from_secs(600));
    assert!(report.is_clean(), "{report:?}");
    Ok(begun.elapsed().as_secs_f64())
}
