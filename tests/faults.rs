//! A fault at every n: the n-th call of the handler fails, once or forever, in each way that a call
//! can fail. Every item is accounted for by identity (`testkit/src/program/ledger.rs`), and the
//! counters are checked throughout.

use testkit::program::{Account, Deed, Ending, LONG, Op, Program};

/// The calls that may fail: more than a run without a fault makes.
const CALLS: u64 = if cfg!(miri) { 2 } else { 10 };
const ITEMS: u64 = 30;

/// Adds, reads of the statistics and flushes of two threads, in batches of four. Nothing is left
/// for the close, which makes only one attempt.
fn program() -> Program {
    let script = vec![
        Op::AddMany(4),
        Op::Look,
        Op::Add(3),
        Op::Look,
        Op::Submit(3),
        Op::Flush(LONG),
        Op::Look,
        Op::AddMany(5),
        Op::Flush(LONG),
        Op::Look,
    ];
    Program {
        calls: 1,
        order: testkit::program::Order::Key,
        capacity: 8,
        min: 4,
        max: 4,
        linger: LONG,
        attempts: 2,
        patience: None,
        backoff: 0,
        bisect: true,
        split_on_retry: false,
        keep_order: false,
        idempotent: false,
        hook: None,
        keep_failed: 10_000,
        weight: None,
        scripts: vec![script.clone(), script],
        deeds: Vec::new(),
        hang_at: None,
        calls_max: u64::MAX,
        ending: Ending::Shutdown,
        close_timeout: LONG,
    }
}

fn run(program: &Program) -> Account {
    let account = program.run();
    assert!(account.violations.is_empty(), "{program:#?}\n{account:#?}");
    account
}

/// Calls succeed until `first`. Then the fault comes once or forever.
fn deeds(fault: Deed, first: u64, forever: bool) -> Vec<Deed> {
    let faulty = |call| call == first || forever && call > first;
    (0..400)
        .map(|call| if faulty(call) { fault } else { Deed::Ok })
        .collect()
}

fn rejects(fault: Deed) -> bool {
    matches!(fault, Deed::RejectEvery(2) | Deed::RejectAndFail(2))
}

#[test]
fn any_call_may_fail_in_any_way_once_or_forever_and_every_item_is_accounted_for() {
    let faults = [
        Deed::Unclassified,
        Deed::Transient,
        Deed::Permanent,
        Deed::InDoubt,
        Deed::Panic,
        Deed::RejectEvery(2),
        Deed::RejectAndFail(2),
        Deed::RetryEvery(2),
        Deed::Misconfigured,
    ];
    for fault in faults {
        for (idempotent, forever, hook, split_on_retry) in
            [(false, false), (false, true), (true, false), (true, true)]
                .map(|(a, b)| {
                    [
                        (a, b, None, false),
                        (a, b, Some((2, 0)), false),
                        (a, b, None, true),
                    ]
                })
                .concat()
        {
            for call in 0..CALLS {
                let deeds = deeds(fault, call, forever);
                let account = run(&Program {
                    deeds,
                    idempotent,
                    hook,
                    split_on_retry,
                    ..program()
                });
                let how = format!(
                    "for ever: {forever}, idempotent: {idempotent}, in halves: {split_on_retry}"
                );
                let name = format!("{fault:?} at call {call}, {how}: {account:?}");
                assert_eq!(account.accepted, ITEMS, "{name}");
                assert_eq!(account.handled + account.failed, ITEMS, "{name}");
                let hit = account.calls > call;
                let retried = match fault {
                    Deed::InDoubt => idempotent,
                    Deed::RejectEvery(_) | Deed::RejectAndFail(_) => false,
                    _ => true,
                };
                match (hit, forever) {
                    (false, _) => assert_eq!(account.failed, 0, "{name}"),
                    // A row that is alone in its batch counts as the bad one.
                    (true, false) if fault == Deed::Permanent => {
                        assert!(account.failed <= 1, "{name}")
                    }
                    // One fault costs only a second attempt.
                    (true, false) if retried => assert_eq!(account.failed, 0, "{name}"),
                    // Between none and all of the rows in a batch may have even numbers.
                    (true, false) if rejects(fault) => {
                        assert!(account.failed <= 4, "{name}")
                    }
                    (true, false) => assert!((1..=4).contains(&account.failed), "{name}"),
                    // The last batch may be a single row that is not rejected.
                    (true, true) if rejects(fault) || fault == Deed::RetryEvery(2) => {}
                    (true, true) => assert!(account.failed > 0, "{name}"),
                }
                if fault == Deed::InDoubt {
                    assert_eq!(account.in_doubt, account.failed, "{name}");
                } else {
                    assert_eq!(account.in_doubt, 0, "{name}");
                }
            }
        }
    }
}

#[test]
fn any_call_may_hang_past_the_close_and_end_in_any_way_and_every_item_is_accounted_for() {
    let faults = [
        Deed::Ok,
        Deed::Unclassified,
        Deed::Transient,
        Deed::Permanent,
        Deed::InDoubt,
        Deed::Panic,
        Deed::RejectEvery(2),
        Deed::RejectAndFail(2),
        Deed::RetryEvery(2),
        Deed::Unavailable,
        Deed::Misconfigured,
    ];
    let (mut late, mut unsent) = (0, 0);
    for fault in faults {
        for hook in [None, Some((2, 0))] {
            for call in 0..CALLS {
                let deeds = deeds(fault, call, true);
                let program = Program {
                    deeds,
                    hook,
                    hang_at: Some(call),
                    close_timeout: 500,
                    ..program()
                };
                let account = run(&program);
                let name = format!("{fault:?} after hanging in call {call}: {account:?}");
                let ends = account.handled + account.failed + account.unsent + account.dropped_late;
                assert_eq!(
                    (account.accepted + account.refused, ends),
                    (ITEMS, account.accepted),
                    "{name}"
                );
                if account.calls > call {
                    assert_eq!(
                        account.calls,
                        call + 1,
                        "nothing is called after the close: {name}"
                    );
                    assert!((1..=4).contains(&account.abandoned), "{name}");
                } else {
                    assert_eq!((account.abandoned, account.handled), (0, ITEMS), "{name}");
                }
                late += account.dropped_late;
                unsent += account.unsent;
            }
        }
    }
    assert!(late > 0 && unsent > 0);
}

#[test]
fn any_row_may_be_bad_and_it_fails_alone() {
    for deed in [Deed::BadRow(1_000), Deed::SulkyRow(1_000)] {
        for attempts in [1, 2] {
            // The row with number 0 of each thread is bad. Wherever it is, it alone fails.
            let account = run(&Program {
                deeds: vec![deed],
                attempts,
                ..program()
            });
            assert_eq!(
                (account.handled, account.failed),
                (ITEMS - 2, 2),
                "{account:?}"
            );
        }
    }
}
