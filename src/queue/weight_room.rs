//! Room by weight: the waiting items weigh at most `max_queue_weight`.
//!
//! Producers take room before they send, and wait if there is none. The flusher gives room back as
//! it gathers, and reads whether a producer found no room. A batcher without `max_queue_weight` has
//! none of this.
//!
//! # Protocol
//! Producer:
//!
//! - (1) If nobody waits, take room by a compare-exchange. If there is enough, end.
//! - (2) Otherwise lock the line and register, after all who wait.
//! - (3) If it is the first in line, try to take room.
//! - (4) If there is not enough, press: set `pressed`, and ring the flusher if it was not set.
//! - (5) Wait for the next turn, which unlocks. Then go on with (3).
//!
//! At the end it leaves the line and wakes the next producer, since there may be room for that one
//! as well. Flusher:
//!
//! - (a) Clear `pressed`.
//! - (b) Give room back.
//! - (c) Load the number of waiting producers.
//! - (d) If there are any, lock the line and wake the first.
//!
//! The race: room is given back between (3) and (5). Steps (2) and (b) are read-modify-writes, (3)
//! and (c) are loads, and all are SeqCst. So either (3) sees the room, or (c) sees the waiter. In
//! the second case (d) has to wait for the lock, which the waiter holds until it waits. So the
//! wake-up finds it waiting.
//!
//! # Fairness
//! The line is first come, first served, and (1) takes nothing while somebody waits. Otherwise
//! light items would take all room that is given back, and a heavy one would wait forever. So an
//! item that would fit waits for one that does not fit, and a `try_add` is refused. Only an item
//! without weight passes, since it takes no room. There is one exception: a producer that has read
//! in (1) that nobody waits may overtake one that registers meanwhile, once.
//!
//! # Pressing
//! The room may be too small for the next item while the waiting items do not fill a batch, neither
//! by number nor by weight. Then nothing would happen for up to one linger. So a producer without
//! room presses, and the flusher hands over what there is (see `Gate::is_heavy`). Step (a) comes
//! before (b): a producer that finds no room after (b) presses again, and the flusher sees it. One
//! that presses between the two costs an early batch.
//!
//! A waiter for permits checks a few times before it sleeps. A waiter for weight does not: items
//! that need this limit are large, and cost far more than a wake-up.

use std::collections::VecDeque;
use std::time::Instant;

use crate::sync::{CachePadded, Condvar, Mutex, SeqCstUsize, Shared};

/// See the module's doc.
pub(crate) struct WeightRoom {
    limit: usize,
    /// The weight that is accepted and not yet gathered, or about to be sent, 0..=limit.
    taken: CachePadded<SeqCstUsize>,
    /// How many producers are in line. Written under its lock.
    waiting: SeqCstUsize,
    /// 1 if somebody found no room since the flusher last gave some back.
    pressed: SeqCstUsize,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    next_number: u64,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    number: u64,
    turn: Shared<Condvar>,
}

/// Room for the first few of some items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) items: usize,
    pub(crate) weight: usize,
}

impl WeightRoom {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: CachePadded::new(SeqCstUsize::new(0)),
            waiting: SeqCstUsize::new(0),
            pressed: SeqCstUsize::new(0),
            line: Mutex::new(Line::default()),
        }
    }

    /// Step (1): takes room for as many of the items with these weights as there is, from the first
    /// on, unless somebody waits.
    pub(crate) fn take(&self, weights: &[usize]) -> Option<Granted> {
        let may_take = self.waiting.load() == 0;
        self.try_take(weights, if may_take { self.limit } else { 0 })
    }

    /// Takes room up to `limit` in all.
    fn try_take(&self, weights: &[usize], limit: usize) -> Option<Granted> {
        let mut taken = self.taken.load();
        loop {
            let granted = fitting(weights, limit.saturating_sub(taken))?;
            if granted.weight == 0 {
                return Some(granted);
            }
            match self.taken.compare_exchange(taken, taken + granted.weight) {
                Ok(_) => return Some(granted),
                Err(now) => taken = now,
            }
        }
    }

    /// Steps (2) to (5): waits in line until there is room for the first of the items, or until
    /// `stop` has an answer; it is asked at the latest at `next_check`.
    pub(crate) fn wait<R>(
        &self,
        weights: &[usize],
        stop: impl Fn() -> Option<R>,
        next_check: impl Fn() -> Option<Instant>,
        ring: impl Fn(),
    ) -> Result<Granted, R> {
        let mut line = self.line.lock();
        let number = line.next_number;
        line.next_number += 1;
        let turn = Shared::new(Condvar::new());
        line.waiters.push_back(Waiter {
            number,
            turn: Shared::clone(&turn),
        });
        self.waiting.fetch_add(1);
        let result = loop {
            if let Some(answer) = stop() {
                break Err(answer);
            }
            if line
                .waiters
                .front()
                .is_some_and(|first| first.number == number)
            {
                if let Some(granted) = self.try_take(weights, self.limit) {
                    break Ok(granted);
                }
                self.press(&ring);
            }
            line = turn.wait_until(line, next_check());
        };
        line.waiters.retain(|waiter| waiter.number != number);
        self.waiting.fetch_sub(1);
        line.wake_first();
        result
    }

    /// Step (4): there was no room.
    pub(crate) fn press(&self, ring: impl Fn()) {
        if self.pressed.swap(1) == 0 {
            ring();
        }
    }

    /// Whether somebody found no room since the flusher last gave some back.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load() > 0
    }

    /// Steps (a) to (d): so much was gathered.
    pub(crate) fn gathered(&self, weight: usize) {
        if self.is_pressed() {
            self.pressed.swap(0);
        }
        self.give_back(weight);
    }

    /// Steps (b) to (d): so much is gathered, or was not sent after all.
    pub(crate) fn give_back(&self, weight: usize) {
        if weight == 0 {
            return;
        }
        self.taken.fetch_sub(weight);
        if self.waiting.load() > 0 {
            self.line.lock().wake_first();
        }
    }

    /// Wakes all who wait, to ask `stop` again.
    pub(crate) fn wake_all(&self) {
        self.line
            .lock()
            .waiters
            .iter()
            .for_each(|waiter| waiter.turn.notify_all());
    }
}

impl Line {
    fn wake_first(&self) {
        if let Some(first) = self.waiters.front() {
            first.turn.notify_all();
        }
    }
}

/// How many of the items fit into the room, from the first on; `None` if the first does not.
fn fitting(weights: &[usize], room: usize) -> Option<Granted> {
    let mut granted = Granted {
        items: 0,
        weight: 0,
    };
    for weight in weights {
        match granted
            .weight
            .checked_add(*weight)
            .filter(|sum| *sum <= room)
        {
            Some(sum) => {
                granted = Granted {
                    items: granted.items + 1,
                    weight: sum,
                }
            }
            None => break,
        }
    }
    (granted.items > 0).then_some(granted)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn granted(items: usize, weight: usize) -> Option<Granted> {
        Some(Granted { items, weight })
    }

    #[test]
    fn room_is_taken_for_as_many_as_fit_and_never_beyond_the_limit() {
        let room = WeightRoom::new(10);
        assert_eq!(room.take(&[4, 0, 6, 1]), granted(3, 10));
        assert_eq!(room.take(&[1]), None);
        assert_eq!(
            room.take(&[0, 0, 1]),
            granted(2, 0),
            "what weighs nothing always fits"
        );
        room.give_back(6);
        assert_eq!(room.take(&[7, 1]), None, "the first does not fit");
        assert_eq!(room.take(&[3, usize::MAX]), granted(1, 3));
    }

    #[test]
    fn nobody_overtakes_who_waits() {
        let room = WeightRoom::new(10);
        assert_eq!(room.take(&[8]), granted(1, 8));
        let tried = std::cell::Cell::new(false);
        // Asked before the wait and at its end: the waiter is in line, and then gives up.
        let stop = || {
            if !tried.replace(true) {
                return None;
            }
            assert_eq!(
                room.take(&[1]),
                None,
                "there is room, and somebody before it in line"
            );
            assert_eq!(room.take(&[0]), granted(1, 0));
            Some(())
        };
        assert_eq!(
            room.wait(&[3], stop, || Some(crate::sync::now()), || ()),
            Err(())
        );
        assert_eq!(room.take(&[1]), granted(1, 1), "it has left the line");
        assert!(room.is_pressed());
        room.gathered(9);
        assert!(!room.is_pressed());
    }
}
