//! Fills a Redis stream with keyed rows, for `stream_ingest`.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-streams --features redis --example stream_produce -- \
//!   redis://127.0.0.1/ in 1000000
//! ```
//!
//! An add whose answer is lost is repeated, and may then be in the stream twice with two ids. The
//! row's key is the producer's own number, so it is one row in the table.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use load_aware_batcher_streams::redis::{Client, Connection, RedisError, pipe};

/// Entries in one exchange.
const PIPELINE: u64 = 1_000;
/// How long an absent server is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, stream, count] = &arguments[..] else {
        return refuse("usage: stream_produce URL STREAM COUNT");
    };
    let Ok(count) = count.parse() else {
        return refuse("COUNT is no number");
    };
    match produce(url, stream, count) {
        Ok(repeated) => {
            println!("{count} rows added, {repeated} exchanges repeated");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error.to_string()),
    }
}

/// Returns how many exchanges were repeated.
fn produce(url: &str, stream: &str, count: u64) -> Result<u64, RedisError> {
    let client = Client::open(url)?;
    // A wrong address or login is an error; a server that goes away later is not.
    let mut connection = Some(client.get_connection()?);
    let (mut next, mut repeated, mut answered) = (0, 0, Instant::now());
    while next < count {
        let end = count.min(next + PIPELINE);
        let added = match connection.take() {
            Some(open) => Ok(open),
            None => client.get_connection(),
        };
        let added = added.and_then(|mut open| {
            add(&mut open, stream, next..end)?;
            connection = Some(open);
            Ok(())
        });
        match added {
            Ok(()) => (next, answered) = (end, Instant::now()),
            Err(error) if error.code().is_some() || answered.elapsed() > PATIENCE => {
                return Err(error);
            }
            Err(_) => {
                repeated += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(repeated)
}

fn add(
    connection: &mut Connection,
    stream: &str,
    rows: std::ops::Range<u64>,
) -> Result<(), RedisError> {
    let mut commands = pipe();
    for id in rows {
        let command = commands.cmd("XADD").arg(stream).arg("*").arg("id").arg(id);
        command
            .arg("value")
            .arg(format!("row number {id}"))
            .ignore();
    }
    commands.query(connection)
}

fn refuse(error: &str) -> ExitCode {
    eprintln!("stream_produce: {error}");
    ExitCode::from(2)
}
