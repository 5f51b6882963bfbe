//! Producers that add as fast as they can, end to end.

use load_aware_batcher::Producer;

use crate::Scale;
use crate::items::{Item, Load, capacity, one_by_one};
use testkit::pairs::{Pairs, Quartiles, Report, Target};

const PRODUCERS: [usize; 4] = [1, 2, 4, 8];
const UNIT: &str = "M items/s";

/// `add` against the bare `send`, and the throughput with more producers.
pub(crate) fn add(scale: Scale, report: &mut Report) {
    for batch in [100, 1_000] {
        sized::<u64>(8, batch, scale, report);
        sized::<[u64; 32]>(256, batch, scale, report);
    }
}

fn sized<T: Item>(bytes: usize, batch: usize, scale: Scale, report: &mut Report) {
    // So many that the start of the threads, and their first processors, hardly affect the figure.
    let items = scale.pick(480_000, 2_000_000) / if bytes > 8 { 4 } else { 1 };
    let mut all: [Pairs; 4] = Default::default();
    // One round has every number of producers, so that these can be compared, too.
    for _ in 0..scale.pick(31, 51) {
        for (producers, pairs) in PRODUCERS.into_iter().zip(&mut all) {
            let load = Load {
                producers,
                items,
                capacity: capacity(batch),
            };
            pairs.push(
                load.through_batcher::<T>(batch, one_by_one),
                load.through_channel::<T>(),
            );
        }
    }
    for (producers, pairs) in PRODUCERS.iter().zip(&all) {
        report.line(
            &format!("add P={producers} batch={batch} item={bytes}"),
            pairs,
            UNIT,
            Target::AtLeast(0.85),
        );
    }
    no_collapse(batch, bytes, &all, report);
}

/// The throughput of 8 producers against that of 2. It is a target only where the bare channel
/// keeps its throughput.
fn no_collapse(batch: usize, bytes: usize, all: &[Pairs; 4], report: &mut Report) {
    let kept = |figures: fn(&Pairs) -> Quartiles| figures(&all[3]).median / figures(&all[1]).median;
    let (ours, theirs) = (kept(Pairs::ours), kept(Pairs::theirs));
    let target = if theirs >= 0.9 {
        Target::AtLeast(0.9)
    } else {
        Target::None
    };
    let ratio = Quartiles {
        low: ours,
        median: ours,
        high: ours,
    };
    let figures = format!("the channel keeps {theirs:.2}");
    report.ratio(
        &format!("add P=8 against P=2 batch={batch} item={bytes}"),
        ratio,
        &figures,
        target,
    );
}

/// `add_many` in chunks against the bare `send` of single items.
pub(crate) fn add_many(scale: Scale, report: &mut Report) {
    for chunk in [16, 64, 256] {
        for producers in [1, 2, 4] {
            let load = Load {
                producers,
                items: scale.pick(480_000, 2_000_000),
                capacity: capacity(1_000),
            };
            // Five times as many, since they take a fifth of the time.
            let more = Load {
                items: 5 * load.items,
                ..load
            };
            let in_chunks = |producer: &Producer<u64>, items: u64| {
                let mut left = items;
                while left > 0 {
                    let many = left.min(chunk);
                    assert!(producer.add_many((0..many).map(u64::numbered)).is_ok());
                    left -= many;
                }
            };
            let pairs = Pairs::run(
                scale.pick(31, 51),
                || more.through_batcher(1_000, in_chunks),
                || load.through_channel::<u64>(),
            );
            let target = if chunk == 64 {
                Target::AtLeast(4.0)
            } else {
                Target::None
            };
            report.line(
                &format!("add_many chunk={chunk} P={producers} batch=1000 item=8"),
                &pairs,
                UNIT,
                target,
            );
        }
    }
}

/// `submit` against `add`: what a ticket costs.
pub(crate) fn submit(scale: Scale, report: &mut Report) {
    for producers in [1, 2] {
        let load = Load {
            producers,
            items: scale.pick(20_000, 500_000),
            capacity: capacity(1_000),
        };
        let with_tickets = |producer: &Producer<u64>, items: u64| {
            (0..items).for_each(|number| drop(producer.submit(number).unwrap()));
        };
        let pairs = Pairs::run(
            scale.pick(15, 31),
            || load.through_batcher(1_000, with_tickets),
            || load.through_batcher(1_000, one_by_one::<u64>),
        );
        report.line(
            &format!("submit against add P={producers} batch=1000 item=8"),
            &pairs,
            UNIT,
            Target::None,
        );
    }
}
