//! Moves a Redis stream into a PostgreSQL table: each entry's field `id` and `value` as a row.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-streams --features redis --example stream_ingest -- \
//!   --source redis://127.0.0.1/ --stream in --group g --into postgres://me@localhost/shop --table rows
//! ```
//!
//! The table has a key: `CREATE TABLE rows (id bigint PRIMARY KEY, value text)`. The key is the
//! producer's, so an entry that is in the stream twice is one row. Ctrl-C and SIGTERM end it in
//! order: what is read is stored and acknowledged.

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use load_aware_batcher_postgres::load_aware_batcher::Batcher;
use load_aware_batcher_postgres::{OnConflict, Postgres};
use load_aware_batcher_streams::{Consumer, Delivery, EntryId, Options, RedisSource};

const USAGE: &str = "stream_ingest --source URL --stream NAME --group NAME --into URL --table NAME
  --source URL    redis://user:password@host:port/ or redis+unix:///path
  --stream NAME   the stream, which exists
  --group NAME    the consumer group; created at the oldest entry if it does not exist
  --name NAME     this consumer's name; default: the process id. No two at a time may share it
  --into URL      postgres://user:password@host/database
  --table NAME    a table with the columns id bigint (a key) and value text
  --trim          remove what every group has acknowledged
  --until-empty   end when the stream is drained";

struct Row {
    id: i64,
    value: String,
}

fn decode(delivery: &Delivery<EntryId>) -> Result<Row, String> {
    Ok(Row {
        id: delivery.parse("id")?,
        value: delivery.parse("value")?,
    })
}

#[derive(Default)]
struct Arguments {
    source: String,
    stream: String,
    group: String,
    into: String,
    table: String,
    name: Option<String>,
    trim: bool,
    until_empty: bool,
}

fn arguments() -> Result<Option<Arguments>, String> {
    use lexopt::prelude::*;
    let mut given = Arguments::default();
    let mut parser = lexopt::Parser::from_env();
    let text = |parser: &mut lexopt::Parser| {
        let value = parser.value().map_err(|error| error.to_string())?;
        value.string().map_err(|error| error.to_string())
    };
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Long("source") => given.source = text(&mut parser)?,
            Long("stream") => given.stream = text(&mut parser)?,
            Long("group") => given.group = text(&mut parser)?,
            Long("into") => given.into = text(&mut parser)?,
            Long("table") => given.table = text(&mut parser)?,
            Long("name") => given.name = Some(text(&mut parser)?),
            Long("trim") => given.trim = true,
            Long("until-empty") => given.until_empty = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let needed = [
        ("--source", &given.source),
        ("--stream", &given.stream),
        ("--group", &given.group),
        ("--into", &given.into),
        ("--table", &given.table),
    ];
    match needed.iter().find(|(_, value)| value.is_empty()) {
        Some((name, _)) => Err(format!("{name} is missing; --help lists the options")),
        None => Ok(Some(given)),
    }
}

fn start(given: &Arguments) -> Result<Consumer, String> {
    let sink = Postgres::from_url(given.into.as_str())
        .table(given.table.as_str())
        .column("id", |row: &Row| &row.id)
        .column("value", |row| &row.value)
        .on_conflict(OnConflict::Ignore);
    let batcher = Batcher::builder().queue_capacity(4_000).sink(sink);
    let batcher = batcher.map_err(|error| error.to_string())?;
    let name = given.name.clone();
    let name = name.unwrap_or_else(|| format!("pid-{}", std::process::id()));
    let mut source = RedisSource::new(&given.source, &given.stream, &given.group, name);
    source = source.create_group();
    if given.trim {
        source = source.trim_every(Duration::from_secs(1));
    }
    let consumer = Consumer::start(source, batcher, Options::new(), decode);
    consumer.map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let given = match arguments() {
        Ok(Some(given)) => given,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error),
    };
    let (end, ended) = mpsc::channel();
    if let Err(error) = ctrlc::set_handler(move || end.send(()).unwrap_or(())) {
        return refuse(&error.to_string());
    }
    let consumer = match start(&given) {
        Ok(consumer) => consumer,
        Err(error) => return refuse(&error),
    };
    let begun = Instant::now();
    let mut before = 0;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
        let books = consumer.snapshot();
        let rate = books.acknowledged - before;
        before = books.acknowledged;
        let waiting = books
            .waiting_for
            .map_or(String::new(), |why| format!(", waiting: {why}"));
        eprintln!(
            "{before} stored, {rate} a second, {} in hand, {} buried{waiting}",
            books.in_hand, books.buried
        );
        let idle = rate == 0 && books.in_hand == 0 && waiting.is_empty();
        if consumer.is_ended() || given.until_empty && idle {
            break;
        }
    }
    let report = consumer.stop(Duration::from_secs(30));
    let books = &report.books;
    println!(
        "read {}, stored {}, buried {}, left {} in {:.1} s",
        books.read,
        books.acknowledged,
        books.buried,
        books.left,
        begun.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(!report.is_clean))
}

/// One line, and the exit code of a start that was refused.
fn refuse(error: &str) -> ExitCode {
    eprintln!("stream_ingest: {error}");
    ExitCode::from(2)
}
