//! Servers that die, freeze, run out of disk, or whose answers are lost.

use super::*;

fn through(proxy: &Proxy, name: &str) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(proxy.port())
        .user("postgres")
        .dbname(name);
    config
}

/// Every fourth commit is lost, by turns after and before the server hears of it.
fn every_fourth(number: u64) -> Fate {
    match number % 8 {
        3 => Fate::LoseAnswer,
        7 => Fate::LoseRequest,
        _ => Fate::Pass,
    }
}

#[test]
fn rows_with_a_key_are_stored_exactly_once_though_answers_are_lost() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    for (name, once) in [
        ("answers_key", Once::Key),
        ("answers_batch", Once::BatchTable),
    ] {
        let (_, mut client, builder) = prepared(server, name, once, 100);
        let proxy = Proxy::start(&server.socket(), every_fourth);
        let batcher = builder.spawn(writer(&through(&proxy, name), once)).unwrap();
        batcher.add_many((0..5_000).map(row)).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        drop(batcher);
        assert_eq!(counts(&mut client), (5_000, 5_000));
        assert!(proxy.counts().1 >= 10, "{:?}", proxy.counts());
    }
}

#[test]
fn rows_without_a_key_are_never_doubled_and_those_in_doubt_are_all_told_of() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (_, mut client, builder) = prepared(server, "answers_never", Once::Never, 100);
    let proxy = Proxy::start(&server.socket(), every_fourth);
    let batcher = builder
        .spawn(writer(&through(&proxy, "answers_never"), Once::Never))
        .unwrap();
    batcher.add_many((0..5_000).map(row)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let report = batcher.close(LONG);
    let (rows, different) = counts(&mut client);
    assert_eq!(rows, different, "none doubled");
    let in_doubt: Vec<i64> = report.failed.iter().map(|failed| failed.item.id).collect();
    assert!(report.failed.iter().all(|failed| failed.in_doubt));
    assert_eq!(report.handled + in_doubt.len() as u64, 5_000);
    let stored = client
        .query_one(
            "SELECT count(*) FROM readings WHERE id = ANY($1)",
            &[&in_doubt],
        )
        .unwrap();
    let stored: i64 = stored.get(0);
    assert_eq!(
        rows - stored,
        report.handled as i64,
        "what was called handled is there"
    );
    assert!(
        stored > 0 && stored < in_doubt.len() as i64,
        "both kinds of doubt: {stored} of {}",
        in_doubt.len()
    );
}

fn kills(once: Once) {
    let Some(mut server) = Postgres::own(&[]) else {
        return;
    };
    let (config, client, builder) = prepared(&server, "kills", once, 200);
    drop(client);
    let batcher = builder.spawn(writer(&config, once)).unwrap();
    let rows = survive_kills(
        &batcher,
        || {
            server.kill();
            server.start();
        },
        |id| {
            let mut client = config.connect(NoTls).unwrap();
            client
                .query_one("SELECT count(*) FROM readings WHERE id <= $1", &[&id])
                .unwrap()
                .get(0)
        },
    );
    let report = batcher.close(LONG);
    assert!(
        report.is_clean() && report.handled == rows as u64,
        "{report:?}"
    );
    assert_eq!(
        counts(&mut config.connect(NoTls).unwrap()),
        (rows, rows),
        "none lost, none doubled"
    );
    eprintln!("{rows} rows over all kills: none lost, none doubled");
}

#[test]
fn a_server_killed_fifty_times_loses_and_doubles_no_row_with_a_key() {
    kills(Once::Key);
}

#[test]
fn a_server_killed_fifty_times_loses_and_doubles_no_row_with_a_table_of_batches() {
    kills(Once::BatchTable);
}

#[test]
fn deadlines_hold_while_the_server_is_frozen_and_every_row_arrives_after() {
    let Some(server) = Postgres::own(&[]) else {
        return;
    };
    let (config, mut client, builder) = prepared(&server, "frozen", Once::Key, 10);
    let batcher = builder
        .queue_capacity(1_000)
        .spawn(writer(&config, Once::Key))
        .unwrap();
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let calls = batcher.stats().calls;
    server.freeze();
    // Its call is under way: nothing more leaves the queue.
    batcher.add(row(1)).unwrap();
    batcher.request_flush();
    wait_for(&batcher, |stats| stats.calls > calls);
    let added = std::thread::scope(|scope| {
        let (returned, all_returned) = mpsc::channel::<()>();
        // In any case: a call that does not return would wait for it for ever.
        let server = &server;
        let frozen = scope.spawn(move || {
            let in_time =
                all_returned.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Disconnected);
            server.thaw();
            in_time
        });
        let mut added = 2;
        let refused = loop {
            match batcher.add_timeout(row(added), Duration::from_millis(50)) {
                Ok(()) => added += 1,
                Err(refused) => break refused,
            }
            assert!(!frozen.is_finished(), "an add waited for the server");
        };
        assert!(matches!(refused, AddError::Timeout(Row { id, .. }) if id == added));
        assert_eq!(
            batcher.flush(Duration::from_millis(50)),
            Err(FlushError::Timeout)
        );
        assert!(batcher.try_add(row(added)).unwrap_err().is_full());
        drop(returned);
        assert!(
            frozen.join().unwrap(),
            "all of it returned while the server was frozen"
        );
        added
    });
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(counts(&mut client), (added, added));
}

#[test]
fn a_close_returns_at_its_deadline_from_a_frozen_server_and_says_what_is_in_doubt() {
    let Some(server) = Postgres::own(&[]) else {
        return;
    };
    let (config, mut client, builder) = prepared(&server, "frozen", Once::Key, 10);
    let batcher = builder.spawn(writer(&config, Once::Key)).unwrap();
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let calls = batcher.stats().calls;
    server.freeze();
    let lent = batcher.submit(row(1)).unwrap();
    batcher.request_flush();
    wait_for(&batcher, |stats| stats.calls > calls);
    batcher.add_many((2..50).map(row)).unwrap();
    let report = std::thread::scope(|scope| {
        let (closed, in_time) = mpsc::channel::<()>();
        // A close that waits for the server is to fail and not to hang.
        let server = &server;
        scope.spawn(move || {
            if in_time.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
                server.thaw();
            }
        });
        let report = batcher.shutdown(Duration::from_millis(200));
        drop(closed);
        report
    });
    assert_eq!(
        (report.abandoned, report.unsent.len(), report.handled),
        (1, 48, 1),
        "{report:?}"
    );
    assert_eq!(lent.wait(), Outcome::InDoubt);
    server.thaw();
    // The handler that was left behind comes back and is counted.
    wait_for(&batcher, |stats| stats.abandoned == 0);
    assert_eq!(counts(&mut client), (2, 2));
}

#[test]
fn a_full_disk_is_transient_and_every_row_arrives_once_there_is_space() {
    let Some(server) = Postgres::own(&[]) else {
        return;
    };
    let Some(disk) = small_disk("8m") else { return };
    server.own_folder(disk.folder());
    let (config, mut client) = server.database("small_disk");
    client
        .batch_execute(&format!(
            "CREATE TABLESPACE small LOCATION '{}'",
            disk.folder().display()
        ))
        .unwrap();
    client
        .batch_execute(
            "CREATE TABLE readings (id bigint PRIMARY KEY USING INDEX TABLESPACE pg_default,
            value double precision NOT NULL, text text NOT NULL) TABLESPACE small",
        )
        .unwrap();
    let filler = disk.fill(6 << 20);
    let (tell, codes) = mpsc::channel();
    let mut handler = writer(&config, Once::Key);
    let batcher = builder(Once::Key, 1_000)
        .spawn(move |batch: &mut Batch<Row>| {
            let result = handler.handle(batch);
            if let Err(error) = &result {
                tell.send((code_of(error), error.class()))?;
            }
            result
        })
        .unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        scope.spawn(|| batcher.add_many((0..40_000).map(row)).is_ok());
        let expected = (Some("53100".to_owned()), ErrorClass::Transient);
        assert_eq!(codes.recv_timeout(LONG).unwrap(), expected);
        wait_for(&batcher, |stats| tried_again(stats) >= 2);
        std::fs::remove_file(&filler).unwrap();
    });
    assert_eq!(batcher.flush(LONG), Ok(()));
    drop(batcher);
    assert_eq!(counts(&mut client), (40_000, 40_000));
    drop(server);
}
