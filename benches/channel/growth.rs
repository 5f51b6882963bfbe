//! What an item costs as the work grows: more items, a larger queue, more producers.

use crate::Scale;
use crate::items::{Load, one_by_one};
use testkit::pairs::{Pairs, Quartiles};

const ITEMS: u64 = 1_000_000;
const CAPACITY: usize = 2_048;

pub(crate) fn growth(scale: Scale) {
    let most = scale.pick(6, 8);
    for exponent in 4..=most {
        let items = 10_u64.pow(exponent);
        // Short runs many times, long ones a few times.
        let runs = (30_000_000 / items).clamp(3, 51) as usize;
        line(
            &format!("items=10^{exponent}"),
            Load {
                producers: 1,
                items,
                capacity: CAPACITY,
            },
            runs,
        );
    }
    let (items, runs) = (scale.pick(ITEMS / 10, ITEMS), scale.pick(5, 21));
    for exponent in (6..=20).step_by(2) {
        line(
            &format!("capacity=2^{exponent}"),
            Load {
                producers: 1,
                items,
                capacity: 1 << exponent,
            },
            runs,
        );
    }
    for exponent in 0..=8 {
        let producers = 1 << exponent;
        line(
            &format!("producers={producers}"),
            Load {
                producers,
                items,
                capacity: CAPACITY,
            },
            runs,
        );
    }
}

/// The nanoseconds for each item from end to end, with those of the bare channel.
fn line(name: &str, load: Load, runs: usize) {
    let batch = 1_000.min(load.capacity / 2);
    let pairs = Pairs::run(
        runs,
        || 1e3 / load.through_batcher::<u64>(batch, one_by_one),
        || 1e3 / load.through_channel::<u64>(),
    );
    let print = |quartiles: Quartiles| {
        let Quartiles { low, median, high } = quartiles;
        format!("{median:.1} [{low:.1} {high:.1}]")
    };
    println!(
        "growth {name} batch={batch} {} ns an item, the channel {} ns",
        print(pairs.ours()),
        print(pairs.theirs())
    );
}
