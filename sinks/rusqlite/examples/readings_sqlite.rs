//! Four threads write readings into an SQLite file; run it twice and nothing is stored twice.
//!
//! ```sh
//! cargo run -p load-aware-batcher-rusqlite --example readings_sqlite -- readings.db
//! ```

use std::time::Duration;

use load_aware_batcher_rusqlite::load_aware_batcher::Batcher;
use load_aware_batcher_rusqlite::rusqlite::Connection;
use load_aware_batcher_rusqlite::{OnConflict, Sqlite};

struct Reading {
    sensor: u32,
    second: i64,
    value: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a file")?;
    Connection::open(&path)?.execute_batch(
        "CREATE TABLE IF NOT EXISTS readings
         (sensor INTEGER, second INTEGER, value REAL NOT NULL, PRIMARY KEY (sensor, second)) WITHOUT ROWID",
    )?;
    let batcher = Batcher::builder().sink(
        Sqlite::open(&path)
            .wal(true)
            .table("readings")
            .column("sensor", |r: &Reading| &r.sensor)
            .column("second", |r| &r.second)
            .column("value", |r| &r.value)
            .on_conflict(OnConflict::Ignore),
    )?;
    std::thread::scope(|scope| {
        for sensor in 0..4 {
            let producer = batcher.producer();
            let readings = (0..25_000).map(move |second| Reading {
                sensor,
                second,
                value: f64::from(sensor) + (second as f64 / 600.0).sin(),
            });
            scope.spawn(move || producer.add_many(readings).is_ok());
        }
    });
    let stats = batcher.stats();
    let report = batcher.close(Duration::from_secs(30));
    for failed in &report.failed {
        eprintln!("not stored: {}", failed.error);
    }
    println!("{} rows in {} batches or more", report.handled, stats.calls);
    if report.is_clean() {
        Ok(())
    } else {
        Err("not everything is stored".into())
    }
}
