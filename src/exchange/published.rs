//! What the controller asks of the flushers: written under the control lock, read by each flusher at
//! every batch without waiting.

use std::time::Duration;

use crate::exchange::call_permits::CallPermits;
use crate::policy::setpoint::Setpoint;
use crate::sync::{Arc, AtomicUsize, Ordering, Published};
use crate::wakeup::Doorbell;

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
/// Writer, under the control lock:
///
/// - (1) Publish the whole setpoint.
/// - (2) Store the size, and allow the new number of calls at once.
/// - (3) Ring the doorbell of every flusher, if one might sleep longer than the new setpoint
///   allows.
///
/// Flusher:
///
/// - (a) Announce the sleep in its doorbell.
/// - (b) Read the setpoint.
/// - (c) Sleep only if (b) still justifies it.
///
/// The race: a setpoint is published between (b) and (c). The writer rings after that, and the ring
/// leaves a token that ends the sleep at once. So the flusher never sleeps through a smaller size.
///
/// # Orderings
/// The whole travels through arc-swap, which orders it. `batch_size` is a copy for readers who need
/// only the number.
pub(crate) struct SetpointCell {
    whole: Published<InForce>,
    /// The size of `whole`, at least 1. Written under the control lock; read by the
    /// flushers and by `stats`. A reader may see it one publication older than `whole`.
    batch_size: AtomicUsize,
    /// One for each lane.
    doorbells: Box<[Arc<Doorbell>]>,
    /// Where there is more than one lane.
    pub(crate) permits: Option<CallPermits>,
}

impl SetpointCell {
    /// For the flushers that sleep at these doorbells, with permits if there are several.
    pub(crate) fn new(
        first: Setpoint,
        doorbells: Box<[Arc<Doorbell>]>,
        permits: Option<CallPermits>,
    ) -> Self {
        let batch_size = AtomicUsize::new(first.batch_size);
        let whole = Published::new(InForce {
            setpoint: first,
            waited_linger: Duration::ZERO,
        });
        Self {
            batch_size,
            whole,
            doorbells,
            permits,
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
                    || next.concurrency > old.concurrency
            },
        );
        let (batch_size, concurrency) = (next.batch_size, next.concurrency);
        self.whole.publish(InForce {
            setpoint: next,
            waited_linger,
        });
        // Release: pairs with the Acquire in `batch_size`; a reader of the new size sees the
        // setpoint it came with.
        self.batch_size.store(batch_size, Ordering::Release);
        if let Some(permits) = &self.permits {
            permits.set_limit(concurrency);
        }
        if shorter {
            self.ring_all();
        }
    }

    /// Wakes every flusher, whatever it sleeps for.
    pub(crate) fn ring_all(&self) {
        self.doorbells.iter().for_each(|doorbell| doorbell.ring());
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
