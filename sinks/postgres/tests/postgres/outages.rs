//! Servers that die, restart, turn read only, or whose answers are lost.

use std::time::Duration;

use load_aware_batcher_postgres::postgres::config::SslMode;
use load_aware_batcher_postgres::postgres::{Config, NoTls};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;
use testkit::servers::proxy::{Fate, Proxy};

use crate::rows::{Database, KEYED, KEYLESS, LONG, builder, columns, counts, reading, wait_for};

fn through(proxy: &Proxy, user: &str, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(proxy.port())
        .user(user)
        .dbname(database)
        .ssl_mode(SslMode::Disable);
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
fn lost_answers_lose_and_double_nothing_with_a_key_or_a_batch_table() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, keyed) in [("answers_key", true), ("answers_batch", false)] {
        let mut database = Database::new(server, name, if keyed { KEYED } else { KEYLESS });
        let proxy = Proxy::start(&server.socket(), every_fourth);
        let sink = columns(Postgres::new(through(&proxy, "postgres", name))).sensor(None);
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
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "answers_never", KEYLESS);
    let proxy = Proxy::start(&server.socket(), every_fourth);
    let sink = columns(Postgres::new(through(&proxy, "postgres", "answers_never")));
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

#[test]
fn a_server_that_is_killed_and_restarted_loses_and_doubles_nothing() {
    let Some(mut server) = Server::own(&[]) else {
        return;
    };
    for (name, keyed) in [("restarted_keyed", true), ("restarted_batches", false)] {
        let database = Database::new(&server, name, if keyed { KEYED } else { KEYLESS });
        let sink = match keyed {
            true => database.sink().on_conflict(OnConflict::Ignore),
            false => database.sink().batch_table("batches"),
        };
        let config = database.config.clone();
        drop(database);
        let batcher = builder(200).sink(sink).unwrap();
        let rows = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| batcher.add_many((0..rows).map(reading)).unwrap());
            for kill in 1..=4 {
                let handled = kill * 3_000;
                wait_for(&batcher, |stats| stats.handled >= handled);
                let before = batcher.stats().handled as i64;
                server.kill();
                server.start();
                let stored = counts(&mut config.connect(NoTls).unwrap()).0;
                assert!(
                    stored >= before,
                    "{before} were handled, {stored} are there"
                );
            }
        });
        let report = batcher.close(LONG);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(counts(&mut config.connect(NoTls).unwrap()), (rows, rows));
    }
}

#[test]
fn a_server_that_turns_read_only_loses_its_writer_to_the_new_primary() {
    let (Some(old), Some(new)) = (Server::own(&[]), Server::own(&[])) else {
        return;
    };
    let mut old_database = Database::new(&old, "failover", KEYLESS);
    let mut new_database = Database::new(&new, "failover", KEYLESS);
    let proxy = Proxy::start(&old.socket(), |_| Fate::Pass);
    let sink = columns(Postgres::new(through(&proxy, "postgres", "failover")));
    let batcher = builder(100).sink(sink.sensor(None)).unwrap();
    batcher.add(reading(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    old_database.run("ALTER DATABASE failover SET default_transaction_read_only = on");
    // Sessions of before are read only from their next start.
    old_database.number(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    batcher.add_many((1..1_001).map(reading)).unwrap();
    wait_for(&batcher, |stats| stats.failed_calls.unavailable >= 2);
    proxy.redirect(&new.socket());
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(new_database.counts(), (1_000, 1_000));
    assert_eq!(old_database.counts(), (1, 1));
}

#[test]
fn a_server_that_freezes_holds_its_batch_and_every_row_arrives_once_after_the_freeze() {
    let Some(server) = Server::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "frozen", KEYED);
    let sink = database.sink().on_conflict(OnConflict::Ignore).sensor(None);
    let batcher = builder(10).sink(sink).unwrap();
    batcher.add(reading(0)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    server.freeze();
    batcher.add_many((1..100).map(reading)).unwrap();
    assert!(
        batcher.flush(Duration::from_millis(50)).is_err(),
        "nobody answers"
    );
    server.thaw();
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(database.counts(), (100, 100));
}
