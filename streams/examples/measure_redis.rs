//! Rows a second from a Redis stream into PostgreSQL: the consumer beside a loop written by hand.
//!
//! ```sh
//! cargo run --release -p load-aware-batcher-streams --features redis --example measure_redis -- 200000 3
//! ```
//!
//! Servers of its own are started in temporary folders. Each round drains the same stream with a new
//! group into an empty table: by a loop that reads 500 entries, writes them in one statement, and
//! acknowledges them; and by the consumer with nothing tuned. They take turns to begin. The figures
//! are medians, the ratio is the median of the rounds' ratios.

use std::time::{Duration, Instant};

use load_aware_batcher_postgres::load_aware_batcher::Batcher;
use load_aware_batcher_postgres::postgres::{Client, Config};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use load_aware_batcher_streams::redis::streams::{StreamReadOptions, StreamReadReply};
use load_aware_batcher_streams::redis::{Client as Redis, Commands, pipe};
use load_aware_batcher_streams::{Consumer, Delivery, EntryId, Options, RedisSource};
use testkit::servers::postgres::Postgres as Database;
use testkit::servers::redis::Redis as Broker;

type Failure = Box<dyn std::error::Error>;

const INSERT: &str = "INSERT INTO rows SELECT * FROM unnest($1::bigint[], $2::text[]) \
     ON CONFLICT DO NOTHING";

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

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rows: i64 = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let (Some(broker), Some(database)) = (Broker::own(&[]), Database::own(&[])) else {
        return Ok(());
    };
    let (config, mut client) = database.database("measure");
    client.batch_execute("CREATE TABLE rows (id bigint PRIMARY KEY, value text)")?;
    let mut redis = Redis::open(broker.url())?.get_connection()?;
    for start in (0..rows).step_by(1_000) {
        let mut commands = pipe();
        for id in start..rows.min(start + 1_000) {
            let command = commands.cmd("XADD").arg("in").arg("*").arg("id").arg(id);
            command
                .arg("value")
                .arg(format!("row number {id}"))
                .ignore();
        }
        commands.query::<()>(&mut redis)?;
    }
    let mut rates = [const { Vec::new() }; 2];
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let mut seconds = [0.0; 2];
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let group = format!("g{round}-{which}");
            redis.xgroup_create::<_, _, _, ()>("in", &group, "0")?;
            client.batch_execute("TRUNCATE rows; CHECKPOINT")?;
            let begun = Instant::now();
            match which {
                0 => by_hand(&broker.url(), &group, &mut client)?,
                _ => consume(&broker.url(), &group, config.clone(), rows as u64)?,
            }
            seconds[which] = begun.elapsed().as_secs_f64();
            rates[which].push(rows as f64 / seconds[which]);
            let stored: i64 = client.query_one("SELECT count(*) FROM rows", &[])?.get(0);
            assert_eq!(stored, rows, "every entry is one row");
            redis.xgroup_destroy::<_, _, ()>("in", &group)?;
        }
        ratios.push(seconds[0] / seconds[1]);
    }
    println!(
        "rows a second: by hand {:.0}, consumer {:.0}, ratio {:.2}",
        median(&mut rates[0]),
        median(&mut rates[1]),
        median(&mut ratios)
    );
    Ok(())
}

fn by_hand(url: &str, group: &str, client: &mut Client) -> Result<(), Failure> {
    let mut redis = Redis::open(url)?.get_connection()?;
    let options = StreamReadOptions::default().group(group, "c").count(500);
    let insert = client.prepare(INSERT)?;
    loop {
        let read: Option<StreamReadReply> = redis.xread_options(&["in"], &[">"], &options)?;
        let entries = read
            .and_then(|mut read| read.keys.pop())
            .map_or(Vec::new(), |key| key.ids);
        if entries.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = entries.iter().filter_map(|entry| entry.get("id")).collect();
        let values: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.get("value"))
            .collect();
        client.execute(&insert, &[&ids, &values])?;
        let acknowledged: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        redis.xack::<_, _, _, ()>("in", group, &acknowledged)?;
    }
}

fn consume(url: &str, group: &str, config: Config, rows: u64) -> Result<(), Failure> {
    let sink = Postgres::new(config)
        .table("rows")
        .column("id", |row: &Row| &row.id)
        .column("value", |row| &row.value)
        .on_conflict(OnConflict::Ignore);
    let batcher = Batcher::builder().queue_capacity(4_000).sink(sink)?;
    let source = RedisSource::new(url, "in", group, "c");
    let consumer = Consumer::start(source, batcher, Options::new(), decode)?;
    while consumer.snapshot().acknowledged < rows && !consumer.is_ended() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = consumer.stop(Duration::from_secs(10));
    match report.is_clean {
        true => Ok(()),
        false => Err(format!("{report:?}").into()),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
