//! Permits for calls: they bound how many lanes of one batcher are in a call of the handler at
//! once.
//!
//! The bound is the setpoint's `concurrency`. A batcher with one lane has no permits. A lane asks
//! for a permit before it gathers, so a batch grows while it waits. It gives the permit back when
//! the call has returned. So a lane in a backoff holds none.
//!
//! | state of a lane | what it means |
//! | --- | --- |
//! | `Idle` | it asks for nothing |
//! | `Waiting` | it has something to call and no permit; with what it waits for |
//! | `Holding` | it has a permit: it gathers or is in a call |
//!
//! # Protocol
//! All states are under one lock. Lane:
//!
//! - (1) Under the lock, become `Waiting`. Then grant free permits to the waiting lanes, the most
//!   urgent first.
//! - (2) If this lane is `Holding` now, visit the backlog.
//! - (3) Otherwise sleep at the lane's doorbell, and go on with (1).
//!
//! A lane whose visit leads to no call becomes `Idle` again. A thread that frees a permit, or
//! allows more of them:
//!
//! - (a) Under the lock, grant.
//! - (b) Ring the doorbell of each other lane that was granted a permit.
//!
//! The first race: a permit is granted while the lane falls asleep. The grant makes the lane
//! `Holding` under the lock. If that comes before (2), the lane sees it there. If it comes after,
//! the ring (b) leaves a token in the lane's parker, which ends the sleep (3) at once.
//!
//! The second race: a lane is granted a permit that it no longer needs, because its batcher was
//! abandoned meanwhile. Each visit ends with a call or with [`give_back`](CallPermits::give_back),
//! which grants the permit to another lane.
//!
//! # Order
//! The lane whose item has been overdue longest comes first. If no item is overdue, the lane with
//! the most items in line does. So a waiting lane is granted a permit after finitely many calls.
//! And a single permit among many lanes serves full batches while there are any.
//!
//! # Probes
//! A probe is one batch, whichever lane cuts it. A lane that holds a permit claims the probe before
//! it gathers, and returns a claim that it did not use.
//!
//! # Pauses
//! A pause after a call belongs to the permit: no lane can use the permit until the pause is over.
//! Otherwise the next lane would call during the pause of the previous one. Nobody is woken when a
//! pause ends: a waiting lane sleeps until the first pause ends.

use std::time::{Duration, Instant};

use crate::sync::{Arc, Mutex};
use crate::wakeup::Doorbell;

/// What a lane wants a permit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Since when it should have been called, or will be overdue; `None` if it has no deadline.
    pub(crate) due: Option<Instant>,
    /// Items in line that have left the channel.
    pub(crate) carryover: usize,
}

/// A lane as the permits know it.
pub(crate) struct LaneEnd {
    /// Where its flusher sleeps.
    pub(crate) doorbell: Arc<Doorbell>,
    /// How many items are in its channel. Asked under the permits' lock: it takes none itself.
    pub(crate) in_channel: Box<dyn Fn() -> usize + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Idle,
    Waiting(Wish),
    Holding {
        /// Somebody flushed: the pause after this call is left out.
        without_pause: bool,
    },
}

/// A permit that rests after a call.
#[derive(Clone, Copy)]
struct Rest {
    since: Instant,
    service_time: Duration,
}

impl Rest {
    /// Its end, by the pause ratio in force now.
    fn until(&self, pause_ratio: f64) -> Instant {
        let pause = self.service_time.as_secs_f64() * pause_ratio;
        Duration::try_from_secs_f64(pause)
            .ok()
            .and_then(|pause| self.since.checked_add(pause))
            .unwrap_or(self.since)
    }
}

struct State {
    /// So many lanes may be in a call.
    limit: usize,
    lanes: Box<[Holder]>,
    resting: Vec<Rest>,
    /// The batcher is being closed: there are no pauses any more.
    closing: bool,
    /// The last probe that a lane has claimed, by its sequence number, and which lane.
    claimed: (u64, usize),
}

/// What is in force as a lane asks.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) now: Instant,
    pub(crate) pause_ratio: f64,
}

/// The answer to a lane that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Granted,
    /// Not yet; ask again then, or when the doorbell rings.
    Later(Option<Instant>),
}

/// See the module's doc.
pub(crate) struct CallPermits {
    state: Mutex<State>,
    ends: Box<[LaneEnd]>,
}

impl CallPermits {
    /// For these lanes, at most `limit` of them at once.
    pub(crate) fn new(limit: usize, ends: Box<[LaneEnd]>) -> Self {
        let lanes = ends.iter().map(|_| Holder::Idle).collect();
        Self {
            state: Mutex::new(State {
                limit,
                lanes,
                resting: Vec::new(),
                closing: false,
                claimed: (0, 0),
            }),
            ends,
        }
    }

    /// Steps (1) and (2): the lane wants to call.
    pub(crate) fn ask(&self, lane: usize, wish: Wish, asked: Asked) -> Answer {
        let mut state = self.state.lock();
        if !matches!(state.lanes[lane], Holder::Holding { .. }) {
            state.lanes[lane] = Holder::Waiting(wish);
        }
        let granted = state.grant(&self.ends, asked);
        let answer = match state.lanes[lane] {
            Holder::Holding { .. } => Answer::Granted,
            _ => Answer::Later(state.first_rest_end(asked)),
        };
        drop(state);
        self.ring(granted, Some(lane));
        answer
    }

    /// Whether the lane was granted a permit since it asked.
    pub(crate) fn holds(&self, lane: usize) -> bool {
        matches!(self.state.lock().lanes[lane], Holder::Holding { .. })
    }

    /// The lane, which holds a permit, is about to gather: whether the probe with this number is its
    /// own to use.
    pub(crate) fn claim_probe(&self, lane: usize, sequence: u64) -> bool {
        let mut state = self.state.lock();
        let (last, by) = state.claimed;
        let is_new = sequence > last;
        if is_new {
            state.claimed = (sequence, lane);
        }
        is_new || (sequence, lane) == (last, by)
    }

    /// The lane has no use for this probe.
    pub(crate) fn unclaim_probe(&self, lane: usize, sequence: u64) {
        let mut state = self.state.lock();
        if state.claimed == (sequence, lane) {
            state.claimed.0 = sequence - 1;
        }
    }

    /// Whether another lane has claimed the probe with this number, or a later one.
    pub(crate) fn is_claimed(&self, lane: usize, sequence: u64) -> bool {
        let (last, by) = self.state.lock().claimed;
        last > sequence || (last == sequence && by != lane)
    }

    /// The lane's call has returned: its permit rests as long as the pause is.
    pub(crate) fn call_ended(&self, lane: usize, service_time: Duration, asked: Asked) {
        let mut state = self.state.lock();
        let held = std::mem::replace(&mut state.lanes[lane], Holder::Idle);
        let rests = held
            == Holder::Holding {
                without_pause: false,
            };
        if rests && asked.pause_ratio > 0.0 {
            state.resting.push(Rest {
                since: asked.now,
                service_time,
            });
        }
        let granted = state.grant(&self.ends, asked);
        drop(state);
        self.ring(granted, Some(lane));
    }

    /// The lane wants nothing: what it holds goes to another.
    pub(crate) fn give_back(&self, lane: usize, asked: Asked) {
        let mut state = self.state.lock();
        state.lanes[lane] = Holder::Idle;
        let granted = state.grant(&self.ends, asked);
        drop(state);
        self.ring(granted, Some(lane));
    }

    /// Allows this many calls at once from now on. The caller rings all lanes.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit;
    }

    /// Somebody flushes: one pause is cut, the running one or the one after the running call. The
    /// caller rings all lanes.
    pub(crate) fn cut_pauses(&self) {
        let mut state = self.state.lock();
        state.resting.clear();
        for lane in &mut state.lanes {
            if let Holder::Holding { without_pause } = lane {
                *without_pause = true;
            }
        }
    }

    /// The batcher is being closed: there are no pauses any more. The caller rings all lanes.
    pub(crate) fn end_pauses(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.resting.clear();
    }

    /// How many lanes hold a permit, and how many may.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.held(), state.limit)
    }

    /// The lane with the fewest items in its channel, one without a permit if there is any; the next
    /// one after `place` among equals.
    pub(crate) fn least_loaded(&self, place: usize) -> usize {
        let state = self.state.lock();
        let count = self.ends.len();
        (1..=count)
            .map(|offset| (place + offset) % count)
            .min_by_key(|lane| {
                let holds = matches!(state.lanes[*lane], Holder::Holding { .. });
                (holds, (self.ends[*lane].in_channel)())
            })
            .unwrap_or(place)
    }

    fn ring(&self, granted: Vec<usize>, but: Option<usize>) {
        for lane in granted {
            if Some(lane) != but {
                self.ends[lane].doorbell.ring();
            }
        }
    }
}

impl State {
    fn held(&self) -> usize {
        let holds = |lane: &&Holder| matches!(lane, Holder::Holding { .. });
        self.lanes.iter().filter(holds).count()
    }

    /// Grants what is free to the lanes that wait, the most urgent first; returns which.
    fn grant(&mut self, ends: &[LaneEnd], asked: Asked) -> Vec<usize> {
        let Asked { now, pause_ratio } = asked;
        let closing = self.closing;
        self.resting
            .retain(|rest| !closing && rest.until(pause_ratio) > now);
        let used = self.held() + self.resting.len();
        let mut granted = Vec::new();
        for _ in used..self.limit {
            let Some(lane) = self.most_urgent(ends, now) else {
                break;
            };
            self.lanes[lane] = Holder::Holding {
                without_pause: false,
            };
            granted.push(lane);
        }
        granted
    }

    /// The lane that waits with the longest overdue item, or else with the most items.
    fn most_urgent(&self, ends: &[LaneEnd], now: Instant) -> Option<usize> {
        let urgency = |lane: usize, wish: &Wish| {
            let overdue = wish
                .due
                .and_then(|due| now.checked_duration_since(due))
                .map(|late| late + Duration::from_nanos(1));
            (overdue, (ends[lane].in_channel)() + wish.carryover)
        };
        self.lanes
            .iter()
            .enumerate()
            .filter_map(|(lane, holder)| match holder {
                Holder::Waiting(wish) => Some((lane, urgency(lane, wish))),
                _ => None,
            })
            // The first of those that are equal.
            .rev()
            .max_by_key(|(_, urgency)| *urgency)
            .map(|(lane, _)| lane)
    }

    /// When the first pause ends that keeps a lane waiting.
    fn first_rest_end(&self, asked: Asked) -> Option<Instant> {
        let ends = self
            .resting
            .iter()
            .map(|rest| rest.until(asked.pause_ratio));
        ends.min()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sync::{Parker, now};

    const MS: Duration = Duration::from_millis(1);

    fn permits(limit: usize, lanes: usize) -> CallPermits {
        let end = |_| LaneEnd {
            doorbell: Arc::new(Doorbell::new(&Parker::new())),
            in_channel: Box::new(|| 0),
        };
        CallPermits::new(limit, (0..lanes).map(end).collect())
    }

    fn at(now: Instant) -> Asked {
        Asked {
            now,
            pause_ratio: 0.0,
        }
    }

    fn full(carryover: usize) -> Wish {
        Wish {
            due: None,
            carryover,
        }
    }

    #[test]
    fn at_most_so_many_lanes_hold_a_permit() {
        let (permits, start) = (permits(2, 3), now());
        assert_eq!(permits.ask(0, full(1), at(start)), Answer::Granted);
        assert_eq!(permits.ask(1, full(1), at(start)), Answer::Granted);
        assert_eq!(permits.ask(2, full(1), at(start)), Answer::Later(None));
        permits.call_ended(0, MS, at(start));
        assert!(permits.holds(2) && !permits.holds(0));
        assert_eq!(permits.in_use(), (2, 2));
    }

    #[test]
    fn the_longest_overdue_lane_comes_first_and_then_the_fullest() {
        let (permits, start) = (permits(1, 5), now());
        assert_eq!(permits.ask(0, full(1), at(start)), Answer::Granted);
        let wishes = [
            (1, full(10)),
            (2, full(99)),
            (
                3,
                Wish {
                    due: Some(start + MS),
                    carryover: 1,
                },
            ),
            (
                4,
                Wish {
                    due: Some(start + MS * 2),
                    carryover: 50,
                },
            ),
        ];
        for (lane, wish) in wishes {
            assert_eq!(permits.ask(lane, wish, at(start)), Answer::Later(None));
        }
        let mut order = Vec::new();
        let mut holder = 0;
        for step in 3..7 {
            permits.call_ended(holder, MS, at(start + MS * step));
            holder = (0..5).find(|lane| permits.holds(*lane)).unwrap();
            order.push(holder);
        }
        assert_eq!(order, [3, 4, 2, 1]);
    }

    #[test]
    fn what_is_not_overdue_yet_counts_by_its_items() {
        let (permits, start) = (permits(1, 3), now());
        assert_eq!(permits.ask(0, full(1), at(start)), Answer::Granted);
        let later = Wish {
            due: Some(start + MS * 9),
            carryover: 1,
        };
        let _ = permits.ask(1, later, at(start));
        let _ = permits.ask(2, full(2), at(start));
        permits.call_ended(0, MS, at(start + MS));
        assert!(permits.holds(2));
    }

    #[test]
    fn a_pause_rests_on_the_permit_for_every_lane() {
        let (permits, start) = (permits(1, 2), now());
        let asked = |now| Asked {
            now,
            pause_ratio: 2.0,
        };
        assert_eq!(permits.ask(0, full(1), asked(start)), Answer::Granted);
        permits.call_ended(0, MS, asked(start + MS));
        let end = start + MS * 3;
        assert_eq!(
            permits.ask(1, full(1), asked(start + MS)),
            Answer::Later(Some(end))
        );
        assert_eq!(permits.ask(1, full(1), asked(end)), Answer::Granted);
    }

    #[test]
    fn a_shorter_pause_counts_at_once_and_a_flush_or_a_close_cuts_it() {
        let start = now();
        let paused = |now| Asked {
            now,
            pause_ratio: 1e6,
        };
        let resting = || {
            let permits = permits(1, 2);
            assert_eq!(permits.ask(0, full(1), paused(start)), Answer::Granted);
            permits.call_ended(0, MS, paused(start));
            assert_ne!(permits.ask(1, full(1), paused(start)), Answer::Granted);
            permits
        };
        assert_eq!(resting().ask(1, full(1), at(start)), Answer::Granted);
        let flushed = resting();
        flushed.cut_pauses();
        assert_eq!(flushed.ask(1, full(1), paused(start)), Answer::Granted);
        flushed.cut_pauses();
        flushed.call_ended(1, MS, paused(start));
        let after = flushed.ask(0, full(1), paused(start));
        assert_eq!(after, Answer::Granted, "the pause after the call under way");
        flushed.call_ended(0, MS, paused(start));
        let next = flushed.ask(0, full(1), paused(start));
        assert_ne!(next, Answer::Granted, "no other pause is cut");
        let closing = resting();
        closing.end_pauses();
        assert_eq!(closing.ask(1, full(1), paused(start)), Answer::Granted);
        closing.call_ended(1, MS, paused(start));
        assert_eq!(closing.ask(0, full(1), paused(start)), Answer::Granted);
    }

    #[test]
    fn a_permit_that_is_not_wanted_goes_to_another_lane() {
        let (permits, start) = (permits(1, 3), now());
        assert_eq!(permits.ask(0, full(1), at(start)), Answer::Granted);
        let _ = permits.ask(1, full(2), at(start));
        let _ = permits.ask(2, full(1), at(start));
        permits.give_back(1, at(start));
        permits.give_back(0, at(start));
        assert!(permits.holds(2), "lane 1 no longer waits");
    }

    #[test]
    fn the_next_lane_to_fill_is_one_that_is_not_in_a_call() {
        let (permits, start) = (permits(2, 3), now());
        let _ = permits.ask(0, full(1), at(start));
        assert_eq!(permits.least_loaded(0), 1);
        let _ = permits.ask(1, full(1), at(start));
        assert_eq!(permits.least_loaded(1), 2);
        permits.call_ended(0, MS, at(start));
        assert_eq!(permits.least_loaded(2), 0);
    }

    #[test]
    fn a_probe_is_claimed_by_one_lane() {
        let permits = permits(2, 2);
        assert!(permits.claim_probe(0, 1) && permits.claim_probe(0, 1));
        assert!(permits.is_claimed(1, 1) && !permits.is_claimed(0, 1));
        assert!(!permits.claim_probe(1, 1));
        permits.unclaim_probe(1, 1);
        assert!(permits.is_claimed(1, 1), "it was not lane 1's");
        permits.unclaim_probe(0, 1);
        assert!(permits.claim_probe(1, 1) && permits.claim_probe(0, 2));
        permits.unclaim_probe(1, 1);
        assert!(
            !permits.claim_probe(1, 1),
            "a later one was claimed meanwhile"
        );
    }

    #[test]
    fn a_smaller_limit_counts_once_calls_have_returned_and_a_larger_one_at_the_next_look() {
        let (permits, start) = (permits(2, 3), now());
        for lane in 0..3 {
            let _ = permits.ask(lane, full(1), at(start));
        }
        permits.set_limit(1);
        permits.call_ended(0, MS, at(start));
        assert!(!permits.holds(2), "one is still in a call");
        permits.set_limit(2);
        assert_eq!(permits.ask(2, full(1), at(start)), Answer::Granted);
    }
}
