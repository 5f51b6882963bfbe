//! Bad rows, outages and closes: how many calls a failure may cost, and which rows fail with it.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, Fixed, FlushError, LoadFeedback, Retry};

const LONG: Duration = Duration::from_secs(30);

fn at_once(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff(Duration::ZERO, Duration::ZERO)
}

#[test]
fn a_dead_backend_gets_fewer_calls_than_there_are_rows() {
    let batcher = Batcher::builder()
        .initial_batch_size(1_000)
        .linger(LONG)
        .retry(at_once(3))
        .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("no route to host")))
        .unwrap();
    assert_eq!(batcher.add_many(0..1_000).unwrap(), 1_000);
    assert!(batcher.flush(LONG).is_err());
    let stats = batcher.stats();
    assert_eq!((stats.failed, stats.pending), (1_000, 0));
    // 3 attempts, 10 + 9 halves until the failure counts as an outage, 3 attempts after waits, and
    // 10 further parts.
    assert!(stats.calls <= 3 + 19 + 3 + 10, "{} calls", stats.calls);
}

#[test]
fn good_rows_around_a_stretch_of_bad_ones_are_handled() {
    let bad = 300..340;
    let batcher = Batcher::builder()
        .initial_batch_size(1_000)
        .linger(LONG)
        .retry(at_once(2))
        .spawn(move |batch: &mut Batch<u64>| {
            if batch.iter().any(|row| bad.contains(row)) {
                return Err(std::io::Error::other("a value that this table does not take").into());
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    assert_eq!(batcher.add_many(0..1_000).unwrap(), 1_000);
    assert!(batcher.flush(LONG).is_err());
    let failed: Vec<u64> = batcher
        .take_failed()
        .into_iter()
        .map(|failed| failed.item)
        .collect();
    let mut failed = failed;
    failed.sort_unstable();
    assert!(failed.into_iter().eq(300..340), "and no other");
    assert_eq!(batcher.stats().handled, 960);
}

#[test]
fn rows_that_are_tried_often_are_no_outage() {
    // A row that fails alone is tried again. That counts as one failing row, not as several.
    for (rows, attempts, bad) in [
        (1_000, 30, vec![499, 900]),
        (8, 5, vec![0, 1, 2, 3, 4]),
        (64, 16, vec![31, 32]),
    ] {
        let refused = bad.clone();
        let batcher = Batcher::builder()
            .initial_batch_size(rows)
            .linger(LONG)
            .retry(at_once(attempts).split_on_retry(true))
            .spawn(move |batch: &mut Batch<usize>| {
                if batch.iter().any(|row| refused.contains(row)) {
                    return Err(BatchError::transient(
                        "a value that this table does not take",
                    ));
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        assert_eq!(batcher.add_many(0..rows).unwrap(), rows);
        assert!(batcher.flush(LONG).is_err());
        let failed: Vec<usize> = batcher
            .take_failed()
            .into_iter()
            .map(|failed| failed.item)
            .collect();
        assert_eq!(failed, bad, "of {rows}, {attempts} attempts");
    }
}

#[test]
fn halves_of_a_dead_backend_have_no_more_attempts_than_the_batch() {
    for bisect in [true, false] {
        let batcher = Batcher::builder()
            .initial_batch_size(1_000)
            .linger(LONG)
            .retry(at_once(5).split_on_retry(true).bisect(bisect))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("no route to host")))
            .unwrap();
        assert_eq!(batcher.add_many(0..1_000).unwrap(), 1_000);
        assert!(batcher.flush(LONG).is_err());
        let (failed, stats) = (batcher.take_failed(), batcher.stats());
        assert_eq!((failed.len(), stats.pending), (1_000, 0));
        // 5 attempts in halves if bisection is off. Otherwise halves until the failure counts as an
        // outage, 5 attempts after waits, and 10 further parts.
        let calls = if bisect { 19 + 5 + 10 } else { 2 * 16 };
        assert!(stats.calls <= calls, "{} calls", stats.calls);
        let most = failed.iter().map(|failed| failed.attempts).max();
        assert!(bisect || most == Some(5), "{most:?} attempts");
    }
}

#[test]
fn many_bad_rows_apart_from_one_another_are_no_outage() {
    let batcher = Batcher::builder()
        .initial_batch_size(1_000)
        .linger(LONG)
        .retry(at_once(2))
        .spawn(|batch: &mut Batch<u64>| {
            if batch.iter().any(|row| row % 50 == 0) {
                return Err(std::io::Error::other("a value that this table does not take").into());
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    assert_eq!(batcher.add_many(0..1_000).unwrap(), 1_000);
    assert!(batcher.flush(LONG).is_err());
    let failed: Vec<u64> = batcher
        .take_failed()
        .into_iter()
        .map(|failed| failed.item)
        .collect();
    assert_eq!(
        failed,
        (0..1_000).step_by(50).collect::<Vec<_>>(),
        "each alone, in order"
    );
}

#[test]
fn a_batch_in_flight_when_close_begins_is_tried_again() {
    let (begun, calls) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let batcher = Batcher::builder()
        .initial_batch_size(1)
        .retry(Retry::attempts(5).backoff(LONG, LONG))
        .spawn(move |batch: &mut Batch<u64>| {
            begun.send(batch.is_closing())?;
            if batch.attempt() == 1 {
                released.recv()?;
                return Err(BatchError::transient("a deadlock"));
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(7).unwrap();
    assert_eq!(calls.recv_timeout(LONG), Ok(false));
    let report = std::thread::scope(|scope| {
        let closer = scope.spawn(|| batcher.shutdown(LONG));
        let producer = batcher.producer();
        while !producer.is_closed() {
            std::thread::yield_now();
        }
        release.send(()).unwrap();
        closer.join().unwrap()
    });
    assert_eq!(calls.recv_timeout(LONG), Ok(true));
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_close_out_of_time_reports_what_was_tried_as_failed_and_the_rest_as_unsent() {
    let batcher = Batcher::builder()
        .initial_batch_size(10)
        .policy(Fixed(10))
        .linger(LONG)
        .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("still down")))
        .unwrap();
    batcher.add_many(0..25).unwrap();
    let report = batcher.close(Duration::from_millis(400));
    let failed: Vec<u64> = report.failed.iter().map(|failed| failed.item).collect();
    assert!(
        failed.iter().copied().eq(0..failed.len() as u64) && failed.len() >= 10,
        "{report:?}"
    );
    assert!(
        report.unsent.iter().copied().eq(failed.len() as u64..25),
        "{report:?}"
    );
    assert_eq!((report.abandoned, report.timed_out), (0, true));
    assert!(
        report
            .failed
            .iter()
            .all(|failed| failed.error.to_string() == "still down" && !failed.in_doubt)
    );
}

#[test]
fn a_flush_reports_earlier_failures_once_to_each_handle() {
    let (seen, failures) = mpsc::channel();
    let batcher = Batcher::builder()
        .initial_batch_size(1)
        .retry(Retry::none())
        .on_failed(move |failed| seen.send(failed.item).unwrap())
        .spawn(|batch: &mut Batch<u64>| {
            if batch[0] > 0 {
                Ok(LoadFeedback::new())
            } else {
                Err(std::fmt::Error.into())
            }
        })
        .unwrap();
    let (one, other) = (batcher.producer(), batcher.producer());
    one.add(0).unwrap();
    assert_eq!(
        failures.recv_timeout(LONG),
        Ok(0),
        "it has failed before anybody flushes"
    );
    let late = batcher.producer();
    other.add(1).unwrap();
    for handle in [&one, &other] {
        assert!(matches!(
            handle.flush(LONG),
            Err(FlushError::Failed { items: 1, .. })
        ));
        assert_eq!(handle.flush(LONG), Ok(()), "told once");
    }
    assert_eq!(late.flush(LONG), Ok(()), "made behind the failure");
    assert!(batcher.flush(LONG).is_err(), "the owner was not told yet");
}
