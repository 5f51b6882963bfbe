//! Rows a second into PostgreSQL: the sink beside the server's own bulk load.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-postgres --example measure -- 300000 3
//! ```
//!
//! A server of its own is started in a temporary folder. Each round writes the same rows into a new
//! table: by `\copy` of a CSV file through the `psql` client, and by the sink from memory with
//! nothing tuned. The table is with a key or without. The figures are medians.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use load_aware_batcher_postgres::load_aware_batcher::Batcher;
use load_aware_batcher_postgres::postgres::{Client, Config};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

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
    let Some(server) = Server::own(&[]) else {
        return Ok(());
    };
    let (config, mut client) = server.database("measure");
    let socket = server.socket();
    let socket = socket.parent().ok_or("a socket is in a folder")?;
    for keyed in [true, false] {
        let mut seconds = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            create(&mut client, keyed)?;
            seconds[0].push(copy(socket, &csv)?);
            create(&mut client, keyed)?;
            seconds[1].push(sink(&config, rows, keyed)?);
            let stored: i64 = client
                .query_one("SELECT count(*) FROM readings", &[])?
                .get(0);
            assert_eq!(stored, rows);
        }
        let kind = if keyed { "with a key" } else { "without a key" };
        let mut medians = seconds.iter_mut().map(|seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        });
        let (Some(copy), Some(sink)) = (medians.next(), medians.next()) else {
            unreachable!("two ways");
        };
        for (name, median) in [("\\copy", copy), ("sink", sink)] {
            let speed = rows as f64 / median;
            println!("{kind}: {name:>6} {median:.3} s, {speed:.0} rows/s");
        }
        println!("{kind}: {:.2} of the speed of \\copy", copy / sink);
    }
    Ok(())
}

/// Without what the round before has left to do.
fn create(client: &mut Client, keyed: bool) -> Result<(), Failure> {
    let key = if keyed { " PRIMARY KEY" } else { "" };
    client.batch_execute(&format!(
        "DROP TABLE IF EXISTS readings;
         CREATE TABLE readings (id bigint NOT NULL{key}, value double precision NOT NULL, text text NOT NULL)"
    ))?;
    client.batch_execute("CHECKPOINT")?;
    Ok(())
}

fn copy(socket: &Path, csv: &Path) -> Result<f64, Failure> {
    let begun = Instant::now();
    let status = Command::new("psql")
        .arg("-h")
        .arg(socket)
        .args(["-q", "-U", "postgres", "-d", "measure", "-c"])
        .arg(format!("\\copy readings from '{}' csv", csv.display()))
        .status()?;
    assert!(status.success());
    Ok(begun.elapsed().as_secs_f64())
}

fn sink(config: &Config, rows: i64, keyed: bool) -> Result<f64, Failure> {
    let readings: Vec<Reading> = (0..rows).map(reading).collect();
    let begun = Instant::now();
    let sink = Postgres::new(config.clone())
        .table("readings")
        .column("id", |r: &Reading| &r.id)
        .column("value", |r| &r.value)
        .column("text", |r| &r.text);
    let sink = match keyed {
        true => sink.on_conflict(OnConflict::Ignore),
        false => sink,
    };
    let batcher = Batcher::builder().sink(sink)?;
    batcher.add_many(readings)?;
    let report = batcher.close(Duration::from_secs(600));
    assert!(report.is_clean(), "{report:?}");
    Ok(begun.elapsed().as_secs_f64())
}
