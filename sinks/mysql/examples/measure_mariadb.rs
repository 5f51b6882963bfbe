//! Rows a second into MariaDB: the sink beside the server's own bulk load.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-mysql --example measure_mariadb -- 300000 3
//! ```
//!
//! A server of its own is started in a temporary folder. Each round writes the same rows into a new
//! table: by `LOAD DATA LOCAL` of a CSV file through the `mariadb` client, and by the sink with
//! nothing tuned. The table is with a key or without. The figures are medians: the time, and the
//! server's own CPU time, which other work on the machine disturbs less.

use std::fs::{self, File};
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
        let mut server_cpu = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            create(&mut conn, keyed)?;
            let before = cpu(&server);
            seconds[0].push(load_data(&server.socket(), &csv)?);
            server_cpu[0].push(cpu(&server) - before);
            create(&mut conn, keyed)?;
            let before = cpu(&server);
            seconds[1].push(sink(&opts, rows, keyed)?);
            server_cpu[1].push(cpu(&server) - before);
            let stored: Option<i64> = conn.query_first("SELECT count(*) FROM readings")?;
            assert_eq!(stored, Some(rows));
        }
        let kind = if keyed { "with a key" } else { "without a key" };
        for (place, name) in ["LOAD DATA", "sink"].into_iter().enumerate() {
            let (seconds, cpu) = (median(&mut seconds[place]), median(&mut server_cpu[place]));
            let speed = rows as f64 / seconds;
            println!(
                "{kind}: {name:>9} {seconds:.3} s, {speed:.0} rows/s, server's CPU {cpu:.2} s"
            );
        }
    }
    Ok(())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The server's CPU time so far, in seconds; NaN where the system has no such file.
fn cpu(server: &Mariadb) -> f64 {
    let read = || {
        let pid = fs::read_to_string(server.socket().with_file_name("pid")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse().ok()?;
        let system: f64 = fields.get(12)?.parse().ok()?;
        Some((ticks + system) / 100.0)
    };
    read().unwrap_or(f64::NAN)
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
