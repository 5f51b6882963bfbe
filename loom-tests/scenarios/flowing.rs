//! Sizes that change, permits that run out, and policies that decide. The flusher sleeps through
//! none of it.

use super::account::assert_balanced;
use super::{Account, LONG, SOON, builder, panic_quietly, scenario};
use crate::{Batch, Cadence, Decision, Fixed, LoadFeedback, Policy, Setpoint, Window};

/// Panics at first, then probes, and then alternates between two sizes.
struct Restless(u32);

impl Policy for Restless {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        self.0 += 1;
        match self.0 % 4 {
            0 => panic_quietly(),
            1 => Decision {
                probe: Some(1),
                ..Decision::hold(current, "probe")
            },
            2 => Decision::resize(3, "up"),
            _ => Decision {
                pause_ratio: 0.5,
                ..Decision::resize(2, "down")
            },
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}

/// The policy and `reconfigure` change the size while two producers add. Whatever was in force, a
/// last size of one hands everything over without a flush.
fn sizes_that_move() {
    let account = Account::new();
    let batcher = {
        let account = account.clone();
        builder()
            .initial_batch_size(3)
            .max_batch_size(3)
            .queue_capacity(8)
            .linger(LONG)
            // Only the size may wake the flusher for the last items.
            .wait_overrides_linger(false)
            .policy(Restless(0))
            .spawn(move |batch: &mut Batch<u32>| {
                account.handled(batch.iter().copied());
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    let producers: Vec<_> = (1..=2)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                for item in producer * 10..producer * 10 + 3 {
                    assert!(account.added(item, handle.add(item)));
                }
            })
        })
        .collect();
    batcher
        .reconfigure(|limits| limits.max_batch_size = 2)
        .unwrap();
    assert!(batcher.stats().batch_size <= 2);
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    let last = batcher.submit(40).unwrap();
    account.added(40, Ok(()));
    batcher
        .reconfigure(|limits| {
            limits.max_batch_size = 1;
            limits.policy(Fixed(1));
        })
        .unwrap();
    assert!(
        last.wait().is_handled(),
        "nothing else wakes the flusher for it"
    );
    let report = batcher.close(LONG);
    assert!(report.is_clean(), "{report:?}");
    account.settle(0);
    account.assert_counted(&report);
    account.assert_order();
}

#[test]
fn no_smaller_size_is_slept_through() {
    scenario("sizes that move", sizes_that_move);
}

/// Three threads add chunks larger than the permits: one waits forever, one never, one until a
/// deadline. Single adds and a close run at the same time.
fn permits_run_out() {
    let account = Account::new();
    let batcher = {
        let account = account.clone();
        builder()
            .initial_batch_size(3)
            .max_batch_size(3)
            .queue_capacity(3)
            .linger(SOON)
            .spawn(move |batch: &mut Batch<u32>| {
                assert!(
                    batch.len() <= 3,
                    "no batch is larger than the size in force"
                );
                account.handled(batch.iter().copied());
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    let producers: Vec<_> = (1..=3)
        .map(|producer| {
            let (handle, account) = (batcher.producer(), account.clone());
            shuttle::thread::spawn(move || {
                let items: Vec<_> = (producer * 10..producer * 10 + 5).collect();
                let result = match producer {
                    1 => handle.add_many(items.clone()),
                    2 => handle.add_many_timeout(items.clone(), SOON),
                    _ => handle.try_add_many(items.clone()),
                };
                account.added_many(&items, result);
            })
        })
        .collect();
    account.added(40, batcher.add(40));
    account.added(41, batcher.try_add(41));
    assert_balanced(&batcher.stats());
    let report = batcher.close(LONG);
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    assert!(report.is_clean(), "{report:?}");
    account.settle(0);
    account.assert_counted(&report);
    account.assert_order();
}

#[test]
fn chunks_beyond_the_permits_wait_or_come_back() {
    scenario("permits run out", permits_run_out);
}

/// The same without a close, which would wake all that wait.
fn permits_forever() {
    let account = Account::new();
    let batcher = {
        let account = account.clone();
        builder()
            .initial_batch_size(1)
            .max_batch_size(1)
            .queue_capacity(1)
            .spawn(move |batch: &mut Batch<u32>| {
                account.handled(batch.iter().copied());
                Ok(LoadFeedback::new())
            })
            .unwrap()
    };
    let producer = {
        let (handle, account) = (batcher.producer(), account.clone());
        shuttle::thread::spawn(move || {
            account.added_many(&[10, 11, 12], handle.add_many([10, 11, 12]))
        })
    };
    account.added_many(&[20, 21], batcher.add_many([20, 21]));
    producer.join().unwrap();
    let report = batcher.close(LONG);
    assert_eq!((report.handled, report.is_clean()), (5, true), "{report:?}");
    account.settle(0);
    account.assert_order();
}

#[test]
fn permits_given_back_reach_all_who_wait() {
    scenario("permits forever", permits_forever);
}
