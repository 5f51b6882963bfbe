//! Servers that die, freeze, run out of disk, or whose answers are lost.

use super::*;

fn through(proxy: &Proxy, name: &str) -> Opts {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(proxy.port())
        .user(Some("root"))
        .db_name(Some(name))
        // The driver would go round the proxy.
        .prefer_socket(false)
        .into()
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
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for (name, once) in [
        ("answers_key", Once::Key),
        ("answers_batch", Once::BatchTable),
    ] {
        let (_, mut conn, builder) = prepared(server, name, once, 100);
        let proxy = Proxy::start(&server.socket(), every_fourth);
        let batcher = builder.spawn(writer(&through(&proxy, name), once)).unwrap();
        batcher.add_many((0..5_000).map(row)).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        drop(batcher);
        assert_eq!(counts(&mut conn), (5_000, 5_000));
        assert!(proxy.counts().1 >= 10, "{:?}", proxy.counts());
    }
}

#[test]
fn rows_without_a_key_are_never_doubled_and_those_in_doubt_are_all_told_of() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (_, mut conn, builder) = prepared(server, "answers_never", Once::Never, 100);
    let proxy = Proxy::start(&server.socket(), every_fourth);
    let batcher = builder
        .spawn(writer(&through(&proxy, "answers_never"), Once::Never))
        .unwrap();
    batcher.add_many((0..5_000).map(row)).unwrap();
    assert!(batcher.flush(LONG).is_err());
    let report = batcher.close(LONG);
    let (rows, different) = counts(&mut conn);
    assert_eq!(rows, different, "none doubled");
    let in_doubt: Vec<i64> = report.failed.iter().map(|failed| failed.item.id).collect();
    assert!(report.failed.iter().all(|failed| failed.in_doubt));
    assert_eq!(report.handled + in_doubt.len() as u64, 5_000);
    let list = in_doubt
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let stored: i64 = conn
        .query_first(format!(
            "SELECT count(*) FROM readings WHERE id IN ({list})"
        ))
        .unwrap()
        .unwrap();
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
    let Some(mut server) = Mariadb::own(&[]) else {
        return;
    };
    let (opts, conn, builder) = prepared(&server, "kills", once, 200);
    drop(conn);
    let batcher = builder.spawn(writer(&opts, once)).unwrap();
    let rows = survive_kills(
        &batcher,
        || {
            server.kill();
            server.start();
        },
        |id| {
            let mut conn = Conn::new(opts.clone()).unwrap();
            conn.query_first(format!("SELECT count(*) FROM readings WHERE id <= {id}"))
                .unwrap()
                .unwrap()
        },
    );
    let report = batcher.close(LONG);
    assert_eq!((report.handled, report.failed.len()), (rows as u64, 0));
    assert_eq!(
        counts(&mut Conn::new(opts).unwrap()),
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
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let (opts, mut conn, builder) = prepared(&server, "frozen", Once::Key, 10);
    // The driver gives up on an answer before the server is back, so what was under way is in doubt
    // and sent again.
    let writer = MariadbWriter::new(opts, "readings", Once::Key, &[], Duration::from_secs(1));
    let batcher = builder.queue_capacity(1_000).spawn(writer).unwrap();
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let (calls, retries) = (batcher.stats().calls, batcher.stats().retries);
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
        // The driver has given up on the answer.
        wait_for(&batcher, |stats| stats.retries > retries);
        drop(returned);
        assert!(
            frozen.join().unwrap(),
            "all of it returned while the server was frozen"
        );
        added
    });
    assert_eq!(batcher.flush(LONG), Ok(()));
    drop(batcher);
    assert_eq!(counts(&mut conn), (added, added));
}

#[test]
fn a_close_returns_at_its_deadline_from_a_frozen_server_and_says_what_is_in_doubt() {
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let (opts, mut conn, builder) = prepared(&server, "frozen", Once::Key, 10);
    let batcher = builder.spawn(writer(&opts, Once::Key)).unwrap();
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
        (1, 48, 1)
    );
    assert_eq!(lent.wait(), Outcome::InDoubt);
    server.thaw();
    // The handler that was left behind comes back and is counted.
    wait_for(&batcher, |stats| stats.abandoned == 0);
    assert_eq!(counts(&mut conn), (2, 2));
}

#[test]
fn a_full_disk_is_transient_and_every_row_arrives_once_there_is_space() {
    let Some(server) = Mariadb::own(&["--innodb-file-per-table=1"]) else {
        return;
    };
    let Some(disk) = small_disk("16m") else {
        return;
    };
    server.own_folder(disk.folder());
    let (opts, mut conn) = server.database("small_disk");
    conn.query_drop(format!(
        "CREATE TABLE readings (id bigint PRIMARY KEY, value double NOT NULL, text text NOT NULL)
         ENGINE = InnoDB DATA DIRECTORY = '{}'",
        disk.folder().display()
    ))
    .unwrap();
    let filler = disk.fill(13 << 20);
    let (tell, codes) = mpsc::channel();
    let mut handler = writer(&opts, Once::Key);
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
        scope.spawn(|| batcher.add_many((0..60_000).map(row)).is_ok());
        let (code, class) = codes.recv_timeout(LONG).unwrap();
        assert_eq!((code, class), (1114, ErrorClass::Transient));
        wait_for(&batcher, |stats| tried_again(stats) >= 2);
        std::fs::remove_file(&filler).unwrap();
    });
    assert_eq!(batcher.flush(LONG), Ok(()));
    drop(batcher);
    assert_eq!(counts(&mut conn), (60_000, 60_000));
    drop(server);
}
