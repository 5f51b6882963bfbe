//! What the sink sets on the builder, and what it leaves to the user.

use std::time::Duration;

use load_aware_batcher_postgres::load_aware_batcher::{
    Batcher, Builder, Limits, LoadFeedback, LoadThreshold, Sink,
};
use load_aware_batcher_postgres::postgres::NoTls;
use load_aware_batcher_postgres::{OnConflict, Postgres};
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{Database, KEYED, LONG, Reading, reading, until, wait_for, whole};

#[test]
fn the_sensor_reports_with_declared_signals_and_can_be_turned_off() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut database = Database::new(server, "sensor", KEYED);
    let start = |sink: Postgres<Reading>| {
        let builder = Batcher::builder()
            .policy(LoadThreshold::new())
            .load_check_interval(Duration::from_millis(5));
        builder.sink(sink).unwrap()
    };
    let batcher = start(database.sink());
    wait_for(&batcher, |stats| stats.average_load.is_some());
    assert_eq!(batcher.stats().unknown_signals, 0);
    drop(batcher);
    let batcher = start(database.sink().sensor(None));
    batcher.add(reading(1)).unwrap();
    batcher.flush(LONG).unwrap();
    assert_eq!(batcher.stats().average_load, None);
    assert_eq!(database.counts(), (1, 1));
}

#[test]
fn the_sensor_sees_waiting_locks_and_reports_nothing_while_the_server_is_away() {
    let Some(mut server) = Server::own(&[]) else {
        return;
    };
    let mut database = Database::new(&server, "sensor", KEYED);
    let mut sensor = Sink::sensor(&database.sink()).unwrap();
    let feedback = |waiting| {
        LoadFeedback::new()
            .db_locks(waiting)
            .queue_depth(waiting)
            .custom("deadlocks", 0.0)
            .custom("timeouts", 0.0)
    };
    // It waits a second for an answer and no more.
    until(|| sensor.sample(LoadFeedback::new()) == feedback(0));
    database.run("BEGIN; LOCK TABLE readings");
    let mut second = database.config.connect(NoTls).unwrap();
    let waiting = std::thread::spawn(move || second.batch_execute("SELECT * FROM readings"));
    until(|| sensor.sample(LoadFeedback::new()) == feedback(1));
    database.run("ROLLBACK");
    waiting.join().unwrap().unwrap();
    server.kill();
    let own = LoadFeedback::new().cpu_load(0.5);
    assert_eq!(sensor.sample(own), own);
    server.start();
    until(|| sensor.sample(LoadFeedback::new()) == feedback(0));
}

/// A list of `VALUES` would take three bind parameters a row, and the protocol counts 65 535.
#[test]
fn a_batch_of_forty_thousand_rows_is_one_call_with_or_without_conflicts() {
    let Some(server) = Server::shared() else {
        return;
    };
    for (name, mode) in [
        ("many_ignore", OnConflict::Ignore),
        ("many_replace", OnConflict::Replace),
    ] {
        let mut database = Database::new(server, name, KEYED);
        database.run("INSERT INTO readings VALUES (5, 0, 'there')");
        let sink = database.sink().on_conflict(mode);
        let batcher = whole(40_000).sink(sink).unwrap();
        batcher.add_many((0..40_000).map(reading)).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!(batcher.stats().calls, 1);
        assert_eq!(database.counts(), (40_000, 40_000));
    }
}

#[test]
fn the_sinks_largest_batch_gives_way_to_the_users() {
    let Some(server) = Server::shared() else {
        return;
    };
    let database = Database::new(server, "limits", KEYED);
    let largest = |builder: Builder<Reading>| {
        let batcher = builder.sink(database.sink()).unwrap();
        let mut largest = 0;
        let read = |limits: &mut Limits| largest = limits.max_batch_size;
        batcher.reconfigure(read).unwrap();
        largest
    };
    assert_eq!(largest(Batcher::builder()), 50_000);
    assert_eq!(largest(Batcher::builder().max_batch_size(7)), 7);
}

#[test]
fn long_texts_cut_batches_by_their_weight() {
    let Some(server) = Server::shared() else {
        return;
    };
    let long = |id| Reading {
        text: "x".repeat(1 << 20),
        ..reading(id)
    };
    for (name, calls) in [("weight_held", 2), ("weight_own", 1)] {
        let mut database = Database::new(server, name, KEYED);
        let sink = database.sink();
        let sink = match calls {
            1 => sink.weigh(|_| 1),
            _ => sink,
        };
        let batcher = whole(1_000).sink(sink).unwrap();
        batcher.add_many((0..20).map(long)).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        // 15 rows of a little over 1 MiB are below 16 MiB.
        assert_eq!(batcher.stats().calls, calls, "{name}");
        assert_eq!(database.counts(), (20, 20));
    }
}
