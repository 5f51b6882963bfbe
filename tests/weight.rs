//! The limit on a batch's weight. Every batch keeps it, and no item gets stuck because of it.

use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{AddError, Batch, Batcher, Fixed, LoadFeedback, Trigger};
use testkit::{Director, LONG, Reply, directed, ends, fixed, until};

const LIMIT: usize = 10;

/// Batches that weigh at most ten. An item's value is its weight.
fn weighed(refuse: bool) -> (Batcher<usize>, Director<usize>) {
    let (handler, director) = directed();
    let builder = fixed(1_000)
        .max_batch_weight(LIMIT, |item: &usize| *item)
        .refuse_too_heavy(refuse);
    (builder.spawn(handler).unwrap(), director)
}

/// The batches that the handler gets in a flush.
fn batches(batcher: &Batcher<usize>, director: &Director<usize>) -> Vec<Vec<usize>> {
    let stop = batcher.stats().added;
    batcher.request_flush();
    let mut batches = Vec::new();
    while batches.iter().map(Vec::len).sum::<usize>() < stop as usize {
        batches.push(director.answer(Reply::Ok));
    }
    batches
}

#[test]
fn an_item_over_the_limit_gets_its_own_batch_and_the_others_are_unaffected() {
    for chunk in [true, false] {
        let (batcher, director) = weighed(false);
        let given = [3, 50, 3, 4, 4, usize::MAX, usize::MAX, 0, 1];
        if chunk {
            batcher.add_many(given).unwrap();
        } else {
            given.iter().for_each(|item| batcher.add(*item).unwrap());
        }
        let batches = batches(&batcher, &director);
        assert!(batches.iter().flatten().eq(&given), "in order: {batches:?}");
        for batch in &batches {
            let weight = batch
                .iter()
                .fold(0usize, |sum, item| sum.saturating_add(*item));
            assert!(weight <= LIMIT || batch.len() == 1, "{batch:?}");
        }
        drop(director);
        assert!(batcher.close(LONG).is_clean());
    }
}

#[test]
fn an_item_over_the_limit_is_refused_where_the_builder_says_so() {
    let (batcher, director) = weighed(true);
    assert_eq!(batcher.add(11), Err(AddError::TooHeavy(11)));
    assert_eq!(batcher.try_add(11), Err(AddError::TooHeavy(11)));
    assert_eq!(batcher.submit(11).err(), Some(AddError::TooHeavy(11)));
    batcher.add(10).unwrap();
    assert_eq!(director.answer(Reply::Ok), [10]);
    // The items before it are accepted. It and the items after it are returned.
    let given: Vec<usize> = (0..100).map(|n| if n == 70 { 11 } else { 1 }).collect();
    let refused = batcher.add_many(given.iter().copied()).unwrap_err();
    assert!(refused.is_too_heavy());
    assert_eq!(refused.into_inner(), given[70..]);
    for _ in 0..7 {
        assert_eq!(director.answer(Reply::Ok), [1; 10]);
    }
    drop(director);
    assert_eq!(batcher.close(LONG).handled, 71);
}

#[test]
fn a_batch_that_is_heavy_enough_does_not_wait_for_its_size() {
    for chunk in [false, true] {
        let (batcher, director) = weighed(false);
        if chunk {
            batcher.add_many([5; 6]).unwrap();
        } else {
            (0..6).for_each(|_| batcher.add(5).unwrap());
        }
        // Nobody flushes. The rest of a chunk that was set aside counts like the items in the
        // channel.
        for _ in 0..3 {
            let call = director.call();
            director.reply(Reply::Ok);
            assert_eq!(
                (call.items, call.trigger),
                (vec![5, 5], Trigger::Size),
                "in a chunk: {chunk}"
            );
        }
    }
}

#[test]
fn a_batch_that_is_full_by_weight_is_handed_over_at_once_though_part_of_it_was_left_over() {
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
    // 6 + 6 do not fit. The second 6 is left over, and together with the following 4 it fills a
    // batch.
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
    assert_eq!(
        batches.recv_timeout(LONG),
        Ok((vec![1], Trigger::Close)),
        "nothing made it go before"
    );
}

#[test]
fn light_items_fill_batches_up_to_their_size() {
    ends(|| {
        let batcher = fixed(3)
            .max_batch_weight(1_000, |_: &u64| 1)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.add_many(0..300).unwrap();
        let stats = until(&batcher, |stats| stats.handled == 300);
        assert_eq!(stats.batches.size, 100);
    });
}

#[test]
fn a_weigher_that_panics_panics_on_the_producers_thread_and_nowhere_else() {
    let batcher = fixed(2)
        .max_batch_weight(LIMIT, |item: &usize| {
            if *item == 7 {
                std::panic::resume_unwind(Box::new("7"))
            } else {
                1
            }
        })
        .spawn(|_: &mut Batch<usize>| Ok(LoadFeedback::new()))
        .unwrap();
    let panics =
        |add: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(add)).is_err();
    assert!(panics(&|| { batcher.add(7).unwrap() }));
    assert!(panics(&|| drop(batcher.add_many([1, 7, 1]))));
    batcher.add_many([1, 2]).unwrap();
    let report = batcher.close(LONG);
    assert_eq!((report.handled, report.is_clean()), (2, true));
}
