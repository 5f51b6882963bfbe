//! Rows a second into MariaDB: the sink beside the server's own bulk load.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-mysql --example measure -- 300000 3
//! ```
//!
//! A server of its own is started in a temporary folder. Each round writes the same rows into a new
//! table: by `LOAD DATA LOCAL` of a CSV file through the `mariadb` client, and by the sink with
//! nothing tuned. The table is with a key or without. The figures are medians.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use load_aware_batcher_mysql::load_aware_batcher::Batcher;
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, Opts};
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::servers::mariadb::Mariadb;

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
    let Some(server) = Mariadb::own(&["--local-infile=1"]) else {
        return Ok(());
    };
    let (opts, mut conn) = server.database("measure");
    for keyed in [true, false] {
        let mut seconds = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            create(&mut conn, keyed)?;
            seconds[0].push(load_data(&server.socket(), &csv)?);
            create(&mut conn, keyed)?;
            seconds[1].push(sink(&opts, rows, keyed)?);
            let stored: Option<i64> = conn.query_first("SELECT count(*) FROM readings")?;
            assert_eq!(stored, Some(rows));
        }
        let kind = if keyed { "with a key" } else { "without a key" };
        for (name, seconds) in ["LOAD DATA", "sink"].iter().zip(&mut seconds) {
            seconds.sort_by(f64::total_cmp);
            let median = seconds[seconds.len() / 2];
            println!(
                "{kind}: {name:>9} {median:.3} s, {:.0} rows/s",
                rows as f64 / median
            );
        }
    }
    Ok(())
}

fn create(conn: &mut Conn, keyed: bool) -> Result<(), Failure> {
    let key = if keyed { " PRIMARY KEY" } else { "" };
    conn.query_drop("DROP TABLE IF EXISTS readings")?;
    conn.query_drop(format!(
        "CREATE TABLE readings (id BIGINT NOT NULL{key}, value DOUBLE NOT NULL, text TEXT NOT NULL)
         ENGINE = InnoDB DEFAULT CHARSET = utf8mb4"
    ))?;
    Ok(())
}

fn load_data(socket: &Path, csv: &Path) -> Result<f64, Failure> {
    let load = format!(
        "LOAD DATA LOCAL INFILE '{}' INTO TABLE readings FIELDS TERMINATED BY ','",
        csv.display()
    );
    let begun = Instant::now();
    let status = Command::new("mariadb")
        .args(["--no-defaults", "--local-infile=1", "--user=root"])
        .arg(format!("--socket={}", socket.display()))
        .args(["measure", "--execute", &load])
        .status()?;
    assert!(status.success());
    Ok(begun.elapsed().as_secs_f64())
}

fn sink(opts: &Opts, rows: i64, keyed: bool) -> Result<f64, Failure> {
    let begun = Instant::now();
    let sink = Mysql::new(opts.clone())
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
