//! What observers ask for numbers: the batcher's parts, without its owner.

use crate::control::limits::Control;
use crate::exchange::reporter::Reporter;
use crate::flush::lanes::Lanes;
use crate::observer::Source;
use crate::stats::Stats;
use crate::sync::{Arc, now};

/// See the module's doc.
pub(crate) struct Watched<T> {
    pub(crate) lanes: Arc<Lanes<T>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) control: Arc<Control>,
}

/// The numbers of the control plane, and those of all lanes under their locks: one snapshot.
pub(crate) fn stats<T>(lanes: &Lanes<T>, control: &Control, reporter: &Reporter) -> Stats {
    let control = control.part(reporter);
    let backlogs = lanes.lock();
    let now = now();
    let of_lanes = backlogs.iter().zip(lanes.all());
    let parts: Vec<_> = of_lanes
        .map(|(backlog, lane)| backlog.part(&lane.gate, now))
        .collect();
    drop(backlogs);
    control.with(parts, now)
}

impl<T: Send> Source for Watched<T> {
    fn stats(&self) -> Stats {
        stats(&self.lanes, &self.control, &self.reporter)
    }
}
