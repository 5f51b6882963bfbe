//! For the facade `metrics`: numbers for the recorder that the program has installed. Feature
//! `metrics`.
//!
//! [`Publisher`] sets counters and gauges from snapshots. [`Histograms`] is a listener, since the
//! facade takes the values of a histogram one by one.
//!
//! The facade's counters are whole numbers. Times that only grow, such as
//! `batcher_backoff_seconds_total`, are gauges therefore; `rate` works on them all the same. States
//! and information are gauges too.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use load_aware_batcher::metrics::{FamilyValues, Metric, MetricKind, NAMES, Sample};
use load_aware_batcher::{CallEvent, Listener};
use metrics::{Histogram, Key, Label, Level, Metadata, Recorder, Unit, with_recorder};

use crate::Observers;
use crate::measures::Measures;

static METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Sets the counters and gauges of batchers in the recorder of the calling thread.
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_telemetry::metrics::{Histograms, Publisher};
///
/// // After the program has installed its recorder:
/// let batcher = Batcher::builder()
///     .name("orders")
///     .listener(Histograms::new("orders"))
///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// let publisher = Publisher::new(batcher.observer());
/// publisher.publish(); // for example before each scrape
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Publisher(Observers);

impl Publisher {
    /// A publisher of these batchers.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::{Observers, metrics::Publisher};
    /// let observers = Observers::new();
    /// let publisher = Publisher::new(observers.clone()); // batchers may be added later
    /// # let _ = publisher;
    /// ```
    #[must_use]
    pub fn new(observers: impl Into<Observers>) -> Self {
        Self(observers.into())
    }

    /// Publishes one snapshot of each batcher.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::{Observers, metrics::Publisher};
    /// Publisher::new(Observers::new()).publish();
    /// ```
    pub fn publish(&self) {
        let snapshots = self.0.snapshots();
        with_recorder(|recorder| {
            NAMES.iter().for_each(|metric| describe(recorder, metric));
            for (batcher, stats) in &snapshots {
                for family in stats.families() {
                    if let FamilyValues::Samples(samples) = family.values {
                        for sample in samples {
                            set(recorder, family.metric, batcher, &sample);
                        }
                    }
                }
            }
        });
    }

    /// Starts a thread that publishes at once and then at this interval, and a last time when the
    /// handle is dropped. It uses the global recorder.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::{Observers, metrics::Publisher};
    /// use std::time::Duration;
    ///
    /// let publishing = Publisher::new(Observers::new()).every(Duration::from_secs(5))?;
    /// drop(publishing); // the thread has ended
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The thread did not start.
    pub fn every(self, interval: Duration) -> io::Result<Publishing> {
        let (open, closed) = mpsc::channel::<()>();
        let publish = move || {
            loop {
                self.publish();
                if closed.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    self.publish();
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("batcher-metrics".into());
        Ok(Publishing {
            open: Some(open),
            thread: Some(thread.spawn(publish)?),
        })
    }
}

/// A thread that publishes; from [`Publisher::every`]. The drop ends it and waits for it.
#[derive(Debug)]
#[must_use = "the thread ends with its handle"]
pub struct Publishing {
    /// Never sent into: its drop wakes the thread.
    open: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Publishing {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            // A recorder that panicked has said so on its own.
            let _ = thread.join();
        }
    }
}

fn describe(recorder: &dyn Recorder, metric: &Metric) {
    let (name, help) = (metric.name.into(), metric.help.into());
    let unit = match metric.unit {
        "s" => Some(Unit::Seconds),
        "1" => None,
        _ => Some(Unit::Count),
    };
    match metric.kind {
        MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
        MetricKind::Counter if metric.unit != "s" => recorder.describe_counter(name, unit, help),
        _ => recorder.describe_gauge(name, unit, help),
    }
}

fn set(recorder: &dyn Recorder, metric: &Metric, batcher: &str, sample: &Sample<'_>) {
    let own = Label::new("batcher", batcher.to_owned());
    let labels = sample
        .labels
        .iter()
        .map(|(label, value)| Label::new(*label, (*value).to_owned()));
    let labels: Vec<Label> = [own].into_iter().chain(labels).collect();
    let key = Key::from_parts(metric.name, labels);
    match metric.kind {
        MetricKind::Counter if metric.unit != "s" => {
            let counter = recorder.register_counter(&key, &METADATA);
            counter.absolute(sample.value as u64);
        }
        _ => recorder.register_gauge(&key, &METADATA).set(sample.value),
    }
}

/// Records the histograms of a batcher, once a call: a listener for
/// [`Builder::listener`](load_aware_batcher::Builder::listener).
///
/// An exporter wants the bounds:
/// [`Metric::bounds`](load_aware_batcher::metrics::Metric::bounds).
pub struct Histograms {
    measures: Measures,
    histograms: Vec<(&'static str, Histogram)>,
}

impl Histograms {
    /// For the batcher of this name. The recorder of this thread is asked here, so the program
    /// installs it before.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::metrics::Histograms;
    /// let listener = Histograms::new("orders");
    /// # let _ = listener;
    /// ```
    #[must_use]
    pub fn new(batcher: impl Into<String>) -> Self {
        let labels = vec![Label::new("batcher", batcher.into())];
        let register = |recorder: &dyn Recorder, metric: &Metric| {
            describe(recorder, metric);
            let key = Key::from_parts(metric.name, labels.clone());
            (metric.name, recorder.register_histogram(&key, &METADATA))
        };
        let histograms = with_recorder(|recorder| {
            let rows = Measures::rows();
            rows.map(|metric| register(recorder, metric)).collect()
        });
        Self {
            measures: Measures::default(),
            histograms,
        }
    }
}

impl Listener for Histograms {
    fn call(&mut self, call: &CallEvent) {
        for (name, value) in self.measures.of(call) {
            let own = self.histograms.iter().find(|(own, _)| *own == name);
            if let Some((_, histogram)) = own {
                histogram.record(value);
            }
        }
    }
}

impl fmt::Debug for Histograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histograms").finish_non_exhaustive()
    }
}
