//! Submits that do not wait without limit, and submits of many items.

use std::time::Duration;

use load_aware_batcher::{Batcher, Outcome};
use testkit::{LONG, Reply, directed, fixed};

const SHORT: Duration = Duration::from_millis(1);

#[test]
fn a_submit_that_does_not_wait_hands_the_item_back_from_a_full_queue() {
    let (handler, director) = directed();
    let batcher = fixed(1).queue_capacity(1).spawn(handler).unwrap();
    let in_flight = batcher.submit(0).unwrap();
    assert_eq!(director.call().items, [0]);
    let waits = batcher.try_submit(1).expect("one fits");
    let full = batcher.try_submit(2).expect_err("and no more");
    assert!(full.is_full());
    assert_eq!(full.into_inner(), 2);
    let late = batcher.submit_timeout(3, SHORT).expect_err("still full");
    assert!(late.is_timeout());
    assert_eq!(late.into_inner(), 3);
    director.reply(Reply::Ok);
    assert_eq!(in_flight.wait(), Outcome::Handled);
    director.answer(Reply::Ok);
    assert_eq!(waits.wait(), Outcome::Handled);
    assert_eq!(batcher.stats().refused.full, 1);
    let fits = batcher.submit_timeout(4, LONG).expect("room again");
    director.answer(Reply::Ok);
    assert_eq!(fits.wait(), Outcome::Handled);
}

#[test]
fn many_submits_give_a_ticket_for_each_item_in_their_order() {
    let (handler, director) = directed();
    let batcher = fixed(5).spawn(handler).unwrap();
    let tickets = batcher.submit_many(0..5).unwrap();
    assert_eq!(director.call().items, [0, 1, 2, 3, 4]);
    director.reply(Reply::Reject(vec![1, 3]));
    let handled: Vec<bool> = tickets
        .into_iter()
        .map(|ticket| ticket.wait().is_handled())
        .collect();
    assert_eq!(handled, [true, false, true, false, true]);
}

#[test]
fn many_submits_that_are_cut_short_return_the_rest_and_the_tickets_of_the_accepted() {
    let (handler, director) = directed();
    let batcher: Batcher<u64> = fixed(2).queue_capacity(2).spawn(handler).unwrap();
    let producer = batcher.producer();
    // Two items are in flight, two wait, and the fifth finds no room until the close.
    let submitting = std::thread::spawn(move || producer.submit_many(0..9));
    assert_eq!(director.call().items, [0, 1]);
    while batcher.stats().added < 4 {
        std::thread::yield_now();
    }
    let closing = std::thread::spawn(move || batcher.close(LONG));
    let refused = submitting.join().unwrap().expect_err("closed meanwhile");
    director.reply(Reply::Ok);
    director.answer(Reply::Ok);
    assert!(refused.reason.is_closed());
    let text = "after 4 accepted items: the batcher is closed";
    assert_eq!(refused.to_string(), text);
    let handled = |ticket: load_aware_batcher::Ticket| ticket.wait().is_handled();
    assert!(refused.tickets.into_iter().all(handled));
    assert_eq!(refused.reason.into_inner(), [4, 5, 6, 7, 8]);
    assert_eq!(closing.join().unwrap().handled, 4);
}
