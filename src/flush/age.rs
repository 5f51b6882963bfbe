//! How long the first item in line has waited, without a clock read in any add.
//!
//! At each check of the queue the flusher notes the position of its end and the time. An item at or
//! after a noted position was added later than the note. The first item counts as added at the
//! latest note at or before its position. So its age is never too low, and it is too high by at
//! most the time between two checks. So an overdue item is never missed, and an item is handed over
//! at most one call early.

use std::collections::VecDeque;
use std::time::Instant;

/// Notes kept at most; beyond it none is added, and an age may be over-estimated by more than one
/// look.
const NOTES_MAX: usize = 64;

/// See the module's doc. Positions never decrease from one call to the next.
pub(crate) struct AgeEstimator {
    /// Positions, strictly increasing, each with the time at which it was the queue's end. Never
    /// empty.
    notes: VecDeque<(u64, Instant)>,
    /// The last look found nothing that waits: the next item was added after it, and the look that
    /// finds it is its note.
    was_idle: bool,
}

impl AgeEstimator {
    pub(crate) fn new(now: Instant) -> Self {
        // All that it will ever need, so that nothing is allocated while the batcher runs.
        let mut notes = VecDeque::with_capacity(NOTES_MAX);
        notes.push_back((0, now));
        Self {
            notes,
            was_idle: false,
        }
    }

    /// A look at the queue: the first item in line is at `first`, its end at `end`. Returns since
    /// when the first is taken to have waited; if there is none, the next look's time will be the
    /// next item's.
    pub(crate) fn look(&mut self, first: u64, end: u64, now: Instant) -> Instant {
        if std::mem::replace(&mut self.was_idle, first == end) {
            self.notes.clear();
            self.notes.push_back((first, now));
        }
        let notes = self.notes.len();
        match self.notes.back_mut() {
            Some((position, time)) if *position == end => *time = now,
            _ if notes < NOTES_MAX => self.notes.push_back((end, now)),
            _ => {}
        }
        while self
            .notes
            .get(1)
            .is_some_and(|(position, _)| *position <= first)
        {
            self.notes.pop_front();
        }
        self.notes.front().map_or(now, |(_, time)| *time)
    }

    /// Since when the first is taken to have waited, without a look: for the statistics. `None` if
    /// there is none, or if it has come since the last look found nothing. Then the flusher wakes
    /// for it, unless it is `held` by something else: that look is the item's note.
    pub(crate) fn peek(&self, first: u64, end: u64, held: bool) -> Option<Instant> {
        if first == end || (self.was_idle && !held) {
            return None;
        }
        let notes = self.notes.iter().rev();
        let (_, time) = notes
            .clone()
            .find(|(position, _)| *position <= first)
            .or(self.notes.front())?;
        Some(*time)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_age_is_never_too_low_and_too_high_by_one_look_at_most() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut age = AgeEstimator::new(start);
        // (first, end, time of the look) → since when the first has waited
        let table = [
            ("nobody is there", 0, 0, 0, 0),
            (
                "the wake-up of an idle flusher is the first item's note",
                0,
                1,
                100,
                100,
            ),
            (
                "a second item changes nothing for the first",
                0,
                2,
                130,
                100,
            ),
            ("the second was added after the look at 100", 1, 2, 200, 100),
            ("a third, added after the look at 200", 2, 3, 300, 200),
            ("idle again", 3, 3, 310, 310),
            ("and woken", 3, 9, 400, 400),
            ("a part of them is left", 5, 9, 450, 400),
            ("and of those that came behind 400", 9, 12, 500, 450),
        ];
        for (name, first, end, time, since) in table {
            assert_eq!(
                age.look(first, end, at(time))
                    .duration_since(start)
                    .as_millis(),
                since,
                "{name}"
            );
        }
    }

    #[test]
    fn a_peek_says_what_the_next_look_would_and_changes_nothing() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut age = AgeEstimator::new(start);
        age.look(0, 0, at(10));
        assert_eq!(age.peek(0, 0, true), None, "nobody is there");
        assert_eq!(age.peek(0, 1, false), None, "it wakes the flusher");
        assert_eq!(age.peek(0, 1, true), Some(at(10)), "nobody wakes for it");
        age.look(0, 2, at(20));
        age.look(0, 5, at(30));
        assert_eq!(age.peek(1, 9, false), Some(at(20)));
        assert_eq!(age.peek(3, 9, false), Some(at(20)));
        assert_eq!(age.peek(5, 9, false), Some(at(30)));
        assert_eq!(age.look(3, 9, at(40)), at(20));
    }

    #[test]
    fn notes_are_bounded() {
        let start = Instant::now();
        let mut age = AgeEstimator::new(start);
        for end in 1..10_000 {
            let since = age.look(0, end, start + Duration::from_millis(end));
            assert!(since <= start + Duration::from_millis(1));
        }
        assert!(age.notes.len() <= NOTES_MAX);
    }
}
