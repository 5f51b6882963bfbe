//! What is wrong at the start is one sentence, and no thread starts.

use load_aware_batcher_mysql::load_aware_batcher::{Batcher, BuildError};
use load_aware_batcher_mysql::mysql::{Opts, OptsBuilder};
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::servers::mariadb::Mariadb;

use crate::rows::{Database, KEYED, KEYLESS, LONG, Reading, columns, reading};

/// The sentence.
fn refused(sink: Mysql<Reading>) -> String {
    let error = Batcher::builder().sink(sink).expect_err("it does not fit");
    assert!(matches!(error, BuildError::Sink { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

fn with(opts: &Opts) -> OptsBuilder {
    OptsBuilder::from_opts(opts.clone())
}

#[test]
fn a_url_that_cannot_be_read_is_named() {
    let sentence = refused(columns(Mysql::from_url("mysql://localhost:port/shop")));
    assert!(
        sentence.starts_with("cannot connect to the server: "),
        "{sentence}"
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
    let url = format!("mysql://root@127.0.0.1:{port}/shop");
    let sentence = refused(columns(Mysql::from_url(&url)));
    let begin = format!("cannot connect to 127.0.0.1:{port}: ");
    assert!(sentence.starts_with(&begin), "{sentence}");
    assert!(sentence.contains("refused"), "{sentence}");
}

#[test]
fn a_wrong_password_or_database_is_named_without_the_password() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let database = Database::new(server, "refusals_login", KEYED);
    let wrong = with(&database.opts).pass(Some("secret"));
    let sentence = refused(columns(Mysql::new(wrong)));
    assert!(
        sentence.contains("Access denied for user 'root'"),
        "{sentence}"
    );
    assert!(!sentence.contains("secret"), "{sentence}");
    let wrong = with(&database.opts).db_name(Some("no_such"));
    let sentence = refused(columns(Mysql::new(wrong)));
    assert!(
        sentence.ends_with(": Unknown database 'no_such'"),
        "{sentence}"
    );
    let none = with(&database.opts).db_name(None::<String>);
    assert_eq!(
        refused(columns(Mysql::new(none))),
        "no database is selected for table `readings`: name one in the URL, or before the table"
    );
}

#[test]
fn a_table_that_is_missing_is_named() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let database = Database::new(server, "refusals_table", KEYED);
    let table = |name: &str| refused(database.sink().table(name));
    assert_eq!(table("redings"), "there is no table `redings`");
    assert_eq!(
        table("no_such.readings"),
        "there is no table `no_such`.`readings`"
    );
    assert_eq!(table("a.b.c"), "\"a.b.c\" is not a table's name");
    let none = Mysql::new(database.opts.clone()).column("id", |r: &Reading| &r.id);
    assert_eq!(refused(none), "no table is named: call `table`");
}

#[test]
fn a_column_that_does_not_fit_is_named() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let schema = "CREATE TABLE readings (id BIGINT PRIMARY KEY, value DOUBLE, text TEXT,
        size INT GENERATED ALWAYS AS (char_length(text)) STORED, half DOUBLE AS (value / 2) VIRTUAL)";
    let database = Database::new(server, "refusals_column", schema);
    let column = |name: &str| refused(database.sink().column(name, |r| &r.value));
    assert_eq!(column("valeu"), "table `readings` has no column \"valeu\"");
    for generated in ["size", "half"] {
        assert_eq!(
            column(generated),
            format!("column {generated:?} of table `readings` is generated: it cannot be written")
        );
    }
    assert_eq!(column("VALUE"), "column \"VALUE\" is named twice");
    let none = Mysql::<Reading>::new(database.opts.clone()).table("readings");
    assert_eq!(
        refused(none),
        "no column of table `readings` is named: call `column`"
    );
}

#[test]
fn a_key_that_does_not_fit_is_named() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let schema = KEYLESS.replace(") ENGINE", ", KEY (id), UNIQUE beginning (text(5))) ENGINE");
    let database = Database::new(server, "refusals_key", &schema);
    let sink = || database.sink().on_conflict(OnConflict::Ignore);
    assert_eq!(
        refused(sink()),
        "rows of table `readings` have no key to find conflicts by: call `key`"
    );
    for key in ["id", "text"] {
        assert_eq!(
            refused(sink().key([key])),
            format!("table `readings` has no unique index on (`{key}`)")
        );
    }
    assert_eq!(
        refused(sink().key(["ident"])),
        "table `readings` has no column \"ident\""
    );
    let none: [&str; 0] = [];
    assert_eq!(refused(sink().key(none)), "`key` names no column");
    let database = Database::new(server, "refusals_update", KEYED);
    assert_eq!(
        refused(database.sink().on_conflict(OnConflict::update(["size"]))),
        "table `readings` has no column \"size\""
    );
}

#[test]
fn a_missing_right_is_named() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_right", KEYED);
    for (user, right) in [
        ("reader", "SELECT ON refusals_right.*"),
        ("stranger", "USAGE ON *.*"),
    ] {
        database.run(&format!("CREATE USER refusals_{user}@localhost"));
        database.run(&format!("GRANT {right} TO refusals_{user}@localhost"));
    }
    database.run("CREATE USER refusals_partly@localhost");
    database.run(
        "GRANT INSERT (id, value), SELECT ON refusals_right.readings TO refusals_partly@localhost",
    );
    let as_user = |user: &str| {
        let user = format!("refusals_{user}");
        let opts = with(&database.opts)
            .user(Some(user))
            .db_name(None::<String>);
        columns(Mysql::new(opts)).table("refusals_right.readings")
    };
    let begin =
        "the user may not insert into table `refusals_right`.`readings`: INSERT command denied";
    for user in ["reader", "partly", "stranger"] {
        let sentence = refused(as_user(user));
        assert!(sentence.starts_with(begin), "{user}: {sentence}");
    }
    assert!(refused(as_user("partly")).contains("column 'text'"));
    // To update is another right.
    database.run("CREATE USER refusals_adder@localhost");
    database.run("GRANT INSERT, SELECT ON refusals_right.* TO refusals_adder@localhost");
    let sink = |mode| {
        let opts = with(&database.opts).user(Some("refusals_adder"));
        columns(Mysql::new(opts)).on_conflict(mode)
    };
    let sentence = refused(sink(OnConflict::Replace));
    assert!(sentence.contains("UPDATE command denied"), "{sentence}");
    let batcher = Batcher::builder().sink(sink(OnConflict::Fail)).unwrap();
    batcher.add(reading(1)).unwrap();
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn an_engine_without_transactions_is_named() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let schema = KEYED.replace("InnoDB", "MyISAM");
    let database = Database::new(server, "refusals_engine", &schema);
    assert_eq!(
        refused(database.sink()),
        "table `readings` has the engine MyISAM, which has no transactions"
    );
}

#[test]
fn a_batch_table_of_another_shape_or_engine_is_named() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "refusals_batches", KEYED);
    database.run("CREATE TABLE taken (number INT)");
    let sentence = refused(database.sink().batch_table("taken"));
    let begin = "table `taken` cannot hold the ids of batches: ";
    assert!(sentence.starts_with(begin), "{sentence}");
    database.run("CREATE TABLE lax (id CHAR(32) PRIMARY KEY, at TIMESTAMP) ENGINE = Aria");
    assert_eq!(
        refused(database.sink().batch_table("lax")),
        "table `lax` has the engine Aria, which has no transactions"
    );
}
