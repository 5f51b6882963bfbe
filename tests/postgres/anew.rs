//! Short handlers with plain `?` that capture their connection. The factory of `spawn_workers`
//! replaces them, and no row fails.

use load_aware_batcher::{BuildError, Worker};

use super::*;

/// How many rows are added around the restart: `RESTART_ROWS`, or 20 000.
fn restart_rows() -> i64 {
    std::env::var("RESTART_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(20_000)
}

/// The handler as most users write it. The only setting is one that its author must decide: rows
/// may be sent again.
fn spawn_short(config: Config, made: mpsc::Sender<Worker>) -> Result<Batcher<Row>, BuildError> {
    Batcher::builder().idempotent(true).spawn_workers(move |worker| {
        let _ = made.send(worker);
        let mut client = config.connect(NoTls)?;
        Ok::<_, postgres::Error>(move |batch: &mut Batch<Row>| {
            let ids: Vec<i64> = batch.iter().map(|row| row.id).collect();
            let values: Vec<f64> = batch.iter().map(|row| row.value).collect();
            let insert = "INSERT INTO readings SELECT id, value, '' FROM unnest($1::bigint[], $2::double precision[])
                AS new (id, value) ON CONFLICT DO NOTHING";
            client.execute(insert, &[&ids, &values])?;
            Ok(LoadFeedback::new())
        })
    })
}

/// A restart that takes this long, in the middle of the rows.
fn restart(away: Duration) {
    let Some(mut server) = Postgres::own(&[]) else {
        return;
    };
    let (config, client, _) = prepared(&server, "restart", Dedup::Key, 1);
    drop(client);
    let rows = restart_rows();
    let (made, handlers) = mpsc::channel();
    let batcher = spawn_short(config.clone(), made).unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        let (killed, is_killed) = mpsc::channel::<()>();
        let producer = batcher.producer();
        scope.spawn(move || {
            // The last tenth is added after the kill, so that the restart interrupts something even
            // on a fast server.
            producer
                .add_many((0..rows - rows / 10).map(Row::of))
                .unwrap();
            let _ = is_killed.recv();
            let _ = producer.add_many((rows - rows / 10..rows).map(Row::of));
        });
        until(|| batcher.stats().handled >= rows as u64 / 4);
        server.kill();
        drop(killed);
        until(|| batcher.stats().retrying.is_some());
        // This sleep is the length of the outage.
        std::thread::sleep(away);
        server.start();
    });
    let report = batcher.close(LONG);
    assert!(
        report.is_clean() && report.handled == rows as u64,
        "{} failed of {rows}",
        report.failed_total
    );
    assert_eq!(
        counts(&mut config.connect(NoTls).unwrap()),
        (rows, rows),
        "each once"
    );
    assert!(handlers.iter().count() >= 2, "the connection was made anew");
}

#[test]
fn a_restart_of_a_second_and_a_half_fails_no_row_with_nothing_set() {
    restart(Duration::from_millis(1_500));
}

#[test]
fn a_restart_of_eight_seconds_fails_no_row_with_nothing_set() {
    restart(Duration::from_secs(8));
}

#[test]
fn a_captured_connection_that_the_server_ends_is_made_anew() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, _) = prepared(server, "captured", Dedup::Key, 1);
    let (made, handlers) = mpsc::channel();
    let batcher = spawn_short(config, made).unwrap();
    batcher.add(Row::of(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = 'captured' AND pid <> pg_backend_pid()";
    assert_eq!(client.query_one(end, &[]).unwrap().get::<_, i64>(0), 1);
    batcher.add_many((1..1_000).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(counts(&mut client), (1_000, 1_000));
    assert!(
        handlers.iter().any(|worker| worker.times() > 0),
        "made again"
    );
}

/// Scenario 54. The table has no key, so that a row stored twice would be seen.
#[test]
fn a_panic_between_begin_and_commit_leaves_nothing_behind() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, _) = prepared(server, "begin_panic", Dedup::None, 1);
    let panics = Arc::new(AtomicBool::new(true));
    let batcher = Batcher::builder()
        .linger(LONG)
        .spawn_workers(move |_| {
            let mut client = config.connect(NoTls)?;
            let panics = Arc::clone(&panics);
            Ok::<_, postgres::Error>(move |batch: &mut Batch<Row>| {
                client.batch_execute("BEGIN")?;
                for (index, row) in batch.iter().enumerate() {
                    assert!(
                        index < 5 || !panics.swap(false, Ordering::SeqCst),
                        "row 5 of the first call"
                    );
                    client.execute(
                        "INSERT INTO readings VALUES ($1, $2, $3)",
                        &[&row.id, &row.value, &row.text],
                    )?;
                }
                client.batch_execute("COMMIT")?;
                Ok(LoadFeedback::new())
            })
        })
        .unwrap();
    batcher.add_many((0..10).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(counts(&mut client), (10, 10));
    assert_eq!(batcher.stats().handler_panics, 1);
    assert!(batcher.close(LONG).is_clean());
}
