//! Courses of events that are the same for every server, with the examples' rows.
#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use load_aware_batcher::{Batcher, Outcome, Retry, Stats};

use crate::ingest::once::Once;
use crate::ingest::rows::Row;

/// A net for what should come soon. No test asserts how soon.
pub const LONG: Duration = Duration::from_secs(120);

pub fn row(id: i64) -> Row {
    Row {
        id,
        value: id as f64 / 4.0,
        text: format!("reading number {id}"),
    }
}

/// As often as it takes: a server may need longer to come back than the examples wait for it.
pub fn patient(once: Once) -> Retry {
    Retry::attempts(u32::MAX)
        .backoff(Duration::from_millis(20), Duration::from_secs(2))
        .total_limit(LONG * 10)
        .split_on_retry(true)
        .bisect(once != Once::BatchTable)
}

/// How often something was tried again, as it was or in halves.
pub fn tried_again(stats: &Stats) -> u64 {
    stats.retries + stats.split_retries
}

/// Looks until it is so.
pub fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the batcher shows what is expected.
pub fn wait_for(batcher: &Batcher<Row>, expected: impl Fn(&Stats) -> bool) {
    let begun = Instant::now();
    while !expected(&batcher.stats()) {
        assert!(begun.elapsed() < LONG, "not seen: {:#?}", batcher.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Of a thousand rows that go in one batch, the backend refuses one: it alone fails, for good.
pub fn one_poisoned_row_fails_alone(batcher: &Batcher<Row>) {
    batcher
        .add_many((0..1_000).map(|id| Row {
            value: if id == 617 { -1.0 } else { 1.0 },
            ..row(id)
        }))
        .unwrap();
    assert_eq!(
        batcher.flush(LONG).unwrap_err().to_string(),
        "1 flushed items failed"
    );
    let failed = batcher.take_failed();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].item.id, 617);
    assert!(
        failed[0].error.is_permanent() && !failed[0].in_doubt,
        "{:?}",
        failed[0]
    );
}

/// Closes the batcher if the test fails, so that threads which add come back and the failure shows.
pub struct CloseOnPanic<'a>(pub &'a Batcher<Row>);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.shutdown(Duration::ZERO));
        }
    }
}

/// Pseudo-random numbers from the clock; the seed is printed, for a failure.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let seed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |time| time.as_nanos() as u64)
            | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// How often servers are killed: `KILLS`, or 50.
pub fn kills() -> u64 {
    std::env::var("KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(50)
}

/// Adds rows 0, 1, 2 … without a pause while the server is killed and restarted at random moments,
/// each time in the middle of the traffic. After each restart every row whose ticket said "handled"
/// before the kill must be there: `stored_to(id)` counts the rows up to that id. Returns how many
/// rows there are to be at the end; all were handled.
pub fn survive_kills(
    batcher: &Batcher<Row>,
    mut kill_and_restart: impl FnMut(),
    mut stored_to: impl FnMut(i64) -> i64,
) -> i64 {
    let stop = AtomicBool::new(false);
    let mut random = Random::new();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(batcher);
        // In here, so that a failure drops the receiver and so ends the thread that adds.
        let (tickets, submitted) = std::sync::mpsc::sync_channel(100_000);
        let (producer, stop) = (batcher.producer(), &stop);
        let adding = scope.spawn(move || {
            let mut id = 0;
            while !stop.load(Ordering::SeqCst) {
                let Ok(ticket) = producer.submit(row(id)) else {
                    break;
                };
                if tickets.send((id, ticket)).is_err() {
                    break;
                }
                id += 1;
            }
            id
        });
        // Rows are handled in order, so one number says which tickets are resolved.
        let mut handled = -1;
        let mut pending = None;
        let mut resolve = |until: &dyn Fn(i64) -> bool, wait: Duration| {
            while !until(handled) {
                let next = pending.take().or_else(|| submitted.recv_timeout(wait).ok());
                let Some((id, ticket)): Option<(i64, load_aware_batcher::Ticket)> = next else {
                    return handled;
                };
                match ticket.wait_timeout(wait) {
                    Some(outcome) => {
                        assert_eq!(
                            outcome,
                            Outcome::Handled,
                            "row {id}: {:?}",
                            batcher.take_failed().first()
                        );
                        assert_eq!(id, handled + 1);
                        handled = id;
                    }
                    None => {
                        pending = Some((id, ticket));
                        return handled;
                    }
                }
            }
            handled
        };
        for kill in 0..kills() {
            // Traffic again, then a moment that nobody chose.
            let before = resolve(&|_| true, LONG);
            let seen = resolve(&|now| now > before, LONG);
            assert!(
                seen > before,
                "no traffic after kill {kill}: {:#?}",
                batcher.stats()
            );
            std::thread::sleep(Duration::from_micros(random.below(60_000)));
            let promised = resolve(&|_| false, Duration::ZERO);
            kill_and_restart();
            let there = stored_to(promised);
            assert_eq!(there, promised + 1, "after kill {kill}");
        }
        stop.store(true, Ordering::SeqCst);
        let rows = {
            resolve(&|_| adding.is_finished(), LONG);
            adding.join().expect("the adding thread")
        };
        assert_eq!(
            resolve(&|now| now + 1 == rows, LONG),
            rows - 1,
            "{:#?}",
            batcher.stats()
        );
        rows
    })
}
