//! A ticket returns the outcome of its own item, and never hangs.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, LoadFeedback, Outcome, Retry, Ticket, Trigger,
};
use testkit::{LONG, NEVER, Reply, directed, ends, fixed, until};

fn wait_all(tickets: Vec<Ticket>) -> Vec<Outcome> {
    tickets.into_iter().map(Ticket::wait).collect()
}

#[test]
fn a_ticket_returns_the_outcome_of_its_own_row() {
    let (handler, director) = directed();
    let batcher = fixed(6).spawn(handler).unwrap();
    batcher.add(0).unwrap();
    let first = batcher.submit(1).unwrap();
    batcher.add_many([2, 3]).unwrap();
    let (second, third) = (batcher.submit(4).unwrap(), batcher.submit(5).unwrap());
    assert_eq!(director.call().items, [0, 1, 2, 3, 4, 5]);
    assert!(first.try_wait().is_none() && first.wait_timeout(Duration::from_millis(1)).is_none());
    director.reply(Reply::Reject(vec![4, 0]));
    let rejected = Outcome::Failed(BatchError::permanent("rejected"));
    assert_eq!(
        wait_all(vec![first, second, third]),
        [Outcome::Handled, rejected, Outcome::Handled]
    );
}

#[test]
fn a_ticket_returns_the_outcome_after_retries_and_the_search_for_bad_rows() {
    let batcher = fixed(9)
        .retry(Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO))
        .spawn(
            |batch: &mut Batch<u64>| match batch.iter().find(|item| *item % 4 == 0) {
                Some(bad) => Err(BatchError::transient(format!("row {bad}"))),
                None => Ok(LoadFeedback::new()),
            },
        )
        .unwrap();
    let tickets: Vec<_> = (0..9).map(|item| batcher.submit(item).unwrap()).collect();
    for (item, outcome) in wait_all(tickets).into_iter().enumerate() {
        let own = Outcome::Failed(BatchError::transient(format!("row {item}")));
        assert_eq!(outcome, if item % 4 == 0 { own } else { Outcome::Handled });
    }
}

#[test]
fn tickets_of_a_lost_acknowledgement_are_in_doubt() {
    let (handler, director) = directed();
    let batcher = fixed(2).spawn(handler).unwrap();
    let tickets = vec![batcher.submit(1).unwrap(), batcher.submit(2).unwrap()];
    director.answer(Reply::Err(BatchError::in_doubt("lost")));
    assert_eq!(wait_all(tickets), [Outcome::InDoubt, Outcome::InDoubt]);
}

#[test]
fn no_ticket_hangs_whatever_way_the_batcher_ends() {
    ends(|| {
        // Two items are in flight and two wait. A thread waits for each.
        let waiting = |end: fn(Batcher<u64>)| {
            let (handler, director) = directed();
            let batcher = fixed(2).spawn(handler).unwrap();
            let tickets: Vec<_> = (0..4).map(|item| batcher.submit(item).unwrap()).collect();
            director.call();
            let threads: Vec<_> = tickets
                .into_iter()
                .map(|ticket| std::thread::spawn(move || ticket.wait()))
                .collect();
            end(batcher);
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        };
        let abandoned = [
            Outcome::InDoubt,
            Outcome::InDoubt,
            Outcome::Unsent,
            Outcome::Unsent,
        ];
        assert_eq!(
            waiting(|batcher| drop(batcher.close(Duration::ZERO))),
            abandoned
        );
        assert_eq!(waiting(drop), abandoned, "the drop has no time here");
    });
}

#[test]
fn a_close_in_time_decides_all_tickets() {
    let batcher = fixed(100)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    let tickets: Vec<_> = (0..5).map(|item| batcher.submit(item).unwrap()).collect();
    assert!(batcher.close(LONG).is_clean());
    assert!(
        tickets
            .iter()
            .all(|ticket| ticket.try_wait() == Some(Outcome::Handled))
    );
}

#[test]
fn a_close_decides_a_ticket_in_backoff() {
    let (handler, director) = directed();
    let batcher = fixed(1)
        .retry(
            Retry::attempts(9)
                .backoff(NEVER, NEVER)
                .total_limit(NEVER * 9),
        )
        .spawn(handler)
        .unwrap();
    let ticket = batcher.submit(1).unwrap();
    director.answer(Reply::Err(BatchError::transient("down")));
    testkit::first_call_settled(&batcher);
    let report = batcher.close(Duration::ZERO);
    let told = ticket.wait();
    // Without time the item failed with its last error, or its last attempt is in flight.
    if report.abandoned == 0 {
        assert_eq!(told, Outcome::Failed(BatchError::transient("down")));
        assert_eq!(report.failed.len(), 1);
    } else {
        assert_eq!(told, Outcome::InDoubt);
    }
}

#[test]
fn dropping_a_ticket_changes_nothing_for_its_item() {
    let (seen, handled) = mpsc::channel();
    let batcher = fixed(3)
        .spawn(move |batch: &mut Batch<u64>| {
            seen.send(batch.to_vec())?;
            Ok(LoadFeedback::new())
        })
        .unwrap();
    drop(batcher.submit(1).unwrap());
    let kept = batcher.submit(2).unwrap();
    drop(batcher.submit(3).unwrap());
    assert_eq!(kept.wait(), Outcome::Handled);
    drop(batcher.close(LONG));
    assert!(handled.iter().flatten().eq([1, 2, 3]));
}

#[test]
fn a_ticket_outlives_its_batcher_and_keeps_its_outcome() {
    let batcher = fixed(1)
        .close_timeout(LONG)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    let ticket = batcher.submit(1).unwrap();
    drop(batcher);
    assert_eq!(ticket.wait_timeout(Duration::ZERO), Some(Outcome::Handled));
    assert_eq!(ticket.try_wait(), Some(Outcome::Handled));
    assert!(ticket.wait().is_handled());
}

#[test]
fn a_handler_may_wait_for_a_ticket_of_another_batcher() {
    ends(|| {
        let second = Arc::new(
            fixed(1)
                .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
                .unwrap(),
        );
        let inside = Arc::clone(&second);
        let first = fixed(1)
            .spawn(
                move |batch: &mut Batch<u64>| match inside.submit(batch[0]).map(Ticket::wait) {
                    Ok(Outcome::Handled) => Ok(LoadFeedback::new()),
                    other => panic!("{other:?}"),
                },
            )
            .unwrap();
        assert_eq!(first.submit(7).unwrap().wait(), Outcome::Handled);
        assert_eq!(until(&second, |stats| stats.pending == 0).handled, 1);
    });
}

#[test]
fn an_item_that_was_refused_has_no_ticket() {
    let (handler, director) = directed();
    let batcher = fixed(1).queue_capacity(1).spawn(handler).unwrap();
    batcher.add(1).unwrap();
    director.call();
    batcher.add(2).unwrap();
    let producer = batcher.producer();
    let blocked = std::thread::spawn(move || producer.submit(3).map(Ticket::wait));
    let report = batcher.close(Duration::ZERO);
    let refused = blocked.join().unwrap().unwrap_err();
    assert!(refused.is_closed());
    assert_eq!((refused.into_inner(), report.unsent), (3, vec![2]));
}

/// Scenario 59. The linger never ends here, so only the wait can lead to an answer.
#[test]
fn eight_threads_that_wait_for_their_tickets_never_linger() {
    ends(|| {
        let batcher = fixed(1_000)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let producer = batcher.producer();
                scope.spawn(move || {
                    (0..200).for_each(|item| {
                        assert!(producer.submit(item).unwrap().wait().is_handled())
                    });
                });
            }
        });
        let stats = batcher.stats();
        assert_eq!(
            (stats.handled, stats.batches.wait),
            (1_600, stats.batches.total())
        );
    });
}

#[test]
fn an_item_that_a_thread_waits_for_is_handed_over_as_soon_as_the_handler_is_free() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).spawn(handler).unwrap();
    batcher.add_many([1, 2]).unwrap();
    let ticket = batcher.submit(3).unwrap();
    let waiter = std::thread::spawn(move || ticket.wait());
    let call = director.call();
    assert_eq!((call.items, call.trigger), (vec![1, 2, 3], Trigger::Wait));
    // Two more threads begin to wait during that call. Their items are in the next batch.
    let others: Vec<_> = [4, 5]
        .map(|item| batcher.submit(item).unwrap())
        .into_iter()
        .collect();
    batcher.add(6).unwrap();
    let others: Vec<_> = others
        .into_iter()
        .map(|ticket| std::thread::spawn(move || ticket.wait()))
        .collect();
    director.reply(Reply::Ok);
    assert_eq!(waiter.join().unwrap(), Outcome::Handled);
    let call = director.call();
    assert_eq!(
        (&call.items[..2], call.trigger),
        (&[4, 5][..], Trigger::Wait)
    );
    director.reply(Reply::Ok);
    others
        .into_iter()
        .for_each(|waiter| assert_eq!(waiter.join().unwrap(), Outcome::Handled));
}

#[test]
fn a_wait_with_a_timeout_hands_its_item_over_too() {
    let (handler, director) = directed();
    let batcher = fixed(1_000).spawn(handler).unwrap();
    let ticket = batcher.submit(1).unwrap();
    let waiter = std::thread::spawn(move || ticket.wait_timeout(LONG));
    assert_eq!(director.answer(Reply::Ok), [1]);
    assert_eq!(waiter.join().unwrap(), Some(Outcome::Handled));
}

#[test]
fn a_wait_overrides_no_linger_where_the_builder_says_so() {
    let (handler, director) = directed();
    let batcher = fixed(2)
        .wait_overrides_linger(false)
        .spawn(handler)
        .unwrap();
    let ticket = batcher.submit(1).unwrap();
    assert_eq!(ticket.wait_timeout(Duration::from_millis(20)), None);
    assert!(director.no_call());
    batcher.add(2).unwrap();
    assert_eq!(director.answer(Reply::Ok), [1, 2]);
    assert_eq!(ticket.wait(), Outcome::Handled);
}

#[test]
fn a_wait_cuts_no_backoff() {
    let (handler, director) = directed();
    let retry = Retry::attempts(9)
        .backoff(NEVER, NEVER)
        .total_limit(NEVER * 9);
    let batcher = fixed(1).retry(retry).spawn(handler).unwrap();
    batcher.add(1).unwrap();
    director.answer(Reply::Err(BatchError::transient("down")));
    testkit::first_call_settled(&batcher);
    let ticket = batcher.submit(2).unwrap();
    assert_eq!(ticket.wait_timeout(Duration::from_millis(20)), None);
    assert!(director.no_call());
    batcher.request_flush();
    assert_eq!(director.answer(Reply::Ok), [1]);
    assert_eq!(director.answer(Reply::Ok), [2]);
    assert_eq!(ticket.wait(), Outcome::Handled);
}
