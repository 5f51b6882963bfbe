//! Sessions that are refused, that have plans of a changed table, that the server has ended, or
//! that are left in the middle of a transaction. The next attempt uses a new session where that
//! helps, and no row fails.

use postgres::Statement;

use super::*;

#[test]
fn a_refused_connection_is_unavailable_and_one_to_a_database_that_does_not_exist_is_misconfigured()
{
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (mut config, mut client) = server.database("refused");
    client
        .batch_execute("CREATE ROLE one_at_a_time LOGIN CONNECTION LIMIT 1")
        .unwrap();
    let refused = |config: &Config| {
        let error = failed(config.connect(NoTls).err().unwrap(), Stage::Connect);
        (code_of(&error), error.class())
    };
    config.user("one_at_a_time");
    let _first = config.connect(NoTls).unwrap();
    assert_eq!(
        refused(&config),
        (Some("53300".to_owned()), ErrorClass::Unavailable)
    );
    config.user("nobody_knows");
    assert_eq!(
        refused(&config),
        (Some("28000".to_owned()), ErrorClass::Unavailable)
    );
    assert_eq!(
        refused(&server.config("no_such_database")),
        (Some("3D000".to_owned()), ErrorClass::Misconfigured)
    );
}

/// Scenario 44: `ALTER TABLE` after a statement that returns rows was prepared. The handler is the
/// recipe of the docs, which keeps a connection as long as its errors allow.
#[test]
fn a_cached_plan_whose_result_type_changed_is_prepared_again_and_every_row_arrives() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "cached_plan", Dedup::None, 100);
    let insert = "INSERT INTO readings (id, value, text) SELECT id, 0, '' FROM unnest($1::bigint[]) AS new (id) RETURNING *";
    let mut link: Option<(Client, Statement)> = None;
    let mut write = move |batch: &Batch<Row>| {
        let (client, statement) = match &mut link {
            Some(link) => link,
            none => {
                let mut client = config
                    .connect(NoTls)
                    .map_err(|error| failed(error, Stage::Connect))?;
                let statement = client
                    .prepare(insert)
                    .map_err(|error| failed(error, Stage::Connect))?;
                none.insert((client, statement))
            }
        };
        let ids: Vec<i64> = batch.iter().map(|row| row.id).collect();
        let result = client
            .query(&*statement, &[&ids])
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
    let batcher = builder.spawn(handler).unwrap();
    batcher.add_many((0..100).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    client
        .batch_execute("ALTER TABLE readings ADD COLUMN more int")
        .unwrap();
    batcher.add_many((100..1_000).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    drop(batcher);
    assert_eq!(counts(&mut client), (1_000, 1_000));
    assert_eq!(codes.iter().collect::<Vec<_>>(), [Some("0A000".to_owned())]);
}

/// Scenario 47: without a transaction, a statement on a closed session would be in doubt. A check
/// before the statement prevents that.
#[test]
fn a_validity_check_before_an_autocommit_statement_keeps_an_ended_session_from_putting_rows_in_doubt()
 {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "idle_autocommit", Dedup::None, 100);
    let mut link: Option<Client> = None;
    let (tell, replaced) = mpsc::channel();
    let handler = move |batch: &mut Batch<Row>| {
        if link
            .as_mut()
            .is_some_and(|client| client.is_valid(LONG).is_err())
        {
            link = None;
            tell.send(())?;
        }
        let client = match &mut link {
            Some(client) => client,
            none => none.insert(
                config
                    .connect(NoTls)
                    .map_err(|error| failed(error, Stage::Connect))?,
            ),
        };
        let insert = "INSERT INTO readings SELECT id, 0, '' FROM unnest($1::bigint[]) AS new (id)";
        let ids: Vec<i64> = batch.iter().map(|row| row.id).collect();
        client
            .execute(insert, &[&ids])
            .map_err(|error| failed(error, Stage::Commit))?;
        Ok(LoadFeedback::new())
    };
    let batcher = builder.spawn(handler).unwrap();
    batcher.add(Row::of(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    // It ends as by a timeout, but at a known moment.
    let others =
        "FROM pg_stat_activity WHERE datname = 'idle_autocommit' AND pid <> pg_backend_pid()";
    client
        .execute(&format!("SELECT pg_terminate_backend(pid) {others}"), &[])
        .unwrap();
    until(|| {
        client
            .query_one(&format!("SELECT count(*) {others}"), &[])
            .unwrap()
            .get::<_, i64>(0)
            == 0
    });
    batcher.add_many((1..100).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().in_doubt, 0);
    drop(batcher);
    assert_eq!(replaced.iter().count(), 1);
    assert_eq!(counts(&mut client), (100, 100));
}

/// Scenario 54: the driver's guard rolls back while the panic unwinds, so the same connection can
/// be used.
#[test]
fn a_panic_inside_a_transaction_guard_leaves_nothing_behind_on_the_connection() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "panicked", Dedup::None, 10);
    let mut writer = config.connect(NoTls).unwrap();
    let mut calls = 0;
    let handler = move |batch: &mut Batch<Row>| {
        calls += 1;
        let mut transaction = writer
            .transaction()
            .map_err(|error| failed(error, Stage::Statement))?;
        for (index, row) in batch.iter().enumerate() {
            assert!(calls != 1 || index != 5, "in the middle of the batch");
            let insert = "INSERT INTO readings VALUES ($1, 0, '')";
            transaction
                .execute(insert, &[&row.id])
                .map_err(|error| failed(error, Stage::Statement))?;
        }
        transaction
            .commit()
            .map_err(|error| failed(error, Stage::Commit))?;
        Ok(LoadFeedback::new())
    };
    let batcher = builder.linger(LONG).spawn(handler).unwrap();
    batcher.add_many((0..10).map(Row::of)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().handler_panics, 1);
    assert_eq!(counts(&mut client), (10, 10));
}
