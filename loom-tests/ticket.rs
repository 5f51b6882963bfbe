//! Tickets: the first outcome stays, and no ticket hangs.

use super::parts::no_line;
use super::{model, mutants, thread};
use crate::sync::Arc;
use crate::ticket::{Outcome, pair};

fn wait_for_outcome() {
    let (resolver, ticket) = pair(1, no_line());
    let teller = thread::spawn(move || resolver.tell(Outcome::Handled));
    assert_eq!(ticket.wait(), Outcome::Handled);
    teller.join().unwrap();
}

#[test]
fn a_ticket_wakes_with_its_outcome() {
    model("ticket: told while waiting", 14, wait_for_outcome);
}

mutants! {
    mutant_an_outcome_that_wakes_nobody_is_found: "ticket: no notification" => wait_for_outcome;
    mutant_a_waiter_that_does_not_say_so_is_found: "ticket: a waiter does not say so" => wait_for_outcome;
}

/// Abandonment tells "in doubt" while the handler's return tells "handled": one of them stays, for every look.
fn two_tell() {
    let (resolver, ticket) = pair(1, no_line());
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

mutants! {
    mutant_an_outcome_that_is_overwritten_is_found: "ticket: the last outcome stays" => two_tell;
}

fn drop_while_waiting() {
    let (resolver, ticket) = pair(1, no_line());
    let dropper = thread::spawn(move || drop(resolver));
    assert_eq!(ticket.wait(), Outcome::InDoubt);
    dropper.join().unwrap();
}

#[test]
fn a_resolver_that_is_dropped_says_in_doubt() {
    model("ticket: dropped while waiting", 8, drop_while_waiting);
}

mutants! {
    mutant_a_resolver_that_is_dropped_silently_is_found: "ticket: a dropped resolver is silent" => drop_while_waiting;
}
