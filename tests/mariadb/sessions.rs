//! Sessions that are refused, or that have lost their prepared statements. The next attempt uses a
//! new session where that helps, and no row fails.

use load_aware_batcher::Retry;
use mysql::{Params, Statement, Value};

use super::*;

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

/// Scenario 44. The handler is the recipe of the docs, which keeps a connection as long as its
/// errors allow.
#[test]
fn a_prepared_statement_that_is_gone_is_prepared_again_and_every_row_arrives() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "statement_gone", Dedup::None, 100);
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
            // The server drops the statement. The handler does not know it.
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
    // Only whole batches, since the statement is for a hundred rows.
    let batcher = builder
        .retry(Retry::attempts(u32::MAX).total_limit(LONG * 10))
        .linger(LONG)
        .spawn(handler)
        .unwrap();
    batcher.add_many((0..1_000).map(Row::of)).unwrap();
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
