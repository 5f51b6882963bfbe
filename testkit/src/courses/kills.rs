//! Rows are added without a pause while the server is killed again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use load_aware_batcher::{Batcher, Outcome, Ticket};

use super::NET;

/// Closes the batcher if the test fails, so that blocked adds return and the failure shows.
pub struct CloseOnPanic<'a, T: Send + 'static>(pub &'a Batcher<T>);

impl<T: Send + 'static> Drop for CloseOnPanic<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.shutdown(Duration::ZERO));
        }
    }
}

/// Pseudo-random numbers from the clock. The seed is printed, for a failure.
pub struct Random(u64);

impl Random {
    pub fn from_clock() -> Self {
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
/// each time in the middle of the traffic. After each restart every row that was acknowledged
/// before the kill is there: `stored_to(id)` counts the rows up to that id. Returns how many rows
/// must be stored in the end. All were handled.
pub fn survive_kills<T: Send + 'static>(
    batcher: &Batcher<T>,
    row: impl Fn(i64) -> T + Send,
    mut kill_and_restart: impl FnMut(),
    mut stored_to: impl FnMut(i64) -> i64,
) -> i64 {
    let stop = AtomicBool::new(false);
    let mut random = Random::from_clock();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(batcher);
        // In this scope, so that a failure drops the receiver and thereby ends the thread that
        // adds.
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
        // Tickets are waited for in the order of their rows, so one number says which are resolved.
        // With several calls at once later ones may be resolved too.
        let mut handled = -1;
        let mut pending = None;
        let mut resolve = |until: &dyn Fn(i64) -> bool, wait: Duration| {
            while !until(handled) {
                let next = pending.take().or_else(|| submitted.recv_timeout(wait).ok());
                let Some((id, ticket)): Option<(i64, Ticket)> = next else {
                    return handled;
                };
                match ticket.wait_timeout(wait) {
                    Some(outcome) => {
                        if outcome != Outcome::Handled {
                            let failed = batcher.take_failed();
                            let error = failed.first().map(|failed| failed.error.to_string());
                            panic!("row {id} is {outcome:?}: {error:?}");
                        }
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
            // Waits for traffic, and then for a random moment.
            let before = resolve(&|_| true, NET);
            let seen = resolve(&|now| now > before, NET);
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
            resolve(&|_| adding.is_finished(), NET);
            adding.join().expect("the adding thread")
        };
        assert_eq!(
            resolve(&|now| now + 1 == rows, NET),
            rows - 1,
            "{:#?}",
            batcher.stats()
        );
        rows
    })
}
