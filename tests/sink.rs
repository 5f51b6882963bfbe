//! Sinks complete the settings, connect before the start, and connect again.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, BuildError, Builder, Fixed, Handler, LoadFeedback, Retry, Sensor,
    Sink, SinkError, Worker,
};

const LONG: Duration = Duration::from_secs(60);

/// Stores numbers in a sum; its connections break.
#[derive(Clone, Default)]
struct Sums {
    /// Whether it reports a missing table.
    no_table: bool,
    /// Whether it cannot be reached at the start.
    unreachable: bool,
    sum: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    /// The connections so far are dead at their first call.
    dead: u64,
}

struct Connection {
    sum: Arc<AtomicU64>,
    is_dead: bool,
}

impl Sink<u64> for Sums {
    type Handler = Connection;

    fn configure(&self, builder: Builder<u64>) -> Result<Builder<u64>, SinkError> {
        if self.no_table {
            return Err(SinkError::new("there is no table \"sums\""));
        }
        Ok(builder
            .default_max_batch_size(50_000)
            .default_max_batch_weight(100, |_| 1)
            .idempotent(true)
            .custom_signal("sums", 0.5))
    }

    fn connect(&self, worker: Worker) -> Result<Connection, BatchError> {
        if self.unreachable {
            return Err(BatchError::unavailable("nobody listens on port 5"));
        }
        self.connections.fetch_add(1, Ordering::SeqCst);
        Ok(Connection {
            sum: Arc::clone(&self.sum),
            is_dead: worker.times() < self.dead,
        })
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        Some(Box::new(|feedback: LoadFeedback| {
            feedback.cpu_load(0.5).custom("sums", 0.5)
        }))
    }
}

impl Handler<u64> for Connection {
    fn handle(&mut self, batch: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
        if self.is_dead {
            return Err(BatchError::transient("connection reset").handler_broken());
        }
        self.sum.fetch_add(batch.iter().sum(), Ordering::SeqCst);
        Ok(LoadFeedback::new())
    }
}

#[test]
fn a_sink_writes_what_is_added() {
    let sink = Sums::default();
    let batcher = Batcher::builder().sink(sink.clone()).expect("it starts");
    batcher.add_many(1..=100).expect("open");
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(sink.sum.load(Ordering::SeqCst), 5_050);
    assert_eq!(sink.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_sink_that_does_not_fit_is_an_error_in_one_sentence_before_a_thread_starts() {
    let sink = Sums {
        no_table: true,
        ..Sums::default()
    };
    let error = Batcher::builder().sink(sink.clone()).expect_err("no table");
    assert!(matches!(error, BuildError::Sink { .. }));
    assert_eq!(error.to_string(), "there is no table \"sums\"");
    assert_eq!(sink.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn a_backend_that_is_away_at_the_start_is_an_error_in_one_sentence() {
    let sink = Sums {
        unreachable: true,
        ..Sums::default()
    };
    let error = Batcher::builder().sink(sink).expect_err("nobody listens");
    assert!(matches!(error, BuildError::Sink { .. }));
    assert_eq!(error.to_string(), "nobody listens on port 5");
    assert!(error.source().is_none(), "its text is said once");
}

#[test]
fn a_sink_whose_connection_breaks_is_asked_for_another_and_nothing_is_lost() {
    let sink = Sums {
        dead: 2,
        ..Sums::default()
    };
    let batcher = Batcher::builder().sink(sink.clone()).expect("it starts");
    batcher.add_many(1..=100).expect("open");
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(sink.sum.load(Ordering::SeqCst), 5_050);
    assert_eq!(sink.connections.load(Ordering::SeqCst), 3);
}

#[test]
fn the_users_settings_override_a_sinks_defaults() {
    let largest = |builder: Builder<u64>| {
        let batcher = builder.sink(Sums::default()).expect("it starts");
        let mut largest = 0;
        let look = |limits: &mut load_aware_batcher::Limits| largest = limits.max_batch_size;
        batcher.reconfigure(look).expect("nothing changes");
        largest
    };
    assert_eq!(largest(Batcher::builder()), 50_000);
    assert_eq!(largest(Batcher::builder().max_batch_size(10)), 10);
    assert_eq!(largest(Batcher::builder().queue_capacity(2_000)), 2_000);
}

#[test]
fn the_users_weight_limit_overrides_a_sinks() {
    let longest = |builder: Builder<u64>| {
        let sizes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&sizes);
        let batcher = builder
            .default_max_batch_weight(4, |_| 1)
            .policy(Fixed(1_000))
            .spawn(move |batch: &mut Batch<u64>| {
                seen.fetch_max(batch.len() as u64, Ordering::SeqCst);
                Ok(LoadFeedback::new())
            })
            .expect("it starts");
        batcher.add_many(0..100).expect("open");
        assert!(batcher.close(LONG).is_clean());
        sizes.load(Ordering::SeqCst)
    };
    assert_eq!(longest(Batcher::builder()), 4);
    let lighter = Batcher::builder().max_batch_weight(2, |_| 1);
    assert_eq!(longest(lighter), 2);
    assert_eq!(
        longest(Batcher::builder().max_queue_weight(3)),
        3,
        "the queue's limit bounds it"
    );
}

#[test]
fn a_sinks_sensor_reports_with_the_signals_that_it_declared() {
    let batcher = Batcher::builder()
        .policy(load_aware_batcher::LoadThreshold::new())
        .load_check_interval(Duration::from_millis(1))
        .sink(Sums::default())
        .expect("it starts");
    while batcher.stats().average_load.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(batcher.stats().unknown_signals, 0);
}

#[test]
fn a_sink_changes_one_retry_setting_and_keeps_the_others() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let batcher = Batcher::builder()
        .retry(Retry::attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(1)))
        .adjust_retry(|retry| retry.bisect(false))
        .policy(Fixed(8))
        .spawn(move |_: &mut Batch<u64>| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err::<LoadFeedback, _>(BatchError::transient("busy"))
        })
        .expect("it starts");
    batcher.add_many(0..8).expect("open");
    assert!(batcher.flush(LONG).is_err());
    assert_eq!(batcher.take_failed().len(), 8);
    // The whole batch three times. A search would have called parts.
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}
