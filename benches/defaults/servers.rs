//! The short program that most users write first, against real servers.

use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Builder, Handler, LoadFeedback};
use mysql::prelude::Queryable;
use mysql::{Conn, TxOpts};
use postgres::NoTls;

use crate::{LONG, batcher};
use testkit::servers::mariadb::Mariadb;
use testkit::servers::postgres::Postgres;

/// How long rows are added. A time and not a number of rows, so that the start is the same share of
/// a run on a fast machine and on a slow one.
const WINDOW: Duration = Duration::from_secs(2);

/// Rows a millisecond through `handler`, from the start of the batcher to the end of its close.
pub(crate) fn rows_per_ms(
    builder: Builder<u64>,
    handler: impl Handler<u64> + Send + 'static,
) -> f64 {
    let begun = Instant::now();
    let batcher = builder.spawn(handler).expect("two threads start");
    let rows = (0..).take_while(|_| begun.elapsed() < WINDOW);
    let added = batcher.add_many(rows).expect("open until its close") as u64;
    let report = batcher.close(LONG);
    assert!(report.is_clean() && report.handled == added, "{report:?}");
    added as f64 / begun.elapsed().as_secs_f64() / 1e3
}

/// One statement for each batch, with arrays.
pub(crate) fn postgres(fixed: Option<usize>, server: &Postgres) -> f64 {
    let mut client = server.config("postgres").connect(NoTls).expect("it runs");
    let table = "DROP TABLE IF EXISTS readings;
         CREATE TABLE readings (id bigint PRIMARY KEY, value float8, text text)";
    client.batch_execute(table).expect("a table");
    let insert =
        "INSERT INTO readings SELECT * FROM unnest($1::bigint[], $2::float8[], $3::text[])";
    rows_per_ms(batcher(fixed), move |batch: &mut Batch<u64>| {
        let ids: Vec<i64> = batch.iter().map(|id| *id as i64).collect();
        let values: Vec<f64> = batch.iter().map(|id| *id as f64 / 4.0).collect();
        let texts = vec!["a reading"; batch.len()];
        client.execute(insert, &[&ids, &values, &texts])?;
        Ok(LoadFeedback::new())
    })
}

/// One transaction for each batch, with statements of up to 1 000 rows.
pub(crate) fn mariadb(fixed: Option<usize>, server: &Mariadb) -> f64 {
    let mut conn = Conn::new(server.opts(Some("mysql"))).expect("it runs");
    for statement in [
        "CREATE DATABASE IF NOT EXISTS defaults",
        "USE defaults",
        "DROP TABLE IF EXISTS readings",
        "CREATE TABLE readings (id bigint PRIMARY KEY, value double, text text)",
    ] {
        conn.query_drop(statement).expect("a table");
    }
    rows_per_ms(batcher(fixed), move |batch: &mut Batch<u64>| {
        let mut transaction = conn.start_transaction(TxOpts::default())?;
        let ids: Vec<u64> = batch.iter().copied().collect();
        for ids in ids.chunks(1_000) {
            let row = |id: &u64| format!("({id}, {}, 'a reading')", *id as f64 / 4.0);
            let rows: Vec<String> = ids.iter().map(row).collect();
            transaction.query_drop(format!("INSERT INTO readings VALUES {}", rows.join(",")))?;
        }
        transaction.commit()?;
        Ok(LoadFeedback::new())
    })
}
