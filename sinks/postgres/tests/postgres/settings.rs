//! What the sink sets on the builder, and what it leaves to the user.

use std::time::Duration;

use load_aware_batcher_postgres::Postgres;
use load_aware_batcher_postgres::load_aware_batcher::{Batcher, Builder, Limits, LoadThreshold};
use testkit::servers::postgres::Postgres as Server;

use crate::rows::{Database, KEYED, LONG, Reading, reading, wait_for, whole};

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
