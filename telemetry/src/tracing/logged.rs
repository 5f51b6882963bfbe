//! Events where something changes.

use std::time::Duration;

use load_aware_batcher::{
    CallEvent, CloseSummary, DecisionRecord, ErrorClass, ErrorEvent, Listener, QueueFullEvent,
    StallEvent, Zone,
};
use tracing::{debug, error, info, warn};

use super::TARGET;

/// Of two full queues within this time, the second is logged at DEBUG.
const FULL_AGAIN: Duration = Duration::from_secs(10);

/// Logs what a batcher does: a listener for
/// [`Builder::listener`](load_aware_batcher::Builder::listener). It logs edges, not levels: an
/// outage of an hour is two lines.
///
/// | event | level |
/// | --- | --- |
/// | the first failed call of an outage; a handler that panics, or an answer in doubt, is ERROR | WARN |
/// | each further one | DEBUG |
/// | the first call that went through after it, with its length and its calls | INFO |
/// | rows that the handler rejected, or a single row that failed for good, once a batch | WARN |
/// | a stall begins; its end is INFO | WARN |
/// | the queue is full; its end is INFO, and both are DEBUG within 10 s of the last such warning | WARN |
/// | a decision that changes the batch size, with its reason | DEBUG |
/// | the policy sees the load in another zone | INFO |
/// | a clean close; one that is not clean is ERROR, with its counts | INFO |
///
/// A call that fails as permanent blames its rows and begins no outage.
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_telemetry::tracing::Logged;
///
/// let batcher = Batcher::builder()
///     .name("orders")
///     .listener(Logged::new("orders"))
///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Logged {
    batcher: String,
    outage: Option<Outage>,
    zone: Option<Zone>,
    /// When a full queue was warned of last.
    full_warned: Option<Duration>,
    /// Whether that is the one whose end comes next.
    full_is_warned: bool,
}

/// Calls fail, and none has gone through since.
#[derive(Debug)]
struct Outage {
    since: Duration,
    calls: u64,
}

impl Logged {
    /// For the batcher of this name.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::tracing::Logged;
    /// let listener = Logged::new("orders");
    /// # let _ = listener;
    /// ```
    #[must_use]
    pub fn new(batcher: impl Into<String>) -> Self {
        Self {
            batcher: batcher.into(),
            outage: None,
            zone: None,
            full_warned: None,
            full_is_warned: false,
        }
    }

    fn went_through(&mut self, call: &CallEvent) {
        let Some(outage) = self.outage.take() else {
            return;
        };
        let lasted = call.at.saturating_sub(outage.since);
        info!(
            target: TARGET,
            batcher = self.batcher,
            seconds = lasted.as_secs_f64(),
            failed_calls = outage.calls,
            "the backend is back"
        );
    }

    fn failed(&mut self, call: &CallEvent, failure: &ErrorEvent) {
        let batcher = self.batcher.as_str();
        let error_type = if failure.panicked {
            "panicked"
        } else {
            super::error_type(failure.class)
        };
        let text = failure.text.as_str();
        macro_rules! log {
            ($level:ident, $message:literal) => {
                $level!(
                    target: TARGET,
                    batcher,
                    batch.id = %call.id,
                    error.type = error_type,
                    error = text,
                    len = call.len,
                    attempt = call.attempt,
                    $message
                )
            };
        }
        if failure.class == ErrorClass::Permanent {
            match call.len {
                1 => log!(warn, "a row failed"),
                _ => log!(debug, "a batch has rows that fail"),
            }
            return;
        }
        let outage = self.outage.get_or_insert(Outage {
            since: call.at,
            calls: 0,
        });
        outage.calls += 1;
        match (outage.calls, failure) {
            (2.., _) => log!(debug, "calls still fail"),
            (_, failure) if failure.panicked => log!(error, "the handler panicked"),
            (_, failure) if failure.class == ErrorClass::InDoubt => {
                log!(error, "a batch is in doubt");
            }
            _ => log!(warn, "a call failed"),
        }
    }
}

impl Listener for Logged {
    fn call(&mut self, call: &CallEvent) {
        match &call.error {
            None => self.went_through(call),
            Some(failure) => self.failed(call, failure),
        }
        if call.rejected > 0 {
            warn!(
                target: TARGET,
                batcher = self.batcher,
                batch.id = %call.id,
                rejected = call.rejected,
                len = call.len,
                "rows were rejected"
            );
        }
    }

    fn decision(&mut self, decision: &DecisionRecord) {
        if decision.from != decision.to {
            debug!(
                target: TARGET,
                batcher = self.batcher,
                from = decision.from,
                to = decision.to,
                score = decision.score,
                reason = %decision.reason,
                "the batch size changes"
            );
        }
        let before = self.zone.replace(decision.zone).unwrap_or(Zone::Unknown);
        if before != decision.zone {
            info!(
                target: TARGET,
                batcher = self.batcher,
                from = zone(before),
                to = zone(decision.zone),
                score = decision.score,
                "the load is in another zone"
            );
        }
    }

    fn stall(&mut self, stall: &StallEvent) {
        match stall.lasted {
            None => warn!(
                target: TARGET,
                batcher = self.batcher,
                "stalled: nobody takes the failed rows"
            ),
            Some(lasted) => info!(
                target: TARGET,
                batcher = self.batcher,
                seconds = lasted.as_secs_f64(),
                "the stall is over"
            ),
        }
    }

    fn queue_full(&mut self, full: &QueueFullEvent) {
        let batcher = self.batcher.as_str();
        macro_rules! log {
            ($level:ident, $($rest:tt)*) => {
                $level!(target: TARGET, batcher, $($rest)*)
            };
        }
        let Some(lasted) = full.lasted else {
            let again = full.at.saturating_sub(FULL_AGAIN);
            self.full_is_warned = self.full_warned.is_none_or(|warned| warned <= again);
            if self.full_is_warned {
                self.full_warned = Some(full.at);
                log!(warn, "the queue is full: producers wait or are refused");
            } else {
                log!(debug, "the queue is full again");
            }
            return;
        };
        let seconds = lasted.as_secs_f64();
        if self.full_is_warned {
            log!(info, seconds, "the queue has room again");
        } else {
            log!(debug, seconds, "the queue has room again");
        }
    }

    fn closed(&mut self, summary: &CloseSummary) {
        if summary.is_clean {
            info!(
                target: TARGET,
                batcher = self.batcher,
                handled = summary.handled,
                "closed"
            );
            return;
        }
        error!(
            target: TARGET,
            batcher = self.batcher,
            handled = summary.handled,
            failed = summary.failed,
            unsent = summary.unsent,
            abandoned = summary.abandoned,
            timed_out = summary.timed_out,
            "closed, and not every item was handled"
        );
    }
}

/// The names of zones in the metric `batcher_policy_zone`.
fn zone(zone: Zone) -> &'static str {
    match zone {
        Zone::Low => "low",
        Zone::Normal => "normal",
        Zone::High => "high",
        _ => "unknown",
    }
}
