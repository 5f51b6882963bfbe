//! Who waits in `flush`, for which items, and whether any of them failed. Part of the backlog,
//! under its lock.
//!
//! Messages are numbered as they leave the channel, which is the order in which they entered it. A
//! flush waits for a position. All messages sent before the call are before that position, whether
//! the channel is full or not. So a flush needs no marker and no room. Items are numbered as they
//! are gathered. The number of the first item after the position shows which failures belong to the
//! flush.
//!
//! A flush also reports items that failed before it was called. Failures are counted from the
//! start, and each handle to flush with remembers how many were reported to it, as Linux's errseq_t
//! does for the errors of fsync. So no handle misses a failure, whoever else flushes, and no handle
//! gets one twice.

use std::ops::Range;

/// Somebody who waits.
struct Waiter {
    id: u64,
    /// Every message before this position.
    target: u64,
    /// The number of the first item after the target, once gathered so far.
    boundary: Option<u64>,
    /// Items before the target that failed, since the start.
    failed: u64,
    done: bool,
}

/// See the module's doc.
#[derive(Default)]
pub(crate) struct FlushBarriers {
    /// Everything before this position is handed over without waiting for size or linger.
    urgent_before: u64,
    waiters: Vec<Waiter>,
    next_id: u64,
    /// Items that failed, since the start.
    failed: u64,
}

impl FlushBarriers {
    /// Everything before this position is urgent from now on.
    pub(crate) fn request(&mut self, end: u64) {
        self.urgent_before = self.urgent_before.max(end);
    }

    /// Whether the message at this position must not wait.
    pub(crate) fn is_urgent(&self, position: u64) -> bool {
        position < self.urgent_before
    }

    /// Somebody waits for every message before `target`; the next to be gathered is message
    /// `gathered`, item `item`.
    pub(crate) fn register(&mut self, target: u64, gathered: u64, item: u64) -> u64 {
        self.next_id += 1;
        let boundary = (gathered >= target).then_some(item);
        self.waiters.push(Waiter {
            id: self.next_id,
            target,
            boundary,
            failed: self.failed,
            done: false,
        });
        self.next_id
    }

    /// Items that failed, since the start.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// How many items before this flush's position failed since the start, once all before it have
    /// their outcome.
    pub(crate) fn failed_before(&self, id: u64) -> Option<u64> {
        self.waiters
            .iter()
            .find(|waiter| waiter.id == id)
            .filter(|waiter| waiter.done)
            .map(|waiter| waiter.failed)
    }

    /// The caller of `flush` no longer waits.
    pub(crate) fn unregister(&mut self, id: u64) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    /// Everything before position `gathered` has its outcome, but for items that are set aside, the
    /// first of which has the number `undecided`. True if a flush is done by that.
    pub(crate) fn advance(&mut self, gathered: u64, undecided: Option<u64>) -> bool {
        let mut any = false;
        let is_decided = |boundary: u64| undecided.is_none_or(|first| first >= boundary);
        for waiter in self
            .waiters
            .iter_mut()
            .filter(|waiter| !waiter.done && waiter.target <= gathered)
        {
            if !waiter.boundary.is_none_or(is_decided) {
                continue;
            }
            waiter.done = true;
            any = true;
        }
        any
    }

    /// The items with these numbers failed: the flushes that wait for them say so.
    pub(crate) fn note_failed(&mut self, items: Range<u64>) {
        self.failed += items.end - items.start;
        for waiter in self.waiters.iter_mut().filter(|waiter| !waiter.done) {
            // Without a boundary nothing after the target is gathered yet.
            let end = waiter
                .boundary
                .map_or(items.end, |boundary| items.end.min(boundary));
            waiter.failed += end.saturating_sub(items.start);
        }
    }

    /// The next position at which a flush wants to know the item's number.
    pub(crate) fn next_boundary(&self) -> u64 {
        self.waiters
            .iter()
            .filter(|w| w.boundary.is_none())
            .map(|w| w.target)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Message `gathered`, item `item`, is next to be gathered.
    pub(crate) fn pass(&mut self, gathered: u64, item: u64) {
        for waiter in self
            .waiters
            .iter_mut()
            .filter(|waiter| waiter.boundary.is_none() && waiter.target <= gathered)
        {
            waiter.boundary = Some(item);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::batcher::close::tests::ByHand;
    use crate::batcher::producer::{FailureCursor, flush};
    use crate::error::{BatchError, FlushError};
    use crate::flush::step::Step;
    use crate::sync::yield_now;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_flush_counts_the_failures_before_its_position_and_no_other() {
        let mut flushes = FlushBarriers::default();
        // Two messages are gathered, which were five items; two more are in the channel.
        let first = flushes.register(2, 2, 5);
        let second = flushes.register(4, 2, 5);
        assert_eq!(flushes.next_boundary(), 4);
        flushes.note_failed(3..6);
        flushes.pass(4, 7);
        assert_eq!(flushes.next_boundary(), u64::MAX);
        assert!(flushes.advance(2, None));
        assert_eq!(
            (flushes.failed_before(first), flushes.failed_before(second)),
            (Some(2), None)
        );
        flushes.note_failed(6..9);
        assert!(flushes.advance(5, None));
        assert!(!flushes.advance(5, None), "each is done once");
        assert_eq!(
            (flushes.failed_before(first), flushes.failed_before(second)),
            (Some(2), Some(4))
        );
        flushes.unregister(first);
        assert_eq!(flushes.failed_before(first), None);
        let third = flushes.register(5, 5, 9);
        assert!(flushes.advance(5, None));
        assert_eq!(
            (flushes.failed_before(third), flushes.failed()),
            (Some(6), 6),
            "those before the call too"
        );
    }

    proptest! {
        /// Messages of some items are sent and gathered, flushes register, items fail or are set
        /// aside, all at random. In the end each flush has counted what failed before its position
        /// and nothing else.
        #[test]
        fn flushes_at_random_moments_count_exactly_the_failures_before_their_positions(
            deeds in prop::collection::vec((0..5u8, any::<u8>()), 1..80),
        ) {
            let mut flushes = FlushBarriers::default();
            let (mut sent, mut gathered, mut item) = (Vec::new(), 0, 0u64);
            // By item: undecided, and failed.
            let (mut open, mut failed) = (Vec::new(), Vec::new());
            // By flush: the items sent before it.
            let mut waits = Vec::new();
            let gather = |flushes: &mut FlushBarriers, gathered: &mut u64, item: &mut u64, items: u64| {
                (*gathered, *item) = (*gathered + 1, *item + items);
                if *gathered == flushes.next_boundary() {
                    flushes.pass(*gathered, *item);
                }
            };
            for (deed, dice) in deeds {
                match deed {
                    0 => sent.push(u64::from(dice % 3) + 1),
                    1 if (gathered as usize) < sent.len() => {
                        let items = sent[gathered as usize];
                        open.extend(item..item + items);
                        gather(&mut flushes, &mut gathered, &mut item, items);
                    }
                    2 => {
                        let id = flushes.register(sent.len() as u64, gathered, item);
                        waits.push((id, sent.iter().sum::<u64>()));
                    }
                    3 if !open.is_empty() => {
                        let number = open.remove(dice as usize % open.len());
                        flushes.note_failed(number..number + 1);
                        failed.push(number);
                    }
                    4 => open.retain(|number| number % 5 != u64::from(dice) % 5),
                    _ => {}
                }
                flushes.advance(gathered, open.first().copied());
            }
            while (gathered as usize) < sent.len() {
                let items = sent[gathered as usize];
                gather(&mut flushes, &mut gathered, &mut item, items);
            }
            flushes.advance(gathered, None);
            for (id, before) in waits {
                let expected = failed.iter().filter(|number| **number < before).count() as u64;
                prop_assert_eq!(flushes.failed_before(id), Some(expected));
            }
        }
    }

    #[test]
    fn what_was_added_before_a_request_is_urgent() {
        let mut flushes = FlushBarriers::default();
        flushes.request(3);
        flushes.request(2);
        assert_eq!(
            [1, 2, 3].map(|position| flushes.is_urgent(position)),
            [true, true, false]
        );
    }

    #[test]
    fn a_flush_waits_for_rows_before_its_position_that_were_set_aside() {
        let mut flushes = FlushBarriers::default();
        let id = flushes.register(2, 2, 5);
        assert!(!flushes.advance(2, Some(4)), "the last of its five rows");
        assert_eq!(flushes.failed_before(id), None);
        assert!(flushes.advance(2, Some(5)), "the first row behind it");
        assert_eq!(flushes.failed_before(id), Some(0));
    }

    #[test]
    fn a_flush_that_ran_out_of_time_has_told_of_nothing() {
        let line = ByHand::new(1, usize::MAX);
        let told_of = [FailureCursor::new(0)];
        line.add([1, 2]);
        let batch = line.call(0);
        line.failed(batch, BatchError::permanent("no"), 1);
        let hasty = flush(&line.lanes, &told_of, Duration::ZERO);
        assert_eq!(hasty, Err(FlushError::Timeout));
        let batch = line.call(1);
        line.went_through(batch, 2);
        let failed = Err(FlushError::Failed { items: 1 });
        assert_eq!(flush(&line.lanes, &told_of, LONG), failed);
        assert_eq!(flush(&line.lanes, &told_of, LONG), Ok(()), "told once");
    }

    /// Through one handle. Whichever ends first, the other says so too.
    #[test]
    fn two_flushes_that_wait_for_an_item_both_say_that_it_failed() {
        let line = ByHand::new(1, usize::MAX);
        let told_of = [FailureCursor::new(0)];
        line.add([1]);
        let batch = line.call(0);
        std::thread::scope(|scope| {
            let waiting = [(); 2].map(|()| scope.spawn(|| flush(&line.lanes, &told_of, LONG)));
            while line.lane.lock().barriers.waiters.len() < 2 {
                yield_now();
            }
            line.failed(batch, BatchError::permanent("no"), 1);
            assert!(matches!(line.next(1), Step::Sleep { .. }));
            line.lane.changed.notify_all();
            for flush in waiting {
                let failed = Err(FlushError::Failed { items: 1 });
                assert_eq!(flush.join().unwrap(), failed);
            }
        });
    }
}
