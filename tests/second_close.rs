//! A close that gave up, and one after it that has time.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{Batch, Batcher, LoadFeedback};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_later_close_with_time_waits_for_the_handler_that_an_earlier_one_left_behind() {
    let (called, calls) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let batcher = Batcher::builder()
        .initial_batch_size(1)
        .spawn(move |_: &mut Batch<u64>| {
            called.send(())?;
            let _ = released.recv();
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(1).unwrap();
    calls.recv_timeout(LONG).unwrap();
    let first = batcher.shutdown(Duration::ZERO);
    assert_eq!((first.abandoned, first.timed_out), (1, true));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| batcher.shutdown(LONG));
        // The second close waits. The handler ends only after this check.
        let at_once = batcher.shutdown(Duration::from_millis(1));
        assert_eq!((at_once.abandoned, at_once.timed_out), (1, true));
        drop(release);
        let second = second.join().unwrap();
        assert_eq!(
            (second.handled, second.abandoned, second.timed_out),
            (1, 0, false),
            "{second:?}"
        );
    });
}
