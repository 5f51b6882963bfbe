//! Sessions that are no longer what they were: read only, idle for too long, without their prepared
//! statements. The next attempt goes over a new one where that helps, and no row fails.

use mysql::{Params, Statement, Value};

use super::*;
use crate::ingest::mariadb_writer::failed;

/// Scenario 43.
#[test]
fn a_server_that_turns_read_only_loses_its_writer_to_the_new_primary() {
    let (Some(old), Some(new)) = (Mariadb::own(&[]), Mariadb::own(&[])) else {
        return;
    };
    let (_, mut old_conn, builder) = prepared(&old, "failover", Once::Never, 100);
    let (_, mut new_conn, _) = prepared(&new, "failover", Once::Never, 100);
    for conn in [&mut old_conn, &mut new_conn] {
        // Root may write all the same.
        conn.query_drop("CREATE USER writer@localhost IDENTIFIED BY ''")
            .unwrap();
        conn.query_drop("GRANT ALL ON failover.* TO writer@localhost")
            .unwrap();
    }
    let proxy = Proxy::start(&old.socket(), |_| Fate::Pass);
    let opts: Opts = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(proxy.port())
        .user(Some("writer"))
        .db_name(Some("failover"))
        .prefer_socket(false)
        .into();
    let (tell, errors) = mpsc::channel();
    let mut writer = writer(&opts, Once::Never);
    let handler = move |batch: &mut Batch<Row>| {
        writer
            .handle(batch)
            .inspect_err(|error| tell.send((code_of(error), error.class())).unwrap())
    };
    let batcher = builder.spawn(handler).unwrap();
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    old_conn.query_drop("SET GLOBAL read_only = 1").unwrap();
    proxy.redirect(&new.socket());
    batcher.add_many((1..1_001).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().in_doubt, 0);
    drop(batcher);
    assert_eq!(counts(&mut new_conn), (1_000, 1_000));
    assert_eq!(counts(&mut old_conn), (1, 1));
    assert_eq!(
        errors.iter().collect::<Vec<_>>(),
        [(1290, ErrorClass::Unavailable)]
    );
}

#[test]
fn a_server_that_is_away_is_unavailable_and_one_that_dies_in_mid_session_is_transient() {
    let Some(mut server) = Mariadb::own(&[]) else {
        return;
    };
    let (opts, conn, builder) = prepared(&server, "away", Once::Key, 10);
    drop(conn);
    let (tell, classes) = mpsc::channel();
    let mut writer = writer(&opts, Once::Key);
    let handler = move |batch: &mut Batch<Row>| {
        writer
            .handle(batch)
            .inspect_err(|error| tell.send(error.class()).unwrap())
    };
    let batcher = builder.spawn(handler).unwrap();
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    server.kill();
    batcher.add(row(1)).unwrap();
    batcher.request_flush();
    assert_eq!(
        classes.recv_timeout(LONG),
        Ok(ErrorClass::Transient),
        "the session that died"
    );
    assert_eq!(
        classes.recv_timeout(LONG),
        Ok(ErrorClass::Unavailable),
        "nobody is there"
    );
    server.start();
    assert_eq!(batcher.flush(LONG), Ok(()));
}

#[test]
fn a_refused_connection_is_unavailable_and_one_to_a_database_that_does_not_exist_is_misconfigured()
{
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn) = server.database("refused");
    conn.query_drop(
        "CREATE USER one_at_a_time@localhost IDENTIFIED BY '' WITH MAX_USER_CONNECTIONS 1",
    )
    .unwrap();
    let refused = |opts: OptsBuilder| {
        let error = failed(Conn::new(opts).err().unwrap(), Stage::Connect);
        (code_of(&error), error.class())
    };
    let opts = || OptsBuilder::from_opts(opts.clone()).db_name(None::<String>);
    let _first = Conn::new(opts().user(Some("one_at_a_time"))).unwrap();
    assert_eq!(
        refused(opts().user(Some("one_at_a_time"))),
        (1226, ErrorClass::Unavailable)
    );
    assert_eq!(
        refused(opts().pass(Some("wrong"))),
        (1045, ErrorClass::Unavailable)
    );
    assert_eq!(
        refused(opts().db_name(Some("no_such_database"))),
        (1049, ErrorClass::Misconfigured)
    );
}

/// Scenario 44. The handler is the recipe of the docs: it keeps a connection as long as its errors
/// allow.
#[test]
fn a_prepared_statement_that_is_gone_is_prepared_again_and_every_row_arrives() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "statement_gone", Once::Never, 100);
    let mut link: Option<(Conn, Statement)> = None;
    let mut calls = 0;
    let mut write = move |batch: &Batch<Row>| {
        let (conn, statement) = match &mut link {
            Some(link) => link,
            none => {
                let mut conn =
                    Conn::new(opts.clone()).map_err(|error| failed(error, Stage::Connect))?;
                let insert = format!(
                    "INSERT INTO readings VALUES (?, 0, ''){}",
                    ", (?, 0, '')".repeat(99)
                );
                let statement = conn
                    .prep(insert)
                    .map_err(|error| failed(error, Stage::Connect))?;
                none.insert((conn, statement))
            }
        };
        calls += 1;
        if calls % 3 == 0 {
            // The server forgets it; the handler does not know.
            conn.close(statement.clone())
                .map_err(|error| failed(error, Stage::Connect))?;
        }
        let ids = Params::Positional(batch.iter().map(|row| Value::Int(row.id)).collect());
        let result = conn
            .exec_drop(&*statement, ids)
            .map_err(|error| failed(error, Stage::Commit));
        if matches!(&result, Err(error) if error.is_handler_broken()) {
            link = None;
        }
        result
    };
    let (tell, codes) = mpsc::channel();
    let handler = move |batch: &mut Batch<Row>| {
        write(batch).inspect_err(|error| tell.send(code_of(error)).unwrap())?;
        Ok(LoadFeedback::new())
    };
    // Whole batches: the statement is for a hundred rows.
    let batcher = builder
        .retry(patient(Once::Never).split_on_retry(false))
        .linger(LONG)
        .spawn(handler)
        .unwrap();
    batcher.add_many((0..1_000).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().in_doubt, 0);
    drop(batcher);
    assert_eq!(counts(&mut conn), (1_000, 1_000));
    let codes: Vec<_> = codes.iter().collect();
    assert!(
        !codes.is_empty() && codes.iter().all(|code| *code == 1243),
        "{codes:?}"
    );
}

/// Scenario 47.
#[test]
fn the_first_batch_after_an_idle_timeout_is_stored_once_and_not_in_doubt_with_a_transaction() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "idle", Once::Never, 100);
    let (tell, classes) = mpsc::channel();
    let mut writer = MariadbWriter::new(
        opts,
        "readings",
        Once::Never,
        &["SET wait_timeout = 1"],
        LONG,
    );
    let handler = move |batch: &mut Batch<Row>| {
        writer
            .handle(batch)
            .inspect_err(|error| tell.send(error.class()).unwrap())
    };
    let batcher = builder.spawn(handler).unwrap();
    batcher.add(row(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let others = "SELECT count(*) FROM information_schema.processlist WHERE db = 'idle' AND id <> connection_id()";
    until(|| conn.query_first::<i64, _>(others).unwrap() == Some(0));
    batcher.add_many((1..100).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().in_doubt, 0);
    drop(batcher);
    assert_eq!(counts(&mut conn), (100, 100));
    let classes: Vec<_> = classes.iter().collect();
    assert!(!classes.is_empty(), "the session had ended");
    assert!(
        classes.iter().all(|class| *class == ErrorClass::Transient),
        "{classes:?}"
    );
}
