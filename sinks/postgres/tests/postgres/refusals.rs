//! What is wrong at the start is one sentence, and no thread starts.

use load_aware_batcher_postgres::load_aware_batcher::{Batcher, BuildError};
use load_aware_batcher_postgres::postgres::Config;
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{Database, KEYED, KEYLESS, LONG, Reading, columns, reading};

/// The sentence.
fn refused(sink: Postgres<Reading>) -> String {
    let error = Batcher::builder().sink(sink).expect_err("it does not fit");
    assert!(matches!(error, BuildError::Sink { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

#[test]
fn a_url_that_cannot_be_read_is_named() {
    let sentence = refused(columns(Postgres::from_url(
        "postgres://localhost:port/shop",
    )));
    assert_eq!(
        sentence,
        "cannot connect to the server: invalid connection string: invalid value for option `port`"
    );
}

#[test]
fn a_port_where_nobody_listens_is_named() {
    // Taken and given back: nobody else is given it that soon.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/shop");
    let sentence = refused(columns(Postgres::from_url(&url)));
    let begin = format!("cannot connect to 127.0.0.1:{port}: ");
    assert!(sentence.starts_with(&begin), "{sentence}");
    assert!(sentence.contains("refused"), "{sentence}");
}

#[test]
fn a_wrong_user_or_database_is_named_without_the_password() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut wrong = server.config("postgres");
    wrong.user("nobody_here").password("secret");
    let sentence = refused(columns(Postgres::new(wrong)));
    assert!(
        sentence.ends_with(": role \"nobody_here\" does not exist"),
        "{sentence}"
    );
    assert!(!sentence.contains("secret"), "{sentence}");
    let sentence = refused(columns(Postgres::new(server.config("no_such"))));
    assert!(
        sentence.ends_with(": database \"no_such\" does not exist"),
        "{sentence}"
    );
}

#[test]
fn a_wrong_password_is_named_without_the_password() {
    let Some(mut server) = Server::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "passwords", KEYED);
    database.run("CREATE ROLE guarded LOGIN PASSWORD 'right'");
    let hba: String = database
        .client
        .query_one("SHOW hba_file", &[])
        .unwrap()
        .get(0);
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all guarded scram-sha-256\n{rules}")).unwrap();
    server.kill();
    server.start();
    let mut wrong = database.config.clone();
    wrong.user("guarded").password("secret");
    let sentence = refused(columns(Postgres::new(wrong)));
    assert!(
        sentence.ends_with(": password authentication failed for user \"guarded\""),
        "{sentence}"
    );
    assert!(!sentence.contains("secret"), "{sentence}");
}

#[test]
fn a_table_that_is_missing_is_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_table", KEYED);
    database.run("CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id");
    let table = |name: &str| refused(database.sink().table(name));
    assert_eq!(table("redings"), "there is no table \"redings\"");
    assert_eq!(table("Readings"), "there is no table \"Readings\"");
    assert_eq!(table("kept"), "\"kept\" is not a table");
    assert_eq!(
        table("no_such.readings"),
        "there is no table \"no_such\".\"readings\""
    );
    assert_eq!(table("a.b.c"), "\"a.b.c\" is not a table's name");
    let none = Postgres::new(database.config.clone()).column("id", |r: &Reading| &r.id);
    assert_eq!(refused(none), "no table is named: call `table`");
}

#[test]
fn a_column_that_does_not_fit_is_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let schema = "CREATE TABLE readings (id bigint PRIMARY KEY, value double precision, text text, price numeric(10, 2),
        size int GENERATED ALWAYS AS (length(text)) STORED, number bigint GENERATED ALWAYS AS IDENTITY)";
    let database = Database::new(server, "refusals_column", schema);
    let column = |name: &str| refused(database.sink().column(name, |r| &r.value));
    assert_eq!(
        column("valeu"),
        "table \"readings\" has no column \"valeu\""
    );
    assert_eq!(
        column("size"),
        "column \"size\" of table \"readings\" is generated: it cannot be written"
    );
    assert_eq!(
        column("number"),
        "column \"number\" of table \"readings\" is GENERATED ALWAYS AS IDENTITY: it cannot be written"
    );
    assert_eq!(
        column("price"),
        "column \"price\" of table \"readings\" has the type numeric: it does not take values of type f64"
    );
    assert_eq!(column("value"), "column \"value\" is named twice");
    let none = Postgres::<Reading>::new(database.config.clone()).table("readings");
    assert_eq!(
        refused(none),
        "no column of table \"readings\" is named: call `column`"
    );
}

#[test]
fn a_key_that_does_not_fit_is_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_key", KEYLESS);
    database.run(
        "CREATE INDEX ON readings (id); CREATE UNIQUE INDEX ON readings (text) WHERE id > 5;
         ALTER TABLE readings ADD UNIQUE (value) DEFERRABLE",
    );
    let sink = || database.sink().on_conflict(OnConflict::Ignore);
    assert_eq!(
        refused(sink()),
        "rows of table \"readings\" have no key to find conflicts by: call `key`"
    );
    let none = "table \"readings\" has no unique index on";
    let others = ": partial and deferrable ones do not count";
    assert_eq!(refused(sink().key(["id"])), format!("{none} (\"id\")"));
    for key in ["text", "value"] {
        assert_eq!(
            refused(sink().key([key])),
            format!("{none} (\"{key}\"){others}")
        );
    }
    assert_eq!(
        refused(sink().key(["ident"])),
        "table \"readings\" has no column \"ident\""
    );
    let no_column: [&str; 0] = [];
    assert_eq!(refused(sink().key(no_column)), "`key` names no column");
    let database = Database::new(server, "refusals_update", KEYED);
    assert_eq!(
        refused(database.sink().on_conflict(OnConflict::update(["size"]))),
        "table \"readings\" has no column \"size\""
    );
}

#[test]
fn a_missing_right_is_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_right", KEYED);
    database.run(
        "CREATE ROLE refusals_stranger LOGIN; CREATE ROLE refusals_reader LOGIN; CREATE ROLE refusals_partly LOGIN;
         CREATE ROLE refusals_adder LOGIN; GRANT SELECT ON readings TO refusals_reader;
         GRANT INSERT (id, value) ON readings TO refusals_partly; GRANT INSERT ON readings TO refusals_adder",
    );
    let as_user = |user: &str, mode| {
        let mut config: Config = database.config.clone();
        config.user(&format!("refusals_{user}"));
        columns(Postgres::new(config)).on_conflict(mode)
    };
    for user in ["stranger", "reader"] {
        assert_eq!(
            refused(as_user(user, OnConflict::Fail)),
            "the user may not insert into table \"readings\""
        );
    }
    assert_eq!(
        refused(as_user("partly", OnConflict::Fail)),
        "the user may not insert into column \"text\" of table \"readings\""
    );
    // To find conflicts and to update are other rights.
    assert_eq!(
        refused(as_user("adder", OnConflict::Ignore)),
        "the user may not select column \"id\" of table \"readings\", which conflicts are found by"
    );
    assert_eq!(
        refused(as_user("adder", OnConflict::Replace)),
        "the user may not update column \"value\" of table \"readings\""
    );
    let sink = as_user("adder", OnConflict::Fail);
    let batcher = Batcher::builder().sink(sink).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (1, 1));
}

#[test]
fn rules_and_views_that_take_no_rows_are_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_rules", KEYED);
    database.run(
        "CREATE RULE other AS ON UPDATE TO readings DO ALSO SELECT 1;
         CREATE VIEW grouped AS SELECT id, max(value) AS value, max(text) AS text FROM readings GROUP BY id",
    );
    assert_eq!(
        refused(database.sink().on_conflict(OnConflict::Ignore)),
        "table \"readings\" has rules for INSERT or UPDATE: the server finds no conflicts there"
    );
    assert_eq!(
        refused(database.sink().table("grouped")),
        "view \"grouped\" takes no rows: it has no INSTEAD OF trigger for INSERT"
    );
}

#[test]
fn a_batch_table_of_another_shape_is_named() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_batches", KEYED);
    database.run("CREATE TABLE taken (number int)");
    let sentence = refused(database.sink().batch_table("taken"));
    let begin = "table \"taken\" cannot hold the ids of batches: ";
    assert!(sentence.starts_with(begin), "{sentence}");
}
