//! What observers ask for numbers: the batcher's parts, without its owner.

use crate::control::limits::Control;
use crate::exchange::reporter::Reporter;
use crate::flush::lane::Lane;
use crate::observer::Source;
use crate::stats::Stats;
use crate::sync::{Arc, now};

/// See the module's doc.
pub(crate) struct Watched<T> {
    pub(crate) lane: Arc<Lane<T>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) control: Arc<Control>,
}

/// The numbers of the control plane, and those of the lane under its lock.
pub(crate) fn stats<T>(lane: &Lane<T>, control: &Control, reporter: &Reporter) -> Stats {
    let control = control.part(reporter);
    let backlog = lane.lock();
    let now = now();
    let part = backlog.part(&lane.gate, now);
    drop(backlog);
    part.with(control, now)
}

impl<T: Send> Source for Watched<T> {
    fn stats(&self) -> Stats {
        stats(&self.lane, &self.control, &self.reporter)
    }
}
