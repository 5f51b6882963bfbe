//! Limits by weight.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{Batch, Batcher, Fixed, LoadFeedback, Trigger};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_batch_that_is_full_by_weight_goes_at_once_though_part_of_it_was_left_over() {
    let (seen, batches) = mpsc::channel();
    let batcher = Batcher::builder()
        .policy(Fixed(100))
        .linger(Duration::from_secs(3_600))
        .max_batch_weight(10, |weight: &usize| *weight)
        .spawn(move |batch: &mut Batch<usize>| {
            seen.send((batch.to_vec(), batch.trigger()))?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    // 6 + 6 do not fit: the second 6 is left over, and with a 4 behind it makes a full batch.
    batcher.add(6).unwrap();
    batcher.add(6).unwrap();
    assert_eq!(batches.recv_timeout(LONG), Ok((vec![6], Trigger::Size)));
    batcher.add(4).unwrap();
    assert_eq!(batches.recv_timeout(LONG), Ok((vec![6, 4], Trigger::Size)));
    // The same in chunks.
    assert_eq!(batcher.add_many([6, 6]).unwrap(), 2);
    assert_eq!(batches.recv_timeout(LONG), Ok((vec![6], Trigger::Size)));
    assert_eq!(batcher.add_many([4, 1]).unwrap(), 2);
    assert_eq!(batches.recv_timeout(LONG), Ok((vec![6, 4], Trigger::Size)));
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(batches.recv_timeout(LONG), Ok((vec![1], Trigger::Close)), "nothing made it go before");
}
