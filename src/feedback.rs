//! The load of the backend: the [`LoadFeedback`] that the user reports, and the [`Sample`] that the
//! policy reads.
//!
//! Plain numbers. Handlers and monitors write a `LoadFeedback`; the flusher adds what it measured
//! of the batch itself; the ring carries the sample; policies read it.

use std::time::Duration;

/// How many custom signals a batcher can declare.
pub const CUSTOM_SIGNALS_MAX: usize = 8;

/// A signal of the user's own, declared by
/// [`Builder::custom_signal`](crate::Builder::custom_signal).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CustomSignal {
    /// Its name.
    pub name: &'static str,
    /// Its weight in a load score, finite and not negative.
    pub weight: f64,
}

/// How loaded the backend is, as the user sees it: every signal is optional.
///
/// Returned by the handler, or given to [`Batcher::report`](crate::Batcher::report) by a monitor
/// thread. A signal that is not set takes no part in any score. NaN is ignored, a value out of its
/// range is clamped, and both are counted in
/// [`Stats::values_corrected`](crate::Stats::values_corrected).
///
/// ```
/// use load_aware_batcher::LoadFeedback;
/// let feedback = LoadFeedback::new().cpu_load(0.75).queue_depth(120).error_rate(0.05).db_locks(25);
/// # let _ = feedback;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub struct LoadFeedback {
    cpu_load: Option<f64>,
    queue_depth: Option<u64>,
    processing_time: Option<Duration>,
    error_rate: Option<f64>,
    db_locks: Option<u64>,
    custom: [Option<(&'static str, f64)>; CUSTOM_SIGNALS_MAX],
    /// How many values were clamped or ignored so far.
    corrected: u32,
    /// How many custom signals came after the eighth.
    surplus: u32,
}

impl LoadFeedback {
    /// No signal at all. An empty feedback is no evidence: it changes nothing.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
    ///     println!("{} items", batch.len());
    ///     Ok(LoadFeedback::new()) // this handler measures nothing
    /// })?;
    /// batcher.add(7)?;
    /// batcher.flush(std::time::Duration::from_secs(9))?;
    /// assert_eq!(batcher.stats().average_load, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// The backend's CPU load, 0 (idle) to 1 (saturated).
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let (load_average, cores) = (6.4, 8.0); // of the database's host
    /// batcher.report(LoadFeedback::new().cpu_load(load_average / cores));
    /// batcher.report(LoadFeedback::new().cpu_load(80.0)); // a percentage: counts as 1
    /// assert_eq!(batcher.stats().values_corrected, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cpu_load(mut self, share: f64) -> Self {
        self.cpu_load = self.share(share).or(self.cpu_load);
        self
    }

    /// How many requests wait at the backend.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder().spawn(|batch: &mut Batch<u64>| {
    ///     let depth = batch.len() as u64 / 10; // as the backend's answer reports it
    ///     Ok(LoadFeedback::new().queue_depth(depth))
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queue_depth(mut self, requests: u64) -> Self {
        self.queue_depth = Some(requests);
        self
    }

    /// The time that the backend reports for its work on the batch. The time of the whole call is
    /// measured in any case.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # use std::time::Duration;
    /// let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| {
    ///     let took = 12; // milliseconds, the field that many bulk interfaces answer with
    ///     Ok(LoadFeedback::new().processing_time(Duration::from_millis(took)))
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn processing_time(mut self, time: Duration) -> Self {
        self.processing_time = Some(time);
        self
    }

    /// The share of recent operations that failed, 0 to 1.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// let (failed, ended) = (0.0, 0.0); // no operation ended since the last report
    /// batcher.report(LoadFeedback::new().error_rate(failed / ended)); // NaN: ignored
    /// assert_eq!(batcher.stats().values_corrected, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn error_rate(mut self, share: f64) -> Self {
        self.error_rate = self.share(share).or(self.error_rate);
        self
    }

    /// How many requests wait for a lock at the backend.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// # let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// // A monitor's query on PostgreSQL: SELECT count(*) FROM pg_locks WHERE NOT granted
    /// let waiting = 3;
    /// batcher.report(LoadFeedback::new().db_locks(waiting));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn db_locks(mut self, waiting: u64) -> Self {
        self.db_locks = Some(waiting);
        self
    }

    /// A signal of the user's own, 0 (idle) to 1 (saturated), under a name declared by
    /// [`Builder::custom_signal`](crate::Builder::custom_signal).
    ///
    /// A name that was not declared is ignored and counted in
    /// [`Stats::unknown_signals`](crate::Stats::unknown_signals). If a name is set twice, the later
    /// value counts.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .custom_signal("replica_lag", 0.5)
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.report(LoadFeedback::new().custom("replica-lag", 0.2)); // not the name declared
    /// assert_eq!(batcher.stats().unknown_signals, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn custom(mut self, name: &'static str, share: f64) -> Self {
        if let Some(value) = self.share(share) {
            let place = self
                .custom
                .iter()
                .position(|slot| slot.is_none_or(|(known, _)| known == name));
            match place {
                Some(place) => self.custom[place] = Some((name, value)),
                None => self.surplus += 1,
            }
        }
        self
    }

    fn share(&mut self, value: f64) -> Option<f64> {
        if value.is_nan() {
            self.corrected += 1;
            return None;
        }
        if !(0.0..=1.0).contains(&value) {
            self.corrected += 1;
        }
        Some(value.clamp(0.0, 1.0))
    }

    /// The signals by declared position, how many values were corrected, how many names were not
    /// declared.
    pub(crate) fn resolve(&self, declared: &[CustomSignal]) -> (Signals, u32, u32) {
        let mut signals = Signals {
            cpu_load: self.cpu_load,
            queue_depth: self.queue_depth,
            processing_time: self.processing_time,
            error_rate: self.error_rate,
            db_locks: self.db_locks,
            custom: [None; CUSTOM_SIGNALS_MAX],
        };
        let mut unknown = self.surplus;
        for (name, value) in self.custom.iter().flatten() {
            match declared.iter().position(|signal| signal.name == *name) {
                Some(place) => signals.custom[place] = Some(*value),
                None => unknown += 1,
            }
        }
        (signals, self.corrected, unknown)
    }
}

/// The signals of one feedback as a policy reads them: in range, custom ones in the order of their
/// declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// CPU load, 0..=1.
    pub cpu_load: Option<f64>,
    /// Requests that wait at the backend.
    pub queue_depth: Option<u64>,
    /// The time that the backend reports for its work.
    pub processing_time: Option<Duration>,
    /// Share of failed operations, 0..=1.
    pub error_rate: Option<f64>,
    /// Locks waited for.
    pub db_locks: Option<u64>,
    /// Custom signals, 0..=1, in the order in which the builder declared them.
    pub custom: [Option<f64>; CUSTOM_SIGNALS_MAX],
}

impl Signals {
    /// Whether no signal is set: then the feedback is no evidence.
    ///
    /// ```
    /// # use load_aware_batcher::Signals;
    /// assert!(Signals::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a call of the handler ended, as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallOutcome {
    /// The handler returned `Ok`; single rows may still have been rejected.
    Ok,
    /// An error of the class transient, or of no class: the backend may be in trouble.
    Transient,
    /// A permanent error: the rows are the cause.
    Permanent,
    /// An in-doubt error: the answer was lost.
    InDoubt,
    /// The handler panicked.
    Panicked,
    /// The backend refused the call before it read a row: the sample is no evidence of size or
    /// time.
    Unavailable,
    /// The statement or the schema is wrong: the sample is no evidence of size or time.
    Misconfigured,
    /// Not a call but an event. A batch of `len` items failed as a whole twice, and then every part
    /// of it went through without a wait. So the backend refuses its length.
    TooLarge,
}

/// What the flusher measured of one call of the handler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSample {
    /// Items handed to the handler.
    pub len: usize,
    /// The batch size in force when the batch was cut. A sample cut at an older size is no evidence
    /// of the newer one.
    pub cut_at: usize,
    /// Whether the batch reached the size it was cut at.
    pub full: bool,
    /// Whether the batch was a probe.
    pub probe: bool,
    /// Which attempt at these items this was, from 1.
    pub attempt: u32,
    /// Time the handler took.
    pub service_time: Duration,
    /// How long the oldest item had waited when the batch was handed to the handler. An upper
    /// estimate.
    pub queue_wait: Duration,
    /// Items of this call that were not handled: rejected rows, or all of them.
    pub failed: usize,
    /// How the call ended.
    pub outcome: CallOutcome,
    /// Calls in flight when this one began, itself included.
    pub in_flight: usize,
    /// How many there were allowed then.
    pub concurrency: usize,
}

impl BatchSample {
    /// The share of the items that were not handled, 0..=1.
    ///
    /// ```
    /// # use load_aware_batcher::{BatchSample, CallOutcome};
    /// # let batch = BatchSample {
    /// #     len: 1, cut_at: 200, full: true, probe: false, attempt: 1, failed: 0,
    /// #     service_time: Default::default(), queue_wait: Default::default(),
    /// #     outcome: CallOutcome::Ok, in_flight: 1, concurrency: 1,
    /// # };
    /// let rejected = BatchSample { len: 200, failed: 50, ..batch };
    /// assert_eq!(rejected.failed_share(), 0.25);
    /// let empty = BatchSample { len: 0, ..batch };
    /// assert_eq!(empty.failed_share(), 0.0); // not NaN
    /// ```
    #[must_use]
    pub fn failed_share(&self) -> f64 {
        if self.len == 0 {
            0.0
        } else {
            self.failed as f64 / self.len as f64
        }
    }
}

/// One piece of evidence: a batch with the feedback its handler returned, or a monitor's report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The user's signals; empty if the handler failed or set none.
    pub signals: Signals,
    /// What was measured of the batch; `None` for a monitor's report.
    pub batch: Option<BatchSample>,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_is_clamped_nan_ignored_and_both_counted() {
        let names = [CustomSignal {
            name: "replica_lag",
            weight: 1.0,
        }];
        let table: [(LoadFeedback, Option<f64>, u32); 5] = [
            (LoadFeedback::new().cpu_load(0.5), Some(0.5), 0),
            (LoadFeedback::new().cpu_load(1.5), Some(1.0), 1),
            (LoadFeedback::new().cpu_load(-0.1), Some(0.0), 1),
            (LoadFeedback::new().cpu_load(f64::NAN), None, 1),
            (LoadFeedback::new().cpu_load(f64::INFINITY), Some(1.0), 1),
        ];
        for (feedback, cpu_load, corrected) in table {
            let (signals, counted, unknown) = feedback.resolve(&names);
            assert_eq!(
                (signals.cpu_load, counted, unknown),
                (cpu_load, corrected, 0),
                "{feedback:?}"
            );
        }
    }

    #[test]
    fn custom_signals_have_their_declared_place_and_unknown_names_are_counted() {
        let names = [("a", 1.0), ("b", 2.0)].map(|(name, weight)| CustomSignal { name, weight });
        let (signals, _, unknown) = LoadFeedback::new()
            .custom("b", 0.5)
            .custom("c", 0.1)
            .custom("b", 0.6)
            .resolve(&names);
        assert_eq!(signals.custom[..3], [None, Some(0.6), None]);
        assert_eq!(unknown, 1);
        let mut many = LoadFeedback::new();
        for name in ["1", "2", "3", "4", "5", "6", "7", "8", "9"] {
            many = many.custom(name, 0.5);
        }
        assert_eq!(many.resolve(&names).2, 9);
    }
}
