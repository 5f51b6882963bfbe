//! What is acknowledged, buried, left, and read no further, in one process.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher_streams::load_aware_batcher::{
    Batch, BatchError, Batcher, LoadFeedback, Retry,
};
use load_aware_batcher_streams::redis::{Commands, cmd};
use load_aware_batcher_streams::{Consumer, RedisSource, Snapshot};
use testkit::servers::redis::Redis;

use crate::setup::{CLAIM, LONG, REFUSED, Setup, consumer, options, produce, source, until};

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
fn a_row_that_the_table_refuses_and_an_entry_that_is_no_row_are_buried_once_and_the_rest_is_stored()
{
    let Some(setup) = Setup::new() else { return };
    let mut con = setup.con();
    produce(&mut con, (0..700).chain([REFUSED]).chain(700..1_000)).unwrap();
    let _: String = con.xadd("in", "*", &[("m", 1)]).unwrap();
    let consumer = consumer(&setup.redis.url(), setup.config.clone(), "c");
    until("the stream is drained", || {
        balanced(&consumer.snapshot());
        setup.is_drained()
    });
    let report = consumer.stop(LONG);
    assert!(report.is_clean, "{report:?}");
    balanced(&report.books);
    assert_eq!((report.books.acknowledged, report.books.buried), (1_000, 2));
    assert_eq!(setup.stored(), (1_000, (0..1_000).sum()));
    let mut dead = setup.dead();
    dead.sort();
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert_eq!(
        dead[0],
        (String::new(), "the entry has no field n".to_owned())
    );
    assert_eq!(dead[1].0, "-1");
}

#[test]
fn a_stopped_consumer_leaves_nothing_pending_and_no_consumer() {
    let Some(setup) = Setup::new() else { return };
    produce(&mut setup.con(), 0..20_000).unwrap();
    let consumer = consumer(&setup.redis.url(), setup.config.clone(), "c");
    until("some are stored", || consumer.snapshot().acknowledged > 0);
    let report = consumer.stop(LONG);
    assert!(report.is_clean, "{report:?}");
    assert_eq!(setup.pending(), 0);
    assert_eq!(setup.stored().0, report.books.acknowledged as i64);
    let consumers: Vec<Vec<(String, String)>> = cmd("XINFO")
        .arg("CONSUMERS")
        .arg("in")
        .arg("g")
        .query(&mut setup.con())
        .unwrap();
    assert!(consumers.is_empty(), "{consumers:?}");
}

#[test]
fn a_backend_that_does_not_answer_bounds_what_is_read_and_others_claim_nothing() {
    let Some(redis) = Redis::own(&[]) else { return };
    let client = load_aware_batcher_streams::redis::Client::open(redis.url()).unwrap();
    let mut con = client.get_connection().unwrap();
    produce(&mut con, 0..2_000).unwrap();
    let (release, busy) = mpsc::channel::<()>();
    let slow = Batcher::builder()
        .queue_capacity(500)
        .max_batch_size(10)
        .spawn(move |_: &mut Batch<i64>| {
            let _ = busy.recv();
            Ok(LoadFeedback::new())
        });
    let decode = |delivery: &load_aware_batcher_streams::Delivery<_>| delivery.parse::<i64>("n");
    let slow_source = source(&redis.url(), "slow").create_group();
    let slow = Consumer::start(slow_source, slow.unwrap(), options(), decode).unwrap();
    until("it has read what it may", || slow.snapshot().in_hand == 500);
    let fast = Batcher::builder()
        .spawn(|_: &mut Batch<i64>| Ok(LoadFeedback::new()))
        .unwrap();
    let fast = Consumer::start(source(&redis.url(), "fast"), fast, options(), decode).unwrap();
    until("the other has the rest", || {
        fast.snapshot().acknowledged == 1_500
    });
    // Two claim times: what is in hand is refreshed, so nobody takes it.
    let times = || -> Vec<(String, String, u64, u64)> {
        let mut command = cmd("XPENDING");
        command.arg("in").arg("g").arg("-").arg("+").arg(1_000);
        command
            .query(&mut client.get_connection().unwrap())
            .unwrap()
    };
    let begun = std::time::Instant::now();
    until("two claim times", || begun.elapsed() > CLAIM * 2);
    let pending = times();
    assert_eq!(pending.len(), 500);
    assert!(
        pending
            .iter()
            .all(|(_, name, _, times)| name == "slow" && *times == 1),
        "{pending:?}"
    );
    assert_eq!(slow.snapshot().in_hand, 500);
    drop(release);
    assert!(slow.stop(LONG).is_clean && fast.stop(LONG).is_clean);
    assert!(times().is_empty());
}

#[test]
fn an_outage_of_the_backend_buries_nothing_and_all_is_stored_after_it() {
    let Some(redis) = Redis::own(&[]) else { return };
    let client = load_aware_batcher_streams::redis::Client::open(redis.url()).unwrap();
    produce(&mut client.get_connection().unwrap(), 0..300).unwrap();
    let (tell, told) = mpsc::channel();
    let mut refusals = 25;
    let batcher = Batcher::builder()
        .idempotent(true)
        .retry(Retry::attempts(2).backoff(Duration::from_millis(1), Duration::from_millis(2)))
        .spawn(move |batch: &mut Batch<i64>| {
            if refusals > 0 {
                refusals -= 1;
                return Err(BatchError::transient("the backend is away"));
            }
            tell.send(batch.len()).unwrap();
            Ok(LoadFeedback::new())
        });
    let source = source(&redis.url(), "c").create_group();
    let decode = |delivery: &load_aware_batcher_streams::Delivery<_>| delivery.parse::<i64>("n");
    let consumer = Consumer::start(source, batcher.unwrap(), options(), decode).unwrap();
    until("all are stored", || consumer.snapshot().acknowledged == 300);
    let report = consumer.stop(LONG);
    assert!(report.is_clean && report.books.buried == 0, "{report:?}");
    assert!(report.books.resubmitted > 0, "{report:?}");
    assert_eq!(told.iter().sum::<usize>(), 300);
}

#[test]
fn trimming_keeps_what_any_group_has_not_read_or_acknowledged() {
    let Some(setup) = Setup::new() else { return };
    let mut con = setup.con();
    produce(&mut con, 0..1_000).unwrap();
    let _: () = con.xgroup_create("in", "other", "0").unwrap();
    let _: load_aware_batcher_streams::redis::Value = cmd("XREADGROUP")
        .arg("GROUP")
        .arg("other")
        .arg("x")
        .arg("COUNT")
        .arg(300)
        .arg("STREAMS")
        .arg("in")
        .arg(">")
        .query(&mut con)
        .unwrap();
    let batcher = Batcher::builder()
        .spawn(|_: &mut Batch<i64>| Ok(LoadFeedback::new()))
        .unwrap();
    let source = source(&setup.redis.url(), "c").trim_every(Duration::from_millis(50));
    let decode = |delivery: &load_aware_batcher_streams::Delivery<_>| delivery.parse::<i64>("n");
    let consumer = Consumer::start(source, batcher, options(), decode).unwrap();
    until("its group is drained", || {
        consumer.snapshot().acknowledged == 1_000
    });
    let pending: Vec<(String, String, u64, u64)> = cmd("XPENDING")
        .arg("in")
        .arg("other")
        .arg("-")
        .arg("+")
        .arg(300)
        .query(&mut con)
        .unwrap();
    let acknowledged: Vec<String> = pending[..200].iter().map(|row| row.0.clone()).collect();
    let _: u64 = con.xack("in", "other", &acknowledged).unwrap();
    until("what both have done is gone", || setup.entries() == 800);
    assert!(consumer.stop(LONG).is_clean);
    assert_eq!(setup.entries(), 800);
}

#[test]
fn what_is_wrong_at_the_start_is_one_sentence() {
    let Some(setup) = Setup::new() else { return };
    let url = setup.redis.url();
    let _: () = setup.con().set("text", "x").unwrap();
    let start = |source: RedisSource| {
        let batcher = Batcher::builder().spawn(|_: &mut Batch<i64>| Ok(LoadFeedback::new()));
        let decode = |delivery: &load_aware_batcher_streams::Delivery<_>| delivery.parse("n");
        let started = Consumer::start(source, batcher.unwrap(), options(), decode);
        started.err().expect("a refusal").to_string()
    };
    assert_eq!(
        start(RedisSource::new(&url, "none", "g", "c")),
        "there is no stream none"
    );
    assert_eq!(
        start(RedisSource::new(&url, "text", "g", "c")),
        "the key text is no stream"
    );
    let created = start(RedisSource::new(&url, "none", "g", "c").create_group());
    assert_eq!(created, "there is no stream none");
    let group = start(RedisSource::new(&url, "in", "h", "c"));
    assert_eq!(group, "there is no stream in with a group h");
    let address = start(RedisSource::new("nonsense", "in", "g", "c"));
    assert!(address.starts_with("the Redis URL is wrong"), "{address}");
}
