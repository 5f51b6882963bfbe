//! Redis: one pipeline a batch.
//!
//! ```sh
//! cargo run --manifest-path recipes/redis/Cargo.toml -- redis://localhost/
//! ```
//!
//! `SET` of the same key and value twice is harmless, so `idempotent(true)` holds and a batch whose
//! answer was lost is sent again. It does not hold for `INCR` or `LPUSH`.

use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
use redis::{Connection, ErrorKind, RedisError, ServerErrorKind};

/// Nothing may wait forever for a server that is frozen.
const TIMEOUT: Duration = Duration::from_secs(10);

struct Reading {
    id: u64,
    value: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "redis://localhost/".to_owned());
    let client = redis::Client::open(url)?;
    let batcher = Batcher::builder()
        .idempotent(true)
        // Called again for a new connection whenever an error says `handler_broken`.
        .spawn_workers(move |_worker| {
            let mut connection = client.get_connection_with_timeout(TIMEOUT)?;
            connection.set_read_timeout(Some(TIMEOUT))?;
            connection.set_write_timeout(Some(TIMEOUT))?;
            Ok::<_, RedisError>(move |batch: &mut Batch<Reading>| store(&mut connection, batch))
        })?;
    batcher.add_many((0..100_000).map(|id| Reading {
        id,
        value: id as f64 / 4.0,
    }))?;
    let report = batcher.close(Duration::from_secs(60));
    println!("{} stored, {} failed", report.handled, report.failed_total);
    if report.is_clean() {
        Ok(())
    } else {
        Err("not everything is stored".into())
    }
}

fn store(
    connection: &mut Connection,
    batch: &mut Batch<Reading>,
) -> Result<LoadFeedback, BatchError> {
    let mut pipeline = redis::pipe();
    for reading in &*batch {
        pipeline
            .set(format!("reading:{}", reading.id), reading.value)
            .ignore();
    }
    pipeline.query::<()>(connection).map_err(classified)?;
    Ok(LoadFeedback::new())
}

fn classified(error: RedisError) -> BatchError {
    match error.kind() {
        // The commands may have been executed.
        ErrorKind::Io => BatchError::in_doubt(error).handler_broken(),
        // Starting, or no longer the primary: another connection may reach the new one.
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::ReadOnly,
        ) => BatchError::unavailable(error).handler_broken(),
        ErrorKind::Server(ServerErrorKind::TryAgain) => BatchError::transient(error),
        ErrorKind::Server(ServerErrorKind::NoPerm) => BatchError::misconfigured(error),
        // A command was refused, and others of the pipeline were executed: the search for the
        // refused one repeats them.
        _ => BatchError::new(error),
    }
}
