//! Processes and servers that are killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use load_aware_batcher_streams::redis;

use crate::child::Process;
use crate::setup::{ABORTS, Setup, produce, until};

/// The same numbers in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn scale() -> u64 {
    let text = std::env::var("STREAM_KILLS_SCALE");
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn killed_consumers_and_servers_lose_nothing_double_nothing_and_bury_nothing() {
    let Some(mut setup) = Setup::new() else {
        return;
    };
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let url = setup.redis.url();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Adds on while everything is killed; an add without an answer may be in the stream twice.
        let done = &done;
        scope.spawn(move || {
            let client = redis::Client::open(url.as_str()).expect("its address");
            let mut con = None;
            let mut n = 0;
            while !done.load(Ordering::SeqCst) {
                if con.is_none() {
                    con = client.get_connection().ok();
                }
                let added = con
                    .as_mut()
                    .is_some_and(|open| produce(open, n..n + 200).is_ok());
                match added {
                    true => n += 200,
                    false => con = None,
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut names = 3;
        let mut consumers: Vec<(String, Process)> = (0..3)
            .map(|number| format!("c{number}"))
            .map(|name| (name.clone(), Process::start(&setup, &name)))
            .collect();
        for round in 0..20 * scale() {
            std::thread::sleep(Duration::from_millis(20 + chance.below(280)));
            let (name, consumer) = consumers.swap_remove(chance.below(3) as usize);
            consumer.kill();
            // Half return under their name, half as new ones.
            let name = match chance.below(2) {
                0 => name,
                _ => {
                    names += 1;
                    format!("c{names}")
                }
            };
            consumers.push((name.clone(), Process::start(&setup, &name)));
            if round % 2 == 1 {
                setup.redis.kill();
                setup.redis.start();
            }
            if round % 4 == 2 {
                setup.database.kill();
                setup.database.start();
            }
        }
        done.store(true, Ordering::SeqCst);
        until("the stream is drained", || {
            // One that found a server down at its start has ended, and is started again.
            for (name, consumer) in &mut consumers {
                if consumer.has_ended() {
                    *consumer = Process::start(&setup, name);
                }
            }
            setup.is_drained()
        });
        for (name, consumer) in consumers {
            assert!(consumer.stop(), "the report of {name} is clean");
        }
    });
    let (rows, _) = setup.stored();
    assert!(rows >= 2_000, "{rows}");
    assert_eq!(rows, setup.entries(), "each entry is one row");
    assert_eq!(setup.dead(), [], "what is innocent is not buried");
    assert_eq!(setup.pending(), 0);
}

#[test]
fn a_frozen_consumer_that_wakes_after_its_entries_were_claimed_changes_nothing() {
    let Some(setup) = Setup::new() else { return };
    let frozen = Process::start(&setup, "frozen");
    produce(&mut setup.con(), 0..2_000).unwrap();
    until("it stores", || setup.stored().0 > 0);
    produce(&mut setup.con(), 2_000..6_000).unwrap();
    freeze_outside_a_transaction(&setup, &frozen);
    let other = Process::start(&setup, "other");
    until("the other has stored all", || setup.is_drained());
    frozen.signal("CONT");
    assert!(frozen.stop() && other.stop());
    assert_eq!(setup.stored(), (6_000, (0..6_000).sum()));
    assert_eq!((setup.dead(), setup.pending()), (Vec::new(), 0));
}

/// Within one it would keep its rows locked, and the other would wait for it.
fn freeze_outside_a_transaction(setup: &Setup, process: &Process) {
    let count = |states: &str| -> i64 {
        let sessions = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = 'streams' AND pid <> pg_backend_pid() AND (state";
        let row = setup
            .client()
            .query_one(&format!("{sessions} {states})"), &[]);
        row.expect("the sessions").get(0)
    };
    until("it is frozen outside a transaction", || {
        process.signal("STOP");
        // A statement that waits for data of the frozen process does not end.
        let deadline = Instant::now() + Duration::from_secs(1);
        while count("= 'active'") > 0 && Instant::now() < deadline {}
        if count("= 'active' OR state LIKE 'idle in transaction%'") == 0 {
            return true;
        }
        process.signal("CONT");
        false
    });
}

#[test]
fn an_entry_that_ends_its_process_is_buried_and_its_neighbours_are_stored() {
    let Some(setup) = Setup::new() else { return };
    produce(&mut setup.con(), (0..20).chain([ABORTS]).chain(20..40)).unwrap();
    let mut consumer = Process::start(&setup, "c");
    let mut starts = 1;
    until("the stream is drained", || {
        if consumer.has_ended() {
            starts += 1;
            consumer = Process::start(&setup, "c");
        }
        setup.is_drained()
    });
    assert!(consumer.stop());
    assert!(starts > 2, "{starts}");
    assert_eq!(setup.stored(), (40, (0..40).sum()));
    let [(n, why)] = &setup.dead()[..] else {
        panic!("{:?}", setup.dead())
    };
    assert_eq!(
        (n.as_str(), why.as_str()),
        (
            &*ABORTS.to_string(),
            "2 processes ended while it was submitted alone"
        )
    );
}
