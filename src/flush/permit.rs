//! A flusher's side of the permits for calls, see `call_permits`. With one lane there are none, and
//! every call may begin.

use std::time::{Duration, Instant};

use crate::exchange::call_permits::{Answer, Asked, CallPermits, Wish};
use crate::exchange::published::SetpointCell;
use crate::policy::setpoint::Probe;
use crate::sync::Arc;

/// See the module's doc.
pub(crate) struct Permit {
    setpoint: Arc<SetpointCell>,
    /// Which lane's flusher this is.
    place: usize,
    state: Holder,
    /// The probe that it has claimed.
    claimed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Idle,
    Waiting,
    Holding,
}

impl Permit {
    pub(crate) fn new(setpoint: &Arc<SetpointCell>, place: usize) -> Self {
        Self {
            setpoint: Arc::clone(setpoint),
            place,
            state: Holder::Idle,
            claimed: None,
        }
    }

    fn permits(&self) -> Option<&CallPermits> {
        self.setpoint.permits.as_ref()
    }

    fn asked(&self, now: Instant) -> Asked {
        Asked {
            now,
            pause_ratio: self.setpoint.read(|setpoint| setpoint.pause_ratio),
        }
    }

    /// Whether a call may begin.
    pub(crate) fn is_held(&mut self) -> bool {
        let Some(permits) = self.setpoint.permits.as_ref() else {
            return true;
        };
        if self.state == Holder::Waiting && permits.holds(self.place) {
            self.state = Holder::Holding;
        }
        self.state == Holder::Holding
    }

    /// Whether pauses rest on permits, and not on the lane.
    pub(crate) fn takes_pauses(&self) -> bool {
        self.permits().is_some()
    }

    /// There is something to call. Unless it is granted now, when to ask again.
    pub(crate) fn ask(&mut self, wish: Wish, now: Instant) -> Answer {
        let Some(permits) = self.permits() else {
            return Answer::Granted;
        };
        let answer = permits.ask(self.place, wish, self.asked(now));
        self.state = match answer {
            Answer::Granted => Holder::Holding,
            Answer::Later(_) => Holder::Waiting,
        };
        answer
    }

    /// Whether a permit was granted since this flusher asked.
    pub(crate) fn was_granted(&self) -> bool {
        self.permits()
            .is_some_and(|permits| permits.holds(self.place))
    }

    /// A call has returned.
    pub(crate) fn call_ended(&mut self, service_time: Duration, now: Instant) {
        if let Some(permits) = self.permits() {
            permits.call_ended(self.place, service_time, self.asked(now));
            self.state = Holder::Idle;
        }
    }

    /// There is nothing to call.
    pub(crate) fn give_back(&mut self, now: Instant) {
        self.unclaim();
        if self.state == Holder::Idle {
            return;
        }
        self.state = Holder::Idle;
        if let Some(permits) = self.permits() {
            permits.give_back(self.place, self.asked(now));
        }
    }

    /// Whether the flusher may cut its next batch at this probe's size. With a permit it claims the
    /// probe.
    pub(crate) fn may_use(&mut self, probe: Probe) -> bool {
        let holds = self.is_held();
        let Some(permits) = self.permits() else {
            return true;
        };
        if !holds {
            return !permits.is_claimed(self.place, probe.sequence);
        }
        let is_own = permits.claim_probe(self.place, probe.sequence);
        if is_own {
            self.claimed = Some(probe.sequence);
        }
        is_own
    }

    /// A batch was cut. If it is the probe that was claimed, lanes that wait for its size go back to
    /// the ordinary one.
    pub(crate) fn batch_cut(&mut self, is_probe: bool) {
        if !is_probe {
            self.unclaim();
        } else if self.claimed.take().is_some() {
            self.setpoint.ring_all();
        }
    }

    fn unclaim(&mut self) {
        if let (Some(sequence), Some(permits)) =
            (self.claimed.take(), self.setpoint.permits.as_ref())
        {
            permits.unclaim_probe(self.place, sequence);
        }
    }

    /// Calls in progress, this one included, and how many there may be.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        self.permits().map_or((1, 1), CallPermits::in_use)
    }
}
