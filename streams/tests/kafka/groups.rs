//! Members of a group that are killed, join and leave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

use load_aware_batcher_streams::load_aware_batcher::{Batch, Batcher, LoadFeedback};
use load_aware_batcher_streams::{Consumer, Delivery, KafkaSource, RecordId};

use crate::child::{Process, STORES};
use crate::setup::{LONG, PARTITIONS, Setup, decode, options, rows, sink, source, until};

#[test]
fn after_a_killed_process_the_next_one_goes_on_from_the_committed_prefix_and_nothing_is_lost() {
    let setup = Setup::new();
    setup.produce(0..4_000);
    let mut killed = Process::start(&setup);
    let sum = |committed: Vec<i64>| committed.iter().sum::<i64>();
    until("it has stored and committed", || {
        setup.stored().len() > STORES - 50 && sum(setup.committed()) > 0
    });
    killed.kill();
    let committed = setup.committed();
    let stored = setup.stored();
    for row in rows(4_000) {
        let is_committed = row.1 < committed[row.0 as usize];
        assert!(
            !is_committed || stored.contains(&row),
            "{row:?} is committed"
        );
    }
    let first: Arc<Mutex<BTreeMap<i32, i64>>> = Arc::default();
    let seen = Arc::clone(&first);
    let sees = move |delivery: &Delivery<RecordId>| {
        let mut seen = seen.lock().unwrap();
        let RecordId {
            partition, offset, ..
        } = delivery.id;
        let least = seen.entry(partition).or_insert(offset);
        *least = offset.min(*least);
        drop(seen);
        decode(delivery)
    };
    let batcher = Batcher::builder()
        .queue_capacity(500)
        .sink(sink(&setup.database));
    let batcher = batcher.expect("the table fits");
    let consumer = Consumer::start(source(&setup.brokers()), batcher, options(), sees).unwrap();
    let open = 4_000 - sum(committed.clone()) as u64;
    until("the rest is stored", || {
        consumer.snapshot().acknowledged == open
    });
    assert!(consumer.stop(LONG).is_clean);
    let first: Vec<i64> = first.lock().unwrap().values().copied().collect();
    assert_eq!(
        first, committed,
        "each partition goes on where it was committed"
    );
    assert_eq!(setup.stored(), rows(4_000));
    assert_eq!(setup.committed(), [1_000; PARTITIONS as usize]);
}

/// How often each record was handled.
type Handled = Arc<Mutex<BTreeMap<(i32, i64), u32>>>;

fn counting(source: KafkaSource, handled: &Handled, gate: Option<mpsc::Receiver<()>>) -> Consumer {
    let handled = Arc::clone(handled);
    let batcher = Batcher::builder()
        .queue_capacity(2_000)
        .max_batch_size(50)
        .spawn(move |batch: &mut Batch<(i32, i64)>| {
            if let Some(gate) = &gate {
                let _ = gate.recv();
            }
            let mut handled = handled.lock().unwrap();
            for id in batch.iter() {
                *handled.entry(*id).or_default() += 1;
            }
            Ok(LoadFeedback::new())
        });
    let id = |delivery: &Delivery<RecordId>| {
        Ok::<_, String>((delivery.id.partition, delivery.id.offset))
    };
    Consumer::start(source, batcher.unwrap(), options().capacity(2_000), id).unwrap()
}

#[test]
fn what_is_in_hand_is_stored_and_committed_before_its_partition_moves() {
    const ALL: usize = 2_000;
    let setup = Setup::new();
    setup.produce(0..ALL as i64);
    let handled = Handled::default();
    let (release, gate) = mpsc::channel::<()>();
    let first = counting(source(&setup.brokers()), &handled, Some(gate));
    // Records of every partition, all of them submitted.
    until("the first has all in hand", || {
        first.snapshot().in_hand == ALL as u64
    });
    let second = counting(source(&setup.brokers()), &handled, None);
    until("the group wants partitions back", || {
        let why = first.snapshot().waiting_for;
        why.is_some_and(|why| why == "the log gives entries to another consumer")
    });
    assert_eq!(second.snapshot().read, 0, "what is in hand has not moved");
    drop(release);
    until("all are handled", || {
        let open = first.snapshot().in_hand + second.snapshot().in_hand;
        open == 0 && handled.lock().unwrap().len() == ALL
    });
    // The partitions have moved: what is added is read by both.
    until("the second reads", || {
        setup.produce(0..4);
        second.snapshot().acknowledged > 0
    });
    let reports = [first.stop(LONG), second.stop(LONG)];
    assert!(reports.iter().all(|report| report.is_clean), "{reports:?}");
    // The mock refuses commits while members join, where a broker takes them. The source repeats them
    // for some seconds, and then the next owner begins where the last commit was.
    if reports[0].books.source_errors == 0 {
        let handled = handled.lock().unwrap();
        let twice = handled.values().filter(|n| **n > 1).count();
        assert_eq!(twice, 0, "of {}: {reports:?}", handled.len());
    }
}

#[test]
fn members_that_come_and_go_by_stopping_the_whole_group_lose_nothing() {
    let setup = Setup::new();
    setup.produce(0..2_000);
    let handled = Handled::default();
    // Every change of the group takes every partition from every member.
    let eager = || source(&setup.brokers()).set("partition.assignment.strategy", "range");
    let first = counting(eager(), &handled, None);
    until("the first reads", || first.snapshot().acknowledged > 0);
    let second = counting(eager(), &handled, None);
    let mut n = 2_000;
    until("the second reads too", || {
        setup.produce(n..n + 40);
        n += 40;
        second.snapshot().acknowledged > 0
    });
    assert!(first.stop(LONG).is_clean);
    setup.produce(n..n + 400);
    n += 400;
    until("all are handled", || {
        handled.lock().unwrap().len() as i64 == n && second.snapshot().in_hand == 0
    });
    let report = second.stop(LONG);
    assert!(report.is_clean, "{report:?}");
    assert_eq!(setup.committed().iter().sum::<i64>(), n);
}
