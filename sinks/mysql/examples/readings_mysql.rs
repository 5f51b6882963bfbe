//! Four threads write readings into a MariaDB or MySQL table; run it twice and nothing is stored twice.
//!
//! ```sh
//! cargo run -p load-aware-batcher-mysql --example readings_mysql -- mysql://me:secret@localhost/shop
//! ```

use std::time::Duration;

use load_aware_batcher_mysql::load_aware_batcher::Batcher;
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, Opts};
use load_aware_batcher_mysql::{Mysql, OnConflict};

struct Reading {
    sensor: u32,
    second: i64,
    value: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name a URL")?;
    Conn::new(Opts::from_url(&url)?)?.query_drop(
        "CREATE TABLE IF NOT EXISTS readings
         (sensor INT, second BIGINT, value DOUBLE NOT NULL, PRIMARY KEY (sensor, second))",
    )?;
    let batcher = Batcher::builder().sink(
        Mysql::from_url(&url)
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
