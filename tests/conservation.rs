//! Random programs, in which every item is accounted for by identity. None is lost, doubled or out
//! of order.
//!
//! The programs and the accounting are in `testkit/src/program.rs`. Reproduce a seed with `SEED=… cargo
//! test --test conservation`.

use proptest::prelude::{ProptestConfig, any, proptest};
use testkit::program::{Account, Program, Scale};

fn check(program: &Program) -> Account {
    let account = program.run();
    assert!(account.violations.is_empty(), "{program:#?}\n{account:#?}");
    account
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        // A failure is usually a race. So smaller programs are tried, but only for a while.
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_item_of_a_random_program_ends_exactly_once(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&Program::from_bytes(&bytes));
    }
}

#[test]
fn every_item_ends_exactly_once_from_seeds_at_every_scale() {
    let sizes = if cfg!(miri) {
        [(2, Scale::TINY), (0, Scale::SMALL), (0, Scale::LARGE)]
    } else {
        [(200, Scale::TINY), (500, Scale::SMALL), (20, Scale::LARGE)]
    };
    let first = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut all = Account::default();
    for (programs, scale) in sizes {
        for seed in first.map_or(0..programs, |seed: u64| seed..seed + 1) {
            let program = Program::from_seed(seed, scale);
            let account = program.run();
            assert!(
                account.violations.is_empty(),
                "seed {seed} {program:#?}\n{account:#?}"
            );
            all.add(account);
        }
    }
    // The accounting covers each way to end.
    if !cfg!(miri) && first.is_none() {
        let ends = [
            all.handled,
            all.failed,
            all.in_doubt,
            all.unsent,
            all.abandoned,
            all.refused,
            all.retries,
        ];
        assert!(ends.iter().all(|count| *count > 0), "{all:#?}");
    }
}
