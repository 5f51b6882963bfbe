//! The items, how they are spread over producers, and the two things compared: the batcher, and the
//! bare channel with a loop that drains it.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use load_aware_batcher::{Batch, Batcher, Builder, Fixed, LoadFeedback, Producer};
use testkit::race;

/// Longer than any run.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// An item of a certain size with a number.
pub(crate) trait Item: Send + 'static {
    fn numbered(number: u64) -> Self;
}

impl Item for u64 {
    fn numbered(number: u64) -> Self {
        number
    }
}

/// 256 bytes.
impl Item for [u64; 32] {
    fn numbered(number: u64) -> Self {
        [number; 32]
    }
}

/// The capacity that the builder would choose.
pub(crate) fn capacity(batch: usize) -> usize {
    1_024.max(2 * batch)
}

/// A builder of a batcher whose size never changes.
pub(crate) fn fixed<T: Item>(batch: usize, capacity: usize) -> Builder<T> {
    Batcher::builder()
        .policy(Fixed(batch))
        .max_batch_size(batch)
        .queue_capacity(capacity)
}

/// How the items of a run are spread over the producers.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) producers: usize,
    pub(crate) items: u64,
    pub(crate) capacity: usize,
}

impl Load {
    fn share(self) -> u64 {
        self.items / self.producers as u64
    }

    /// Millions of items a second through a batcher whose handler does nothing, from the first
    /// producer's start to the last item's outcome. `produce` makes this many items of one
    /// producer.
    pub(crate) fn through_batcher<T: Item>(
        self,
        batch: usize,
        produce: impl Fn(&Producer<T>, u64) + Sync,
    ) -> f64 {
        let total = self.share() * self.producers as u64;
        let (done, all_seen) = mpsc::channel();
        let mut seen = 0;
        let batcher = fixed(batch, self.capacity)
            .spawn(move |batch: &mut Batch<T>| {
                black_box(&batch[..]);
                seen += batch.len() as u64;
                if seen == total {
                    done.send(Instant::now())?;
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let begun = race(self.producers, |_| {
            let producer = batcher.producer();
            let produce = &produce;
            move || produce(&producer, self.share())
        });
        batcher.flush(LONG).unwrap();
        let ended = all_seen.recv().unwrap();
        assert!(batcher.close(LONG).is_clean());
        total as f64 / (ended - begun).as_secs_f64() / 1e6
    }

    /// The same through the bare channel.
    pub(crate) fn through_channel<T: Item>(self) -> f64 {
        let total = self.share() * self.producers as u64;
        let (sender, receiver) = bounded::<T>(self.capacity);
        let drain = thread::spawn(move || {
            let mut seen = 0;
            while let Ok(item) = receiver.recv() {
                black_box(&item);
                seen += 1;
            }
            (seen, Instant::now())
        });
        let begun = race(self.producers, |_| {
            let sender: Sender<T> = sender.clone();
            move || (0..self.share()).for_each(|number| sender.send(T::numbered(number)).unwrap())
        });
        drop(sender);
        let (seen, ended) = drain.join().unwrap();
        assert_eq!(seen, total);
        total as f64 / (ended - begun).as_secs_f64() / 1e6
    }
}

/// One producer's items, one by one.
pub(crate) fn one_by_one<T: Item>(producer: &Producer<T>, items: u64) {
    (0..items).for_each(|number| assert!(producer.add(T::numbered(number)).is_ok()));
}
