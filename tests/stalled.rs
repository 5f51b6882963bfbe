//! A stall: as many failed rows are kept as `keep_failed` allows, and nobody takes them. Callers
//! that wait for the flusher get an answer.

use std::time::{Duration, Instant};

use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, Builder, FlushError, Outcome, Retry,
};
use testkit::{LONG, NEVER, Reply, directed, ends, fixed, until};

const SOON: Duration = Duration::from_millis(30);

fn all_fail(builder: Builder<u64>) -> Batcher<u64> {
    builder
        .retry(Retry::none())
        .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
        .unwrap()
}

/// A stalled batcher: batches of two, and two failures may be kept. Items 0 and 1 fail. Then the
/// queue is filled with items that nobody waits for.
fn stalled(builder: Builder<u64>) -> (Batcher<u64>, u64) {
    let batcher = all_fail(builder.keep_failed(2));
    batcher.add_many([0, 1]).unwrap();
    until(&batcher, |stats| stats.stalled);
    let mut next = 2;
    while batcher.try_add_many([next]).is_ok() || batcher.try_add(next).is_ok() {
        next += 1;
    }
    (batcher, next)
}

fn queue_of_four() -> Builder<u64> {
    fixed(2).queue_capacity(4)
}

/// Waits until the stall has lasted for `stall_timeout`.
fn reported(batcher: &Batcher<u64>) {
    let begun = Instant::now();
    while batcher.flush(Duration::ZERO) != Err(FlushError::Stalled) {
        assert!(begun.elapsed() < LONG, "{:#?}", batcher.stats());
        std::thread::yield_now();
    }
}

/// Scenario 61. Only the sizes are set.
#[test]
fn when_every_row_fails_and_nobody_takes_them_add_answers_and_nothing_hangs() {
    ends(|| {
        let batcher = all_fail(fixed(100).queue_capacity(1_000));
        let mut added = 0;
        let refused = loop {
            match batcher.add(added) {
                Ok(()) => added += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, AddError::Stalled(added));
        assert!(batcher.stats().stalled);
        let report = batcher.close(LONG);
        assert!(
            report.failed.iter().map(|failed| failed.item).eq(0..added),
            "nothing is dropped"
        );
    });
}

#[test]
fn every_way_to_wait_for_a_stalled_batcher_is_answered() {
    ends(|| {
        let (batcher, next) = stalled(queue_of_four().stall_timeout(SOON));
        reported(&batcher);
        let before = batcher.stats();
        assert_eq!(batcher.add(next), Err(AddError::Stalled(next)));
        assert_eq!(batcher.try_add(next), Err(AddError::Stalled(next)));
        assert_eq!(
            batcher.add_timeout(next, LONG),
            Err(AddError::Stalled(next))
        );
        assert_eq!(batcher.submit(next).err(), Some(AddError::Stalled(next)));
        let rest: Vec<_> = (next..next + 200).collect();
        assert_eq!(
            batcher.add_many(rest.clone()),
            Err(AddError::Stalled(rest.clone()))
        );
        assert_eq!(
            batcher.try_add_many(rest.clone()),
            Err(AddError::Stalled(rest.clone()))
        );
        assert_eq!(
            batcher.add_many_timeout(rest.clone(), LONG),
            Err(AddError::Stalled(rest))
        );
        assert_eq!(batcher.flush(LONG), Err(FlushError::Stalled));
        let stats = batcher.stats();
        assert_eq!(
            (stats.refused.stalled - before.refused.stalled, stats.added),
            (7, before.added)
        );
        assert!(stats.stalled);
    });
}

#[test]
fn a_ticket_of_a_stalled_batcher_is_answered_and_its_item_goes_its_way() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2)
            .keep_failed(2)
            .retry(Retry::none())
            .stall_timeout(SOON)
            .spawn(handler)
            .unwrap();
        batcher.add_many([0, 1]).unwrap();
        director.answer(Reply::Err(BatchError::permanent("no")));
        until(&batcher, |stats| stats.stalled);
        let [first, second] = [2, 3].map(|item| batcher.submit(item).unwrap());
        assert_eq!(first.wait_timeout(LONG), Some(Outcome::Stalled));
        assert_eq!(first.try_wait(), None, "that is no outcome");
        assert_eq!(second.wait(), Outcome::Stalled);
        assert_eq!(batcher.take_failed().len(), 2);
        assert_eq!(director.answer(Reply::Ok), [2, 3]);
        assert_eq!(first.wait(), Outcome::Handled);
        assert_eq!(batcher.stats().handled, 2);
    });
}

/// They block before the stall begins, during the call whose rows reach the bound.
#[test]
fn producers_that_were_blocked_before_the_stall_are_answered() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = queue_of_four()
            .keep_failed(2)
            .retry(Retry::none())
            .stall_timeout(SOON)
            .spawn(handler)
            .unwrap();
        batcher.add_many([0, 1]).unwrap();
        let call = director.call();
        assert_eq!(call.items, [0, 1]);
        while batcher.try_add(2).is_ok() {}
        while batcher.try_add_many([2]).is_ok() {}
        let blocked: Vec<_> = (0..6)
            .map(|way| {
                let producer = batcher.producer();
                std::thread::spawn(move || match way % 3 {
                    0 => producer.add(9).unwrap_err().map(drop),
                    1 => producer.submit(9).map(drop).unwrap_err().map(drop),
                    _ => producer.add_many([9, 9]).unwrap_err().map(drop),
                })
            })
            .collect();
        // A part of their wait passes before the stall.
        std::thread::sleep(SOON);
        director.reply(Reply::Err(BatchError::permanent("no")));
        blocked
            .into_iter()
            .for_each(|thread| assert_eq!(thread.join().unwrap(), AddError::Stalled(())));
        assert_eq!(batcher.stats().refused.stalled, 6);
        drop(director);
    });
}

#[test]
fn a_stall_that_has_not_lasted_is_a_full_queue() {
    let (batcher, next) = stalled(queue_of_four().stall_timeout(NEVER));
    assert_eq!(batcher.try_add(next), Err(AddError::Full(next)));
    assert_eq!(
        batcher.add_timeout(next, SOON),
        Err(AddError::Timeout(next))
    );
    assert_eq!(
        batcher.add_many_timeout([next], SOON),
        Err(AddError::Timeout(vec![next]))
    );
    assert_eq!(batcher.flush(SOON), Err(FlushError::Timeout));
}

#[test]
fn once_the_failed_rows_are_taken_everything_goes_on() {
    ends(|| {
        let (batcher, next) = stalled(queue_of_four().stall_timeout(SOON));
        reported(&batcher);
        let mut taken = Vec::new();
        let mut take = || taken.extend(batcher.take_failed().into_iter().map(|failed| failed.item));
        take();
        // Two more rows are kept, and it stalls again. None of the answers is final.
        let mut next = next;
        while next < 40 {
            match batcher.add(next) {
                Ok(()) => next += 1,
                Err(AddError::Stalled(item)) => {
                    assert_eq!(item, next);
                    take();
                }
                Err(other) => panic!("{other}"),
            }
        }
        let report = batcher.close(LONG);
        taken.extend(report.failed.iter().map(|failed| failed.item));
        taken.sort_unstable();
        assert_eq!(taken.len() as u64, report.failed_total);
        taken.dedup();
        assert_eq!(taken.len() as u64, report.failed_total, "none twice");
    });
}

#[test]
fn a_close_lifts_a_stall_that_has_lasted() {
    ends(|| {
        let (batcher, next) = stalled(queue_of_four().stall_timeout(SOON));
        reported(&batcher);
        let producer = batcher.producer();
        let report = batcher.close(LONG);
        assert_eq!(producer.add(next), Err(AddError::Closed(next)));
        assert_eq!(producer.try_add(next), Err(AddError::Closed(next)));
        assert_eq!(producer.flush(LONG), Err(FlushError::Closed));
        assert_eq!(
            (report.timed_out, report.failed.len() as u64),
            (false, report.failed_total)
        );
    });
}
