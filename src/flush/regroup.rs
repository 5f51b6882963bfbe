//! A short wait for the waiters of a batch to submit again, before the next batch is gathered.
//!
//! Threads that submit and wait in turn are all notified at once, and submit again one after
//! another. The first of them would be handed over alone, and all others together after it. The
//! batches would have 1, 7, 1, 7 items, and each thread would wait for two calls. So the flusher
//! waits for them: until as many have submitted as were notified, or for an eighth of the time that
//! their call took. If they do not submit again, as in a server with a thread for each request, it
//! waits more and more rarely.

use std::time::Duration;

use crate::sync::{LOOKS_BEFORE_SLEEP, now, yield_now};

/// The longest moment.
const LONGEST: Duration = Duration::from_millis(1);
/// No more looks than this, by a factor of those before a sleep.
const LOOKS: u32 = 64 * LOOKS_BEFORE_SLEEP;
/// More waiters than this are given no moment: they take their turns on the processors, and the
/// flusher would be behind them.
const MOST: usize = 64;
/// After this many moments in a row in which nobody came, the pauses between them get no longer:
/// 2^5 batches.
const MISSES_MAX: u32 = 5;

/// See the module's doc.
#[derive(Default)]
pub(crate) struct Regroup {
    /// Moments in a row in which nobody came.
    misses: u32,
    /// So many more batches without a moment.
    skips: u32,
}

impl Regroup {
    /// This many waiters were notified of a call that took this long; at most `room` items in line
    /// are of use.
    #[allow(clippy::reversed_empty_ranges, reason = "none in the models")]
    pub(crate) fn moment(
        &mut self,
        notified: usize,
        call: Duration,
        room: usize,
        in_line: impl Fn() -> usize,
    ) {
        let before = in_line();
        let wanted = (before + notified).min(room);
        if !(2..=MOST).contains(&notified) || before >= wanted {
            return;
        }
        if self.skips > 0 {
            self.skips -= 1;
            return;
        }
        let end = now() + (call / 8).min(LONGEST);
        for _ in 0..LOOKS {
            if in_line() >= wanted || now() >= end {
                break;
            }
            yield_now();
        }
        if in_line() > before {
            self.misses = 0;
        } else {
            self.misses = (self.misses + 1).min(MISSES_MAX);
            self.skips = 1 << self.misses;
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::cell::Cell;

    use super::*;

    const CALL: Duration = Duration::from_secs(1);

    #[test]
    fn a_moment_ends_when_all_are_back() {
        let looks = Cell::new(0);
        Regroup::default().moment(8, CALL, 100, || {
            looks.set(looks.get() + 1);
            looks.get()
        });
        // The first finds 1 in line, so 9 are wanted; one more look shows that somebody came. A
        // machine that stalls for a millisecond ends the moment earlier, after its first look.
        assert!((3..=10).contains(&looks.get()), "{} looks", looks.get());
    }

    #[test]
    fn one_waiter_a_crowd_or_a_full_line_is_given_no_moment() {
        for (notified, room) in [(1, 100), (0, 100), (65, 100), (8, 3)] {
            let looks = Cell::new(0);
            Regroup::default().moment(notified, CALL, room, || {
                looks.set(looks.get() + 1);
                3
            });
            assert_eq!(looks.get(), 1, "{notified} notified, room for {room}");
        }
    }

    #[test]
    fn moments_get_rare_where_nobody_comes_back_and_usual_where_somebody_does() {
        let mut regroup = Regroup::default();
        let looks = |regroup: &mut Regroup, coming: bool| {
            let looks = Cell::new(0);
            regroup.moment(8, Duration::ZERO, 100, || {
                looks.set(looks.get() + 1);
                if coming { looks.get() } else { 0 }
            });
            looks.get() > 1
        };
        let moments = (0..1_000).filter(|_| looks(&mut regroup, false)).count();
        assert!(
            (20..50).contains(&moments),
            "{moments} moments in 1 000 batches"
        );
        let before = (0..100).take_while(|_| !looks(&mut regroup, true)).count();
        assert!(before <= 32, "{before}");
        assert!(looks(&mut regroup, true));
        assert!(looks(&mut regroup, false), "a first miss since");
        let skipped = (0..100).take_while(|_| !looks(&mut regroup, true)).count();
        assert_eq!(skipped, 2, "it begins anew");
    }
}
