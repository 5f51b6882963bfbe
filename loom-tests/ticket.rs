//! Tickets: the first outcome stays, and no ticket hangs.

use super::parts::no_line;
use super::{model, thread};
use crate::sync::Arc;
use crate::ticket::{Outcome, Wakes, pair};

fn wait_for_outcome() {
    let (resolver, ticket) = pair(crate::sync::next_serial(), no_line());
    let teller = thread::spawn(move || resolver.tell(Outcome::Handled));
    assert_eq!(ticket.wait(), Outcome::Handled);
    teller.join().unwrap();
}

#[test]
fn a_ticket_wakes_with_its_outcome() {
    model("ticket: told while waiting", 14, wait_for_outcome);
}

/// An abandonment resolves to "in doubt" while the handler's return resolves to "handled". One of
/// them stays, for every read.
fn two_tell() {
    let (resolver, ticket) = pair(crate::sync::next_serial(), no_line());
    let resolver = Arc::new(resolver);
    let other = Arc::clone(&resolver);
    let late = thread::spawn(move || other.tell(Outcome::Handled));
    resolver.tell(Outcome::InDoubt);
    let first = ticket.try_wait().expect("somebody told");
    late.join().unwrap();
    assert_eq!(ticket.wait(), first);
}

#[test]
fn the_first_of_two_outcomes_stays() {
    model("ticket: two tell", 4, two_tell);
}

fn drop_while_waiting() {
    let (resolver, ticket) = pair(crate::sync::next_serial(), no_line());
    let dropper = thread::spawn(move || drop(resolver));
    assert_eq!(ticket.wait(), Outcome::InDoubt);
    dropper.join().unwrap();
}

#[test]
fn a_resolver_that_is_dropped_says_in_doubt() {
    model("ticket: dropped while waiting", 8, drop_while_waiting);
}

/// Two threads wait for the outcomes of one batch. The flusher notifies one of them, and that one
/// notifies the other, unless the other has left.
fn two_wait_for_a_batch() {
    let (resolvers, waiters): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (resolver, ticket) = pair(crate::sync::next_serial(), no_line());
            (resolver, thread::spawn(move || ticket.wait()))
        })
        .unzip();
    let mut wakes = Wakes::default();
    for resolver in &resolvers {
        resolver.tell_with(&mut wakes, Outcome::Handled, None);
    }
    let _ = wakes.notify();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Outcome::Handled);
    }
}

#[test]
fn the_waiters_of_a_batch_notify_each_other() {
    model("ticket: two wait for a batch", 100, two_wait_for_a_batch);
}
