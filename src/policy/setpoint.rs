//! What is in force, as plain data: the setpoint that follows from a decision, and its bounds.

use std::time::Duration;

use super::{Concurrency, Decision, Reason, Zone};

/// A request for one batch of another size, from which the policy learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The size of the probing batch, in items.
    pub batch_size: usize,
    /// The number of this probe. Each probe is used for exactly one batch, however long its
    /// setpoint stays in force.
    pub sequence: u64,
}

/// The values in force, by the policy's last decision: the size of the batches, how long the oldest
/// item may wait, how long to pause after a call, and the reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Setpoint {
    /// A batch is handed over when it has this many items.
    pub batch_size: usize,
    /// A batch is also handed over when its oldest item has waited this long.
    pub linger: Duration,
    /// The pause after each call as a multiple of its service time; 0 is none.
    pub pause_ratio: f64,
    /// The probe that is requested, if there is one.
    pub probe: Option<Probe>,
    /// How many calls of the handler there may be at once.
    pub concurrency: usize,
    /// The load as the policy sees it.
    pub zone: Zone,
    /// The load score that the decision was based on, 0..=1.
    pub score: Option<f64>,
    /// The reason for the size.
    pub reason: Reason,
}

/// The bounds that a decision is clamped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// The user's linger: the longest there is.
    pub(crate) linger: Duration,
    pub(crate) concurrency: Concurrency,
}

impl Setpoint {
    /// The setpoint that puts a decision in force after this one. `probes` counts all probes
    /// requested so far.
    ///
    /// If this setpoint holds a probe of the same size, it is the same probe. A policy may repeat
    /// its request until it sees the sample, and gets one batch. The threads and the simulator
    /// both use this function.
    pub(crate) fn follow(&self, decision: Decision, bounds: &Bounds, probes: &mut u64) -> Self {
        let ratio = decision.pause_ratio;
        let probe = decision.probe.map(|size| {
            let batch_size = size.clamp(1, bounds.max);
            self.probe
                .filter(|probe| probe.batch_size == batch_size)
                .unwrap_or_else(|| {
                    *probes += 1;
                    Probe {
                        batch_size,
                        sequence: *probes,
                    }
                })
        });
        Self {
            batch_size: decision.batch_size.clamp(bounds.min, bounds.max),
            linger: decision
                .linger
                .map_or(bounds.linger, |asked| asked.min(bounds.linger)),
            pause_ratio: if ratio.is_finite() {
                ratio.max(0.0)
            } else {
                0.0
            },
            probe,
            concurrency: decision
                .concurrency
                .unwrap_or(self.concurrency)
                .clamp(bounds.concurrency.min(), bounds.concurrency.max()),
            zone: decision.zone,
            score: decision.score,
            reason: decision.reason,
        }
    }
}
