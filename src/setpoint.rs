//! What the controller asks of the flusher: written under the control lock, read by the flusher at
//! every batch without waiting.

use std::time::Duration;

use crate::doorbell::Doorbell;
use crate::policy::{Decision, Reason, Zone};
use crate::sync::{Arc, AtomicUsize, Ordering, Published};

/// The size of the next batch alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The size of the probing batch, in items.
    pub batch_size: usize,
    /// Which probe this is: each is used for exactly one batch, however long its setpoint stays in
    /// force.
    pub sequence: u64,
}

/// What is in force: the size of the batches, how long the oldest item may wait, how long to pause
/// after a call, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Setpoint {
    /// A batch is handed over when it has this many items.
    pub batch_size: usize,
    /// Or when its oldest item has waited this long.
    pub linger: Duration,
    /// The pause after each call as a multiple of its service time; 0 is none.
    pub pause_ratio: f64,
    /// The size of the next batch alone.
    pub probe: Option<Probe>,
    /// Where the policy saw the load.
    pub zone: Zone,
    /// The load score it went by, 0..=1.
    pub score: Option<f64>,
    /// Why the size is what it is.
    pub reason: Reason,
}

/// What a decision is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// The user's linger: the longest there is.
    pub(crate) linger: Duration,
}

impl Setpoint {
    /// The setpoint that puts a decision in force behind this one. `probes` counts those ever asked
    /// for.
    ///
    /// A probe of the size that this setpoint still holds is the same probe: a policy may repeat
    /// itself until it sees the probe's sample, and gets one batch. The threads and the simulator
    /// both go this step.
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
            zone: decision.zone,
            score: decision.score,
            reason: decision.reason,
        }
    }
}

/// What is published: the setpoint, and what the flusher alone needs to know.
struct InForce {
    setpoint: Setpoint,
    /// How long an item that somebody waits for may linger: as long as the policy asked for itself,
    /// at most the setpoint's linger; zero if that is the user's.
    waited_linger: Duration,
}

/// The setpoint in force.
///
/// # Protocol
/// Writer, under the control lock: (1) publish the whole, (2) store the size, (3) ring the
/// flusher's doorbell if it might sleep for longer than the new setpoint allows. Flusher: (a)
/// announce the sleep in the doorbell, (b) read the setpoint, (c) sleep only if (b) still justifies
/// it. A writer between (b) and (c) rings after it published, and the ring leaves a token that ends
/// the sleep at once: no smaller size is slept through.
///
/// # Orderings
/// The whole travels through arc-swap, which orders it. `batch_size` is a copy for readers who need
/// only the number.
pub(crate) struct SetpointCell {
    whole: Published<InForce>,
    /// The size of `whole`, at least 1. Written by whoever holds the control lock; read by the
    /// flusher and by `stats`. A reader may see it one publication older than `whole`.
    batch_size: AtomicUsize,
    doorbell: Arc<Doorbell>,
}

impl SetpointCell {
    pub(crate) fn new(first: Setpoint, doorbell: Arc<Doorbell>) -> Self {
        let batch_size = AtomicUsize::new(first.batch_size);
        let whole = Published::new(InForce {
            setpoint: first,
            waited_linger: Duration::ZERO,
        });
        Self {
            batch_size,
            whole,
            doorbell,
        }
    }

    /// Puts a setpoint in force, with the linger that the policy asked for itself. The caller holds
    /// the control lock.
    pub(crate) fn publish(&self, next: Setpoint, policy_linger: Duration) {
        let waited_linger = policy_linger.min(next.linger);
        let shorter = self.whole.read(
            |InForce {
                 setpoint: old,
                 waited_linger: old_waited,
             }| {
                next.batch_size < old.batch_size
                    || next.linger < old.linger
                    || waited_linger < *old_waited
                    || next.pause_ratio < old.pause_ratio
                    || next.probe.is_some()
            },
        );
        let batch_size = next.batch_size;
        self.whole.publish(InForce {
            setpoint: next,
            waited_linger,
        });
        // Release: pairs with the Acquire in `batch_size`; whoever sees the new size sees the
        // setpoint it came with.
        self.batch_size.store(batch_size, Ordering::Release);
        if shorter {
            self.doorbell.ring();
        }
    }

    /// The size in force.
    pub(crate) fn batch_size(&self) -> usize {
        // Acquire: pairs with the Release in `publish`.
        self.batch_size.load(Ordering::Acquire)
    }

    /// Looks at the whole setpoint without copying it.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Setpoint) -> R) -> R {
        self.whole.read(|now| look(&now.setpoint))
    }

    /// The same with the linger of an item that somebody waits for.
    pub(crate) fn read_with_waited_linger<R>(
        &self,
        look: impl FnOnce(&Setpoint, Duration) -> R,
    ) -> R {
        self.whole
            .read(|now| look(&now.setpoint, now.waited_linger))
    }
}
