//! A handler from a factory: when it is replaced, and what happens to the rows meanwhile.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, BuildError, LoadFeedback, Outcome, Retry};
use testkit::{LONG, ends, fixed, until};

/// The default patience, with short waits.
fn briskly() -> Retry {
    Retry::default().backoff(Duration::from_millis(1), Duration::from_millis(5))
}

type Calls = Arc<Mutex<Vec<(u64, Vec<u64>)>>>;

#[test]
fn a_panic_of_the_handler_makes_another_one() {
    ends(|| {
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let batcher = fixed(1)
            .retry(briskly())
            .spawn_workers(move |worker| {
                let (seen, mut open) = (Arc::clone(&seen), false);
                assert_eq!(worker.index(), 0);
                Ok::<_, io::Error>(move |batch: &mut Batch<u64>| {
                    seen.lock().unwrap().push((worker.times(), batch.to_vec()));
                    // The panic leaves a transaction open.
                    assert!(
                        !std::mem::replace(&mut open, true),
                        "BEGIN inside a transaction"
                    );
                    if batch[0] == 2 && worker.times() == 0 {
                        std::panic::resume_unwind(Box::new("between BEGIN and COMMIT"));
                    }
                    open = false;
                    Ok(LoadFeedback::new())
                })
            })
            .unwrap();
        for row in 1..=3 {
            assert_eq!(batcher.submit(row).unwrap().wait(), Outcome::Handled);
        }
        let stats = batcher.stats();
        assert_eq!(
            (stats.handled, stats.failed, stats.handler_panics),
            (3, 0, 1)
        );
        assert_eq!(
            *calls.lock().unwrap(),
            [(0, vec![1]), (0, vec![2]), (1, vec![2]), (1, vec![3])]
        );
    });
}

#[test]
fn an_error_marked_handler_broken_makes_another_one_before_the_next_call() {
    ends(|| {
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let batcher = fixed(1)
            .retry(briskly())
            .spawn_workers(move |worker| {
                let seen = Arc::clone(&seen);
                Ok::<_, io::Error>(move |batch: &mut Batch<u64>| {
                    let mut seen = seen.lock().unwrap();
                    let attempts = seen
                        .iter()
                        .filter(|(_, rows)| *rows == batch.to_vec())
                        .count();
                    seen.push((worker.times(), batch.to_vec()));
                    match (batch[0], attempts) {
                        (1, 0) => Err(BatchError::transient("a deadlock")),
                        (2, 0) => Err(BatchError::unavailable("read-only").handler_broken()),
                        (3, 0) => Err(BatchError::permanent("too long").handler_broken()),
                        _ => Ok(LoadFeedback::new()),
                    }
                })
            })
            .unwrap();
        assert_eq!(batcher.submit(1).unwrap().wait(), Outcome::Handled);
        assert_eq!(batcher.submit(2).unwrap().wait(), Outcome::Handled);
        assert!(matches!(
            batcher.submit(3).unwrap().wait(),
            Outcome::Failed(_)
        ));
        assert_eq!(batcher.submit(4).unwrap().wait(), Outcome::Handled);
        let expected =
            [(0, 1), (0, 1), (0, 2), (1, 2), (1, 3), (2, 4)].map(|(times, row)| (times, vec![row]));
        assert_eq!(*calls.lock().unwrap(), expected);
    });
}

#[test]
fn the_old_handler_is_dropped_before_the_next_one_is_made() {
    struct Lock(Arc<AtomicUsize>);
    impl Drop for Lock {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    ends(|| {
        let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (holders, peak) = (Arc::clone(&held), Arc::clone(&most));
        let batcher = fixed(1)
            .retry(briskly())
            .spawn_workers(move |worker| {
                peak.fetch_max(holders.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let lock = Lock(Arc::clone(&holders));
                Ok::<_, io::Error>(move |_: &mut Batch<u64>| {
                    let _ = &lock;
                    if worker.times() < 3 {
                        return Err(BatchError::new("broken pipe").handler_broken());
                    }
                    Ok(LoadFeedback::new())
                })
            })
            .unwrap();
        assert_eq!(batcher.submit(1).unwrap().wait(), Outcome::Handled);
        assert_eq!(
            (held.load(Ordering::SeqCst), most.load(Ordering::SeqCst)),
            (1, 1)
        );
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(
            held.load(Ordering::SeqCst),
            0,
            "the last one is dropped by the close"
        );
    });
}

/// A server that loses its connections when it restarts.
#[derive(Default)]
struct Server {
    down: AtomicBool,
    /// How often it has restarted. Connections from before the last restart are dead.
    age: AtomicUsize,
}

struct Connection {
    server: Arc<Server>,
    age: usize,
}

impl Connection {
    fn open(server: &Arc<Server>) -> io::Result<Self> {
        if server.down.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Self {
            server: Arc::clone(server),
            age: server.age.load(Ordering::SeqCst),
        })
    }

    fn insert(&mut self, _: &[u64]) -> io::Result<()> {
        if self.server.down.load(Ordering::SeqCst)
            || self.age != self.server.age.load(Ordering::SeqCst)
        {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

#[test]
fn a_dead_connection_that_is_reported_with_a_plain_question_mark_is_replaced() {
    ends(|| {
        let server = Arc::new(Server::default());
        let backend = Arc::clone(&server);
        let batcher = Batcher::builder()
            .initial_batch_size(4)
            .retry(briskly())
            .spawn_workers(move |_| {
                let mut connection = Connection::open(&backend)?;
                Ok::<_, io::Error>(move |batch: &mut Batch<u64>| {
                    connection.insert(batch)?;
                    Ok(LoadFeedback::new())
                })
            })
            .unwrap();
        batcher.add_many(0..10).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        server.down.store(true, Ordering::SeqCst);
        batcher.add_many(10..20).unwrap();
        // The factory has failed as well.
        until(&batcher, |stats| stats.failed_calls.unavailable >= 2);
        server.age.fetch_add(1, Ordering::SeqCst);
        server.down.store(false, Ordering::SeqCst);
        assert_eq!(batcher.flush(LONG), Ok(()));
        let stats = batcher.stats();
        assert_eq!((stats.handled, stats.failed), (20, 0));
    });
}

#[test]
fn a_connection_that_died_in_a_restart_nobody_noticed_is_replaced() {
    ends(|| {
        let server = Arc::new(Server::default());
        let backend = Arc::clone(&server);
        let batcher = fixed(4)
            .retry(briskly())
            .spawn_workers(move |_| {
                let mut connection = Connection::open(&backend)?;
                Ok::<_, io::Error>(move |batch: &mut Batch<u64>| {
                    connection.insert(batch)?;
                    Ok(LoadFeedback::new())
                })
            })
            .unwrap();
        for round in 0..3 {
            batcher.add_many(round * 4..round * 4 + 4).unwrap();
            assert_eq!(batcher.flush(LONG), Ok(()), "after {round} restarts");
            server.age.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!((batcher.stats().handled, batcher.stats().failed), (12, 0));
    });
}

#[test]
fn a_factory_that_fails_or_panics_for_a_while_is_waited_for() {
    ends(|| {
        let (up, asked) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (is_up, times) = (Arc::clone(&up), Arc::clone(&asked));
        // Refused connections do not count as attempts.
        let batcher = fixed(2)
            .retry(Retry::attempts(2).backoff(Duration::from_millis(1), Duration::from_millis(2)))
            .spawn_workers(move |worker| {
                times.fetch_add(1, Ordering::SeqCst);
                if !is_up.load(Ordering::SeqCst) {
                    if worker.times() % 2 == 0 {
                        std::panic::resume_unwind(Box::new("no route to host"));
                    }
                    return Err(io::Error::other("no route to host"));
                }
                Ok(move |_: &mut Batch<u64>| {
                    if worker.times() == 0 {
                        return Err(BatchError::transient("broken pipe").handler_broken());
                    }
                    Ok(LoadFeedback::new())
                })
            })
            .unwrap();
        up.store(false, Ordering::SeqCst);
        batcher.add_many([1, 2]).unwrap();
        let stats = until(&batcher, |_| asked.load(Ordering::SeqCst) > 10);
        assert_eq!(
            (stats.failed, stats.pending, stats.handler_panics),
            (0, 2, 0)
        );
        let retrying = until(&batcher, |stats| stats.retrying.is_some())
            .retrying
            .unwrap();
        assert_eq!(retrying.error.to_string(), "no route to host");
        up.store(true, Ordering::SeqCst);
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!((batcher.stats().handled, batcher.stats().failed), (2, 0));
    });
}

#[test]
fn the_first_handler_that_cannot_be_made_is_an_error_of_the_builder() {
    ends(|| {
        let refused = Batcher::<u64>::builder().spawn_workers(|_| {
            let refused = Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            refused.map(|()| |_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        });
        match refused.err() {
            Some(BuildError::Handler {
                source: Some(source),
                ..
            }) => {
                let source = source.downcast_ref::<io::Error>().map(io::Error::kind);
                assert_eq!(source, Some(io::ErrorKind::ConnectionRefused));
            }
            other => panic!("{other:?}"),
        }
        let panicked = Batcher::<u64>::builder().spawn_workers(|_| {
            std::panic::resume_unwind(Box::new("no configuration"));
            #[allow(unreachable_code, reason = "it says what is made")]
            Ok::<_, io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        });
        let error = panicked.expect_err("the factory panicked");
        assert!(error.to_string().contains("no configuration"), "{error}");
    });
}

#[test]
fn bad_rows_are_no_reason_for_another_handler() {
    ends(|| {
        let made = Arc::new(AtomicUsize::new(0));
        let times = Arc::clone(&made);
        let batcher = fixed(8)
            .retry(briskly())
            .spawn_workers(move |_| {
                times.fetch_add(1, Ordering::SeqCst);
                Ok::<_, io::Error>(|batch: &mut Batch<u64>| {
                    if batch.contains(&3) {
                        return Err(BatchError::new("a value out of range"));
                    }
                    Ok(LoadFeedback::new())
                })
            })
            .unwrap();
        batcher.add_many(0..8).unwrap();
        assert!(batcher.flush(LONG).is_err());
        assert_eq!((batcher.stats().handled, batcher.stats().failed), (7, 1));
        assert_eq!(made.load(Ordering::SeqCst), 1);
    });
}
