//! What one consumer commits, buries, and reads no further.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use load_aware_batcher_streams::load_aware_batcher::{Batch, Batcher, LoadFeedback};
use load_aware_batcher_streams::{Consumer, Delivery, KafkaSource, RecordId, Snapshot};

use crate::setup::{
    GROUP, LONG, Letter, PARTITIONS, REFUSED, SESSION_MS, Setup, TOPIC, consumer, options, rows,
    source, until,
};

fn balanced(books: &Snapshot) {
    let Snapshot {
        read,
        acknowledged,
        buried,
        in_hand,
        left,
        ..
    } = *books;
    assert_eq!(read, acknowledged + buried + in_hand + left, "{books:?}");
}

#[test]
fn every_record_is_one_row_and_a_stop_commits_every_partition_to_its_end() {
    let setup = Setup::new();
    setup.produce(0..6_000);
    // No commit but the last.
    let source = source(&setup.brokers()).commit_every(Duration::from_secs(3_600));
    let consumer = consumer(source, &setup.database);
    until("all are stored", || {
        balanced(&consumer.snapshot());
        consumer.snapshot().acknowledged == 6_000
    });
    let report = consumer.stop(LONG);
    assert!(report.is_clean, "{report:?}");
    balanced(&report.books);
    assert_eq!((report.books.read, report.books.left), (6_000, 0));
    assert_eq!(setup.stored(), rows(6_000));
    assert_eq!(setup.committed(), [1_500; PARTITIONS as usize]);
    assert_eq!(setup.dead(), []);
}

#[test]
fn a_record_that_the_table_refuses_and_one_that_is_no_row_are_dead_letters_once() {
    let setup = Setup::new();
    setup.produce(0..400);
    setup.add(1, &REFUSED.to_string());
    setup.add(2, "nonsense");
    setup.produce(400..800);
    let consumer = consumer(source(&setup.brokers()), &setup.database);
    until("all are read", || {
        let books = consumer.snapshot();
        books.acknowledged + books.buried == 802
    });
    let report = consumer.stop(LONG);
    assert!(report.is_clean && report.books.buried == 2, "{report:?}");
    let stored: Vec<i64> = setup.stored().iter().map(|row| row.2).collect();
    assert_eq!(stored.len(), 800);
    assert!(!stored.contains(&REFUSED));
    // The commit passes what is buried.
    assert_eq!(setup.committed(), [200, 201, 201, 200]);
    let mut dead = setup.dead();
    dead.sort_by(|a, b| a.value.cmp(&b.value));
    let [refused, nonsense] = &dead[..] else {
        panic!("{dead:?}")
    };
    let of = |letter: &Letter, name: &str| {
        let header = letter.headers.iter().find(|(key, _)| key == name);
        header.expect("a header").1.clone()
    };
    assert_eq!((&*refused.key, &*refused.value), ("k", "-1"));
    assert_eq!(of(refused, "dead-id"), "in/1/100");
    assert_eq!(of(refused, "by"), "setup");
    assert_eq!(of(nonsense, "dead-id"), "in/2/100");
    let why = of(nonsense, "dead-why");
    assert!(why.starts_with("field value is \"nonsense\""), "{why}");
}

#[test]
fn without_room_nothing_is_read_and_the_member_stays_in_its_group() {
    let setup = Setup::new();
    setup.produce(0..2_000);
    let (release, busy) = mpsc::channel::<()>();
    let batcher = Batcher::builder()
        .queue_capacity(500)
        .max_batch_size(10)
        .spawn(move |_: &mut Batch<i64>| {
            let _ = busy.recv();
            Ok(LoadFeedback::new())
        });
    // A member that does not poll for so long is put out of its group.
    let source = source(&setup.brokers()).set("max.poll.interval.ms", SESSION_MS);
    let unpolled = Duration::from_millis(SESSION_MS.parse().unwrap());
    let decode = |delivery: &Delivery<RecordId>| delivery.parse::<i64>("value");
    let consumer = Consumer::start(source, batcher.unwrap(), options(), decode).unwrap();
    until("it has read what it may", || {
        consumer.snapshot().in_hand == 500
    });
    let begun = Instant::now();
    until("it would be put out", || {
        let books = consumer.snapshot();
        assert_eq!((books.read, books.in_hand), (500, 500), "{books:?}");
        begun.elapsed() > unpolled * 3 / 2
    });
    drop(release);
    until("all are stored", || {
        consumer.snapshot().acknowledged == 2_000
    });
    let report = consumer.stop(LONG);
    let books = &report.books;
    assert!(report.is_clean, "{report:?}");
    assert_eq!((books.read, books.left, books.source_errors), (2_000, 0, 0));
    assert_eq!(setup.committed(), [500; PARTITIONS as usize]);
}

#[test]
fn what_is_wrong_at_the_start_is_one_sentence() {
    let setup = Setup::new();
    let start = |source: KafkaSource| {
        let batcher = Batcher::builder().spawn(|_: &mut Batch<i64>| Ok(LoadFeedback::new()));
        let decode = |delivery: &Delivery<RecordId>| delivery.parse("value");
        let started = Consumer::start(source, batcher.unwrap(), options(), decode);
        started.err().expect("a refusal").to_string()
    };
    let none = start(KafkaSource::new(setup.brokers(), "none", GROUP));
    assert_eq!(none, "there is no topic none");
    let setting = start(KafkaSource::new(setup.brokers(), TOPIC, GROUP).set("no.setting", "1"));
    assert!(
        setting.starts_with("the Kafka settings are wrong"),
        "{setting}"
    );
}
