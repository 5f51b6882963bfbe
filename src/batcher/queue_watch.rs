//! Whether producers wait for room, or are refused since there is none. The controller looks at each
//! check, and listeners are told where that begins and ends: an add notes nothing for it.

use std::time::{Duration, Instant};

use crate::events::QueueFullEvent;
use crate::flush::lanes::Lanes;
use crate::journal::Journal;
use crate::listeners::Told;
use crate::sync::{Arc, Shared, now};

/// A look at the queues of a batcher, which tells the listeners.
pub(crate) fn watch<T: Send + 'static>(
    lanes: &Arc<Lanes<T>>,
    journal: &Shared<Journal>,
) -> Box<dyn FnMut() + Send> {
    let (lanes, journal) = (Arc::clone(lanes), Shared::clone(journal));
    let mut pressure = Pressure::default();
    Box::new(move || {
        let now = now();
        let mut seen = Seen::default();
        for lane in lanes.all() {
            let (blocked, waited) = lane.gate.blocked.read(now);
            seen.blocked += blocked;
            seen.waited += waited;
            seen.refused += lane.gate.refusals.read().full;
        }
        if let Some(edge) = pressure.see(seen, now) {
            let lasted = match edge {
                Edge::Begins => None,
                Edge::Ends { lasted } => Some(lasted),
            };
            let at = journal.at(now);
            journal.tell(Told::QueueFull(QueueFullEvent { at, lasted }));
            journal.deliver();
        }
    })
}

/// What the queues show: threads that wait, and what only grows.
#[derive(Clone, Copy, Default)]
struct Seen {
    blocked: usize,
    waited: Duration,
    refused: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Edge {
    Begins,
    Ends { lasted: Duration },
}

#[derive(Default)]
struct Pressure {
    before: Seen,
    since: Option<Instant>,
}

impl Pressure {
    fn see(&mut self, seen: Seen, now: Instant) -> Option<Edge> {
        let before = std::mem::replace(&mut self.before, seen);
        // A wait that began and ended between two checks has left its time.
        let is_full =
            seen.blocked > 0 || seen.waited > before.waited || seen.refused > before.refused;
        match (self.since, is_full) {
            (None, true) => {
                self.since = Some(now);
                Some(Edge::Begins)
            }
            (Some(since), false) => {
                self.since = None;
                let lasted = now.saturating_duration_since(since);
                Some(Edge::Ends { lasted })
            }
            _ => None,
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_refusal_or_a_wait_between_two_checks_begins_it_and_a_check_without_either_ends_it() {
        let (mut pressure, start) = (Pressure::default(), now());
        let mut seen = Seen::default();
        assert_eq!(pressure.see(seen, start), None);
        seen.refused = 1;
        assert_eq!(pressure.see(seen, start + SECOND), Some(Edge::Begins));
        seen.waited = Duration::from_nanos(1);
        assert_eq!(pressure.see(seen, start + SECOND * 2), None, "it goes on");
        seen.blocked = 1;
        assert_eq!(pressure.see(seen, start + SECOND * 3), None);
        seen.blocked = 0;
        let lasted = SECOND * 3;
        assert_eq!(
            pressure.see(seen, start + SECOND * 4),
            Some(Edge::Ends { lasted })
        );
        assert_eq!(pressure.see(seen, start + SECOND * 5), None);
    }
}
