//! Rows that leave their batch before it is decided: rejected in a call that fails, asked for again
//! in the midst of a search, or called as witnesses. What is left of the batch, and what they join
//! later, is right all the same.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, BatchId, FlushError, LoadFeedback, Outcome, Retry};
use testkit::{Call, LONG, Reply, directed, ends, fixed};

fn at_once(retry: Retry) -> Retry {
    retry.backoff(Duration::ZERO, Duration::ZERO)
}

fn lost() -> BatchError {
    BatchError::transient("connection reset")
}

fn busy() -> BatchError {
    BatchError::transient("429 Too Many Requests")
}

/// What each id has named so far.
#[derive(Default)]
struct Names(HashMap<BatchId, (Vec<u64>, u32)>);

impl Names {
    /// Checks that the id of a call names one set of rows and that its calls are counted.
    fn check(&mut self, call: &Call<u64>) {
        let new = || (call.items.clone(), 0);
        let (rows, calls) = self.0.entry(call.id).or_insert_with(new);
        *calls += 1;
        assert_eq!((&*rows, *calls), (&call.items, call.attempt), "one set");
    }
}

#[test]
fn a_search_whose_calls_reject_all_their_rows_and_fail_goes_on_with_the_others() {
    ends(|| {
        for (rows, permanent) in (1..=12).flat_map(|rows| [(rows, false), (rows, true)]) {
            let (handler, director) = directed();
            let retry = at_once(Retry::default());
            let batcher = fixed(rows).retry(retry).spawn(handler).unwrap();
            batcher.add_many(0..rows as u64).unwrap();
            director.answer(Reply::Err(lost()));
            director.answer(Reply::Err(lost()));
            let mut rejected: Vec<u64> = Vec::new();
            while rejected.len() < rows {
                let call = director.call();
                assert!(!call.items.is_empty(), "of {rows}, after {rejected:?}");
                rejected.extend(&call.items);
                let error = if permanent {
                    BatchError::permanent("all of them")
                } else {
                    lost()
                };
                director.reply(Reply::RejectAndErr((0..call.items.len()).collect(), error));
            }
            rejected.sort_unstable();
            assert!(rejected.into_iter().eq(0..rows as u64), "each once");
            let failed = batcher.flush(LONG);
            assert!(
                matches!(failed, Err(FlushError::Failed { items, .. }) if items == rows as u64),
                "{failed:?}"
            );
            assert_eq!(batcher.take_failed().len(), rows);
            drop(director);
            batcher.add_many(0..rows as u64).unwrap();
            assert_eq!(batcher.flush(LONG), Ok(()), "it goes on");
        }
    });
}

#[test]
fn a_piece_that_was_rejected_as_a_whole_is_followed_by_the_next_one() {
    ends(|| {
        let (handler, director) = directed();
        let retry = at_once(Retry::attempts(9).bisect(false).split_on_retry(true));
        let batcher = fixed(4).retry(retry).spawn(handler).unwrap();
        batcher.add_many(0..4).unwrap();
        director.answer(Reply::Err(lost()));
        let first = director.answer(Reply::RejectAndErr(vec![0, 1], lost()));
        assert_eq!(first, [0, 1]);
        assert_eq!(director.answer(Reply::Ok), [2, 3]);
        assert!(matches!(
            batcher.flush(LONG),
            Err(FlushError::Failed { items: 2, .. })
        ));
        assert_eq!(batcher.stats().handled, 2);
    });
}

/// With a table of ids the call may have recorded its id, and a later one under it would be taken
/// for applied.
#[test]
fn a_row_asked_for_again_in_a_search_is_not_called_under_its_id_of_then() {
    ends(|| {
        let (handler, director) = directed();
        let retry = at_once(Retry::default());
        let batcher = fixed(2).retry(retry).spawn(handler).unwrap();
        let mut names = Names::default();
        let mut call = |items: &[u64], reply: Reply| {
            let call = director.call();
            assert_eq!(call.items, items);
            names.check(&call);
            director.reply(reply);
            call.id
        };
        batcher.add_many([1, 2, 3]).unwrap();
        call(&[1, 2], Reply::Err(lost()));
        call(&[1, 2], Reply::Err(lost()));
        let alone = call(&[1], Reply::Err(lost()));
        call(&[1, 2], Reply::Err(lost()));
        let again = call(&[1], Reply::Retry(vec![0], busy()));
        assert_eq!(alone, again, "the same row, nothing of it applied");
        call(&[2], Reply::Ok);
        call(&[1, 3], Reply::Err(lost()));
        call(&[1, 3], Reply::Err(lost()));
        assert_ne!(call(&[1], Reply::Ok), alone);
        call(&[3], Reply::Ok);
        assert_eq!(batcher.flush(LONG), Ok(()));
    });
}

#[test]
fn a_witness_that_is_asked_for_again_is_a_row_like_others_in_its_next_batch() {
    ends(|| {
        let (handler, director) = directed();
        let retry = at_once(Retry::default().bisect(false));
        let batcher = fixed(2).retry(retry).spawn(handler).unwrap();
        let mut names = Names::default();
        let mut call = |items: &[u64], reply: Reply| {
            let call = director.call();
            assert_eq!(call.items, items);
            names.check(&call);
            director.reply(reply);
        };
        batcher.add_many([1, 2, 3, 4]).unwrap();
        (0..3).for_each(|_| call(&[1, 2], Reply::Err(lost())));
        call(&[3], Reply::Err(lost()));
        call(&[1, 2], Reply::Ok);
        call(&[3], Reply::Retry(vec![0], busy()));
        call(&[3, 4], Reply::Err(lost()));
        call(&[3, 4], Reply::Ok);
        assert_eq!(batcher.flush(LONG), Ok(()));
    });
}

#[test]
fn a_row_that_was_called_as_a_witness_has_a_patience_of_its_own() {
    ends(|| {
        let patience = Duration::from_millis(150);
        let (fails, failures) = mpsc::channel();
        let retry = Retry::default().backoff(Duration::from_millis(1), Duration::from_millis(10));
        let batcher = fixed(1)
            .retry(retry.for_at_least(patience))
            .on_failed(move |failed| fails.send((failed, Instant::now())).unwrap())
            .spawn(|_: &mut Batch<u64>| Err(lost()))
            .unwrap();
        let mut last = Instant::now();
        batcher.add_many(0..3).unwrap();
        for row in 0..3 {
            let (failed, at) = failures.recv().unwrap();
            assert_eq!((failed.item, failed.outage), (row, true));
            assert!(at - last >= patience, "row {row} after {:?}", at - last);
            last = at;
        }
        assert!(batcher.flush(LONG).is_err());
    });
}

#[test]
fn a_ticket_of_a_witness_is_open_until_its_own_batch_is_decided() {
    ends(|| {
        let (handler, director) = directed();
        let retry = at_once(Retry::attempts(3));
        let batcher = fixed(1).retry(retry).spawn(handler).unwrap();
        let [bad, good] = [1, 2].map(|row| batcher.submit(row).unwrap());
        for items in [[1], [1], [1], [2]] {
            assert_eq!(director.answer(Reply::Err(lost())), items);
        }
        assert_eq!(bad.wait(), Outcome::Failed(lost()));
        assert_eq!(director.call().items, [2], "it heads the next batch");
        assert_eq!(good.try_wait(), None);
        assert_eq!(batcher.stats().pending, 1);
        director.reply(Reply::Ok);
        assert_eq!(good.wait(), Outcome::Handled);
    });
}

#[test]
fn a_heavy_witness_heads_a_batch_within_its_weight() {
    ends(|| {
        let (handler, director) = directed();
        let retry = at_once(Retry::attempts(3).bisect(false));
        let batcher = fixed(3)
            .max_batch_weight(10, |item: &usize| *item)
            .retry(retry)
            .spawn(handler)
            .unwrap();
        batcher.add_many([1, 2, 3, 8, 2, 2]).unwrap();
        for items in [&[1, 2, 3][..], &[1, 2, 3], &[1, 2, 3], &[8]] {
            assert_eq!(director.answer(Reply::Err(lost())), items);
        }
        assert_eq!(director.answer(Reply::Ok), [8, 2]);
        drop(director);
        assert!(batcher.flush(LONG).is_err());
        assert_eq!(batcher.stats().handled, 3);
    });
}

#[test]
fn a_row_that_is_refused_unseen_uses_up_no_attempts() {
    ends(|| {
        let mut calls = 0;
        let retry = at_once(Retry::attempts(2));
        let batcher = fixed(2)
            .retry(retry)
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                if let Some(index) = batch.iter().position(|row| *row == 1) {
                    match calls {
                        1..=5 => batch.retry(index, BatchError::unavailable("429")),
                        6 => batch.retry(index, busy()),
                        _ => {}
                    }
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add_many([1, 2]).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        assert_eq!(
            (batcher.stats().handled, batcher.stats().retried_rows),
            (2, 6)
        );
    });
}
