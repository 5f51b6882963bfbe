//! A full batch is handed over at once, however its items were added. Here nothing else ends the
//! flusher's sleep.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};

use load_aware_batcher::{Batch, Batcher, LoadFeedback, Producer};

use testkit::{LONG, fixed};

const SIZE: usize = 300;
const THREADS: usize = 4;
const ROUNDS: u64 = if cfg!(miri) { 2 } else { 2_000 };

/// A batcher whose handler sends the sizes of its batches.
fn with_sizes() -> (Batcher<u64>, Receiver<usize>) {
    let (tell, told) = channel();
    let handler = move |batch: &mut Batch<u64>| {
        tell.send(batch.len()).unwrap();
        Ok(LoadFeedback::new())
    };
    // The smallest queue for such batches. It is full when a batch is.
    (
        fixed(SIZE).queue_capacity(SIZE).spawn(handler).unwrap(),
        told,
    )
}

/// Pseudo-random numbers: xorshift (Marsaglia: "Xorshift RNGs", 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// How many items of a batch each thread adds: the distances between random cuts.
fn parts(chance: &mut Chance) -> [usize; THREADS] {
    let mut cuts = [(); THREADS + 1].map(|()| chance.below(SIZE + 1));
    (cuts[0], cuts[THREADS]) = (0, SIZE);
    cuts.sort_unstable();
    std::array::from_fn(|thread| cuts[thread + 1] - cuts[thread])
}

/// Adds this many items to each of two batchers, in turn, in random numbers and ways.
fn add(producers: &[Producer<u64>; 2], mut left: [usize; 2], chance: &mut Chance) {
    while left != [0, 0] {
        let to = chance.below(2);
        let items = left[to].min(1 + chance.below(80));
        match chance.below(4) {
            0 => assert_eq!(producers[to].add_many(0..items as u64).unwrap(), items),
            1 => (0..items).for_each(|_| drop(producers[to].submit(0).unwrap())),
            _ => (0..items).for_each(|_| producers[to].add(0).unwrap()),
        }
        left[to] -= items;
    }
}

#[test]
fn the_add_that_completes_a_batch_hands_it_over_whichever_thread_added_the_others() {
    let [(one, told_one), (two, told_two)] = [with_sizes(), with_sizes()];
    let rounds = Arc::new(Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (producers, rounds) = ([one.producer(), two.producer()], Arc::clone(&rounds));
            std::thread::spawn(move || {
                let mut own = Chance(thread as u64 + 1);
                for round in 1..=ROUNDS {
                    // Each thread draws the same numbers.
                    let mut shared = Chance(round);
                    let left = [(); 2].map(|()| parts(&mut shared)[thread]);
                    rounds.wait();
                    add(&producers, left, &mut own);
                }
            })
        })
        .collect();
    for round in 1..=ROUNDS {
        rounds.wait();
        let batches = [&told_one, &told_two].map(|told| told.recv_timeout(LONG));
        assert_eq!(
            batches,
            [Ok(SIZE), Ok(SIZE)],
            "round {round}: {:#?}",
            [one.stats(), two.stats()]
        );
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}
