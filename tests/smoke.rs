//! The life of a batcher, with its public API.
use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, Fixed, LoadFeedback, Retry};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn everything_added_is_handled_in_order() {
    let (seen, handled) = mpsc::channel();
    let batcher = Batcher::builder()
        .policy(Fixed(10))
        .spawn(move |batch: &mut Batch<u64>| {
            seen.send(batch.to_vec())?;
            Ok(LoadFeedback::new().cpu_load(0.1))
        })
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = batcher.producer();
            scope
                .spawn(move || (0..2_500).for_each(|n| producer.add(thread * 10_000 + n).unwrap()));
        }
    });
    assert_eq!(batcher.flush(LONG), Ok(()));
    assert_eq!(batcher.stats().handled, 10_000);
    assert_eq!(batcher.add_many(90_000..90_500).unwrap(), 500);
    let ticket = batcher.submit(95_000).unwrap();
    assert!(batcher.flush(LONG).is_ok());
    assert!(ticket.wait().is_handled());
    let stats = batcher.stats();
    assert_eq!(
        (stats.added, stats.handled, stats.pending),
        (10_501, 10_501, 0)
    );
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    let all: Vec<u64> = handled.iter().flatten().collect();
    assert_eq!(all.len(), 10_501);
    for thread in 0..4 {
        let own: Vec<_> = all.iter().filter(|n| **n / 10_000 == thread).collect();
        assert!(own.is_sorted());
    }
}

#[test]
fn one_bad_row_of_a_thousand_fails_alone() {
    let batcher = Batcher::builder()
        .initial_batch_size(1_000)
        .max_batch_size(1_000)
        .linger(LONG)
        .retry(Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO))
        .spawn(|batch: &mut Batch<u64>| {
            if batch.contains(&613) {
                return Err(BatchError::permanent("no such account"));
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    assert_eq!(batcher.add_many(0..1_000).unwrap(), 1_000);
    assert!(batcher.flush(LONG).is_err());
    let failed = batcher.take_failed();
    assert_eq!(failed.iter().map(|f| f.item).collect::<Vec<_>>(), [613]);
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.failed), (999, 1));
    assert!(stats.calls <= 1 + 20, "{}", stats.calls);
}
