//! Servers that die, freeze, run out of disk, turn read only, or whose answers are lost.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher_mysql::load_aware_batcher::{Builder, ErrorClass};
use load_aware_batcher_mysql::mysql::prelude::Queryable;
use load_aware_batcher_mysql::mysql::{Conn, Opts, OptsBuilder};
use load_aware_batcher_mysql::{Mysql, OnConflict};
use testkit::Watched;
use testkit::courses::{
    CloseOnPanic, Driver, close_at_the_deadline, hold_deadlines, survive_kills, tried_again,
};
use testkit::servers::mariadb::Mariadb;
use testkit::servers::process::small_disk;
use testkit::servers::proxy::{Fate, Proxy};

use crate::rows::{
    Database, KEYED, KEYLESS, LONG, Reading, builder, code_of, columns, counts, reading, wait_for,
};

fn through(proxy: &Proxy, user: &str, database: &str) -> Opts {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(proxy.port())
        .user(Some(user))
        .db_name(Some(database))
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
fn lost_answers_lose_and_double_nothing_with_a_key_or_a_batch_table() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for (name, keyed) in [("answers_key", true), ("answers_batch", false)] {
        let mut database = Database::new(server, name, if keyed { KEYED } else { KEYLESS });
        let proxy = Proxy::start(&server.socket(), every_fourth);
        let sink = columns(Mysql::new(through(&proxy, "root", name))).sensor(None);
        let sink = match keyed {
            true => sink.on_conflict(OnConflict::Ignore),
            false => sink.batch_table("batches"),
        };
        let batcher = builder(100).sink(sink).unwrap();
        batcher.add_many((0..5_000).map(reading)).unwrap();
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(database.counts(), (5_000, 5_000));
        assert!(proxy.counts().1 >= 10, "{:?}", proxy.counts());
    }
}

#[test]
fn lost_answers_without_key_and_batch_table_double_nothing_and_all_doubts_are_reported() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let mut database = Database::new(server, "answers_never", KEYLESS);
    let proxy = Proxy::start(&server.socket(), every_fourth);
    let sink = columns(Mysql::new(through(&proxy, "root", "answers_never")));
    let batcher = builder(100).sink(sink.sensor(None)).unwrap();
    batcher.add_many((0..5_000).map(reading)).unwrap();
    let report = batcher.close(LONG);
    let (rows, different) = database.counts();
    assert_eq!(rows, different, "none doubled");
    assert!(report.failed.iter().all(|failed| failed.in_doubt));
    assert_eq!(report.handled + report.failed.len() as u64, 5_000);
    let in_doubt: Vec<i64> = report.failed.iter().map(|failed| failed.item.id).collect();
    let stored = database
        .rows()
        .iter()
        .filter(|row| in_doubt.contains(&row.0))
        .count();
    assert_eq!(
        rows - stored as i64,
        report.handled as i64,
        "what was handled is there"
    );
    assert!(
        stored > 0 && stored < in_doubt.len(),
        "both kinds of doubt: {stored}"
    );
}

/// Kills the server again and again under this builder, whose rows have a key or a table of batch ids.
pub fn killed_fifty_times(name: &str, keyed: bool, builder: Builder<Reading>) {
    let Some(mut server) = Mariadb::own(&[]) else {
        return;
    };
    let database = Database::new(&server, name, if keyed { KEYED } else { KEYLESS });
    let sink = match keyed {
        true => database.sink().on_conflict(OnConflict::Ignore),
        false => database.sink().batch_table("batches"),
    };
    let opts = database.opts.clone();
    drop(database);
    let connect = || Conn::new(opts.clone()).unwrap();
    let batcher = builder.sink(sink).unwrap();
    let kill_and_restart = || {
        server.kill();
        server.start();
    };
    let rows = survive_kills(&batcher, reading, kill_and_restart, |id| {
        let stored = format!("SELECT count(*) FROM readings WHERE id <= {id}");
        connect().query_first(stored).unwrap().unwrap()
    });
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.handled, rows as u64);
    assert_eq!(counts(&mut connect()), (rows, rows));
    eprintln!("{rows} rows over all kills");
}

#[test]
fn a_server_killed_fifty_times_loses_and_doubles_no_row_with_a_key() {
    killed_fifty_times("killed_keyed", true, builder(200));
}

#[test]
fn a_server_killed_fifty_times_loses_and_doubles_no_row_with_a_batch_table() {
    killed_fifty_times("killed_batches", false, builder(200));
}

/// Scenario 43.
#[test]
fn a_server_that_turns_read_only_loses_its_writer_to_the_new_primary() {
    let (Some(old), Some(new)) = (Mariadb::own(&[]), Mariadb::own(&[])) else {
        return;
    };
    let mut old_database = Database::new(&old, "failover", KEYLESS);
    let mut new_database = Database::new(&new, "failover", KEYLESS);
    for database in [&mut old_database, &mut new_database] {
        // Root may write all the same.
        database.run("CREATE USER writer@localhost IDENTIFIED BY ''");
        database.run("GRANT ALL ON failover.* TO writer@localhost");
    }
    let proxy = Proxy::start(&old.socket(), |_| Fate::Pass);
    let sink = columns(Mysql::new(through(&proxy, "writer", "failover")));
    let batcher = builder(100).sink(sink.sensor(None)).unwrap();
    batcher.add(reading(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    old_database.run("SET GLOBAL read_only = 1");
    batcher.add_many((1..1_001).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.failed_calls.unavailable >= 2);
    proxy.redirect(&new.socket());
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(new_database.counts(), (1_000, 1_000));
    assert_eq!(old_database.counts(), (1, 1));
}

/// The driver gives up on an answer before the server is back, so what was under way is in doubt and
/// sent again.
#[test]
fn deadlines_hold_while_the_server_is_frozen_and_every_row_arrives_once_after() {
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "frozen", KEYED);
    let sink = database.sink().answer_timeout(Duration::from_secs(1));
    let sink = sink.on_conflict(OnConflict::Ignore).sensor(None);
    let batcher = builder(10).queue_capacity(1_000).sink(sink).unwrap();
    let (freeze, thaw) = (|| server.freeze(), || server.thaw());
    let added = hold_deadlines(&batcher, reading, Driver::GivesUp, freeze, thaw);
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (added, added));
}

#[test]
fn a_close_returns_at_its_deadline_from_a_frozen_server_and_reports_what_is_in_doubt() {
    let Some(server) = Mariadb::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "frozen", KEYED);
    let sink = database.sink().answer_timeout(LONG).sensor(None);
    let batcher = builder(10)
        .sink(sink.on_conflict(OnConflict::Ignore))
        .unwrap();
    close_at_the_deadline(&batcher, reading, || server.freeze(), || server.thaw());
    assert_eq!(database.counts(), (2, 2));
}

#[test]
fn a_server_that_dies_in_mid_session_is_transient_and_one_that_is_away_unavailable() {
    let Some(mut server) = Mariadb::own(&[]) else {
        return;
    };
    let database = Database::new(&server, "away", KEYED);
    let (tell, classes) = mpsc::channel();
    let sink = database.sink().on_conflict(OnConflict::Ignore).sensor(None);
    let sink = Watched::new(sink, move |error| {
        // After the test's end nobody hears.
        let _ = tell.send(error.class());
    });
    drop(database);
    let batcher = builder(10).sink(sink).unwrap();
    batcher.add(reading(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    server.kill();
    batcher.add(reading(1)).unwrap();
    batcher.request_flush();
    let class = || classes.recv_timeout(LONG).unwrap();
    assert_eq!(class(), ErrorClass::Transient, "the session that died");
    assert_eq!(class(), ErrorClass::Unavailable, "nobody is there");
    server.start();
    assert!(batcher.close(LONG).is_clean());
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
    let (tell, errors) = mpsc::channel();
    let sink = columns(Mysql::new(opts)).on_conflict(OnConflict::Ignore);
    let sink = Watched::new(sink, move |error| {
        let _ = tell.send((code_of(error), error.class()));
    });
    let batcher = builder(1_000).sink(sink).unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        scope.spawn(|| batcher.add_many((0..60_000).map(reading)).is_ok());
        let full = (Some(1114), ErrorClass::Transient);
        assert_eq!(errors.recv_timeout(LONG), Ok(full));
        wait_for(&batcher, |stats| tried_again(stats) >= 2);
        std::fs::remove_file(&filler).unwrap();
    });
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(counts(&mut conn), (60_000, 60_000));
    drop(server);
}
