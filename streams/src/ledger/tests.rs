//! Random deliveries, outcomes and acknowledgements against sets that are kept by the test.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SUSPICION: Suspicion = Suspicion {
    deliveries: 3,
    deaths: 2,
};

#[derive(Clone, Debug)]
enum Step {
    Take { id: u8, times: u64, deaths: u64 },
    Submit,
    DeadOnArrival,
    End { which: usize, how: u8 },
    Release,
    Acknowledge,
    Bury,
    Recall { below: u8, whose: Recall },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), 1..6u64, prop_oneof![8 => Just(0u64), 1 => 1..4u64])
            .prop_map(|(id, times, deaths)| Step::Take { id, times, deaths }),
        6 => Just(Step::Submit),
        1 => Just(Step::DeadOnArrival),
        6 => (any::<usize>(), 0..4u8).prop_map(|(which, how)| Step::End { which, how }),
        1 => Just(Step::Release),
        1 => Just(Step::Acknowledge),
        1 => Just(Step::Bury),
        1 => (any::<u8>(), prop_oneof![Just(Recall::NotSubmitted), Just(Recall::All)])
            .prop_map(|(below, whose)| Step::Recall { below, whose }),
    ]
}

fn check(ledger: &Ledger<u8>, stored: &BTreeSet<u8>, permanent: &BTreeSet<u8>) {
    let counts = ledger.counts();
    let in_hand = ledger.in_hand() as u64;
    assert_eq!(
        counts.read,
        counts.acknowledged + counts.buried + in_hand + counts.left
    );
    assert!(ledger.stored().iter().all(|id| stored.contains(id)));
    assert!(
        ledger
            .stored()
            .iter()
            .all(|id| ledger.holds(|held| held == id))
    );
    if let Some((id, _)) = ledger.dead() {
        assert!(permanent.contains(&id), "{id} is to be buried");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_acknowledged_buried_in_hand_or_left_and_only_the_stored_is_acknowledged(
        steps in proptest::collection::vec(step(), 0..200)
    ) {
        let mut ledger = Ledger::new(SUSPICION);
        let (mut out, mut alone) = (Vec::new(), None);
        let (mut stored, mut permanent) = (BTreeSet::new(), BTreeSet::new());
        let mut suspects = BTreeSet::new();
        for step in steps {
            match step {
                Step::Take { id, times, deaths } => {
                    if ledger.take(&id, times, deaths) {
                        stored.remove(&id);
                        permanent.remove(&id);
                        suspects.remove(&id);
                        if deaths >= SUSPICION.deaths {
                            permanent.insert(id);
                        } else if deaths > 0 || times > SUSPICION.deliveries {
                            suspects.insert(id);
                        }
                    }
                }
                Step::Submit => if let Some(next) = ledger.next() {
                    prop_assert!(alone.is_none(), "nothing beside an entry that is out alone");
                    match next.clone() {
                        Next::Alone(id) => {
                            prop_assert!(out.is_empty() && suspects.contains(&id));
                            alone = Some(id);
                            out.push(id);
                        }
                        Next::WithOthers(id) => {
                            prop_assert!(!suspects.contains(&id));
                            out.push(id);
                        }
                    }
                    ledger.submitted(next);
                },
                Step::DeadOnArrival => if let Some(next) = ledger.next() {
                    let (Next::Alone(id) | Next::WithOthers(id)) = next;
                    permanent.insert(id);
                    ledger.dead_on_arrival(next, "no item".to_owned());
                },
                Step::End { which, how } => if !out.is_empty() {
                    let id = out.remove(which % out.len());
                    alone = alone.filter(|other| *other != id);
                    let end = match how {
                        0 | 1 => { stored.insert(id); End::Stored }
                        2 => { permanent.insert(id); End::Permanent("bad".to_owned()) }
                        _ => End::Again,
                    };
                    ledger.ended(&id, end);
                },
                Step::Release => ledger.release(),
                Step::Acknowledge => ledger.acknowledged(),
                Step::Bury => ledger.buried(),
                Step::Recall { below, whose } => {
                    let is_recalled = |id: &u8| *id < below;
                    let expected = |id: &u8| is_recalled(id) && (whose == Recall::All
                        || !(out.contains(id) || stored.contains(id) || permanent.contains(id)));
                    let expected: Vec<u8> = ledger.ids().into_iter().filter(expected).collect();
                    prop_assert_eq!(ledger.recall(is_recalled, whose), expected);
                    if whose == Recall::All {
                        prop_assert!(!ledger.holds(is_recalled));
                        out.retain(|id| !is_recalled(id));
                        alone = alone.filter(|id| !is_recalled(id));
                    }
                }
            }
            prop_assert_eq!(ledger.out(), out.len());
            check(&ledger, &stored, &permanent);
        }
        let in_hand = ledger.in_hand();
        prop_assert_eq!(ledger.leave().len(), in_hand);
        check(&ledger, &stored, &permanent);
    }

    #[test]
    fn every_entry_ends_once_the_backend_takes_all(
        entries in proptest::collection::btree_map(any::<u8>(), (1..6u64, 0..2u64), 0..40),
        refusals in proptest::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut ledger = Ledger::new(SUSPICION);
        for (id, (times, deaths)) in &entries {
            prop_assert!(ledger.take(id, *times, *deaths));
            prop_assert!(!ledger.take(id, 1, 0), "it is in hand");
        }
        let mut refusals = refusals.into_iter();
        while let Some(next) = { ledger.release(); ledger.next() } {
            let (Next::Alone(id) | Next::WithOthers(id)) = next.clone();
            ledger.submitted(next);
            let refused = refusals.next().unwrap_or(false);
            ledger.ended(&id, if refused { End::Again } else { End::Stored });
        }
        ledger.acknowledged();
        prop_assert_eq!(ledger.counts().acknowledged, entries.len() as u64);
        prop_assert_eq!(ledger.in_hand(), 0);
    }
}
