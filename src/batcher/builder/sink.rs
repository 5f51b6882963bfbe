//! Sensors and sinks, and the settings that a sink completes.

use std::time::Duration;

use super::Builder;
use crate::batcher::Batcher;
use crate::batcher::sensor::{Sampled, Sensor};
use crate::batcher::sink::{Sink, SinkError};
use crate::error::BuildError;
use crate::flush::retry::Retry;
use crate::sync::Shared;

impl<T: Send + 'static> Builder<T> {
    /// Measures the backend's load every `interval`, greater than zero, on a thread of its own, and
    /// reports it to the policy. The thread is named `load-NAME` after
    /// [`thread_name`](Self::thread_name) and ends with the batcher; a close does not wait for it.
    /// Each call adds a sensor. A sensor's panic is caught and counted in
    /// [`Stats::sensor_panics`](crate::Stats::sensor_panics).
    ///
    /// ```
    /// use std::time::Duration;
    /// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    ///
    /// let batcher = Batcher::builder()
    ///     .sensor(Duration::from_millis(500), |feedback: LoadFeedback| {
    ///         match std::fs::read_to_string("/proc/loadavg") {
    ///             Ok(text) => feedback.queue_depth(text.split('/').count() as u64),
    ///             Err(_) => feedback, // nothing measured, nothing said
    ///         }
    ///     })
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sensor(mut self, interval: Duration, sensor: impl Sensor + 'static) -> Self {
        self.sensors.push(Sampled {
            interval,
            sensor: Box::new(sensor),
        });
        self
    }

    /// Starts the batcher with a ready-made writer. The sink connects first, sets what you have not
    /// set, and adds a sensor for the backend's load.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, Batcher, BuildError, Builder, LoadFeedback};
    /// # use load_aware_batcher::{Sink, SinkError, Worker};
    /// # struct Table(&'static str);
    /// # type Writer = fn(&mut Batch<u64>) -> Result<LoadFeedback, BatchError>;
    /// # impl Sink<u64> for Table {
    /// #     type Handler = Writer;
    /// #     fn configure(&self, builder: Builder<u64>) -> Result<Builder<u64>, SinkError> {
    /// #         match self.0 {
    /// #             "readings" => Ok(builder),
    /// #             name => Err(SinkError::new(format!("there is no table {name:?}"))),
    /// #         }
    /// #     }
    /// #     fn connect(&self, _: Worker) -> Result<Writer, BatchError> {
    /// #         Ok(|_| Ok(LoadFeedback::new()))
    /// #     }
    /// # }
    /// let batcher = Batcher::builder().sink(Table("readings"))?;
    /// batcher.add(1).expect("open");
    /// let refused = Batcher::builder().sink(Table("redings")).unwrap_err();
    /// assert_eq!(refused.to_string(), "there is no table \"redings\"");
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError::Sink`] with one sentence that says what is wrong, such as an address, a
    /// password, a table or a column. Otherwise as [`spawn`](Self::spawn).
    pub fn sink<S: Sink<T> + 'static>(self, sink: S) -> Result<Batcher<T>, BuildError> {
        let mut builder = sink.configure(self).map_err(SinkError::into_build_error)?;
        if let Some(sensor) = sink.sensor() {
            let interval = builder.load_check_interval;
            builder.sensors.push(Sampled { interval, sensor });
        }
        let sink = Shared::new(sink);
        builder
            .start_workers(|_| {
                let sink = Shared::clone(&sink);
                move |worker| sink.connect(worker)
            })
            .map_err(|error| match error {
                BuildError::Handler { message, source } => BuildError::Sink { message, source },
                other => other,
            })
    }

    /// The batch size to start with where neither the user nor the policy sets one, in items; for a
    /// [`Sink`]. A start at 20 takes five more transactions to reach 640.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .initial_batch_size(10)
    ///     .default_initial_batch_size(500) // has no effect: it was set
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// assert_eq!(batcher.stats().batch_size, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn default_initial_batch_size(mut self, items: usize) -> Self {
        self.default_initial_batch_size = items;
        self
    }

    /// The largest batch size where the user sets none, in items; for a [`Sink`]. A smaller
    /// `queue_capacity` that was set bounds it.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .max_batch_size(10)
    ///     .default_max_batch_size(50_000) // has no effect: it was set
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// batcher.reconfigure(|limits| assert_eq!(limits.max_batch_size, 10))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn default_max_batch_size(mut self, items: usize) -> Self {
        self.default_max_batch_size = items;
        self
    }

    /// Sets the weight limit of a batch unless the user has set one. For a [`Sink`]. A smaller
    /// `max_queue_weight` that is set bounds it.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// let batcher = Batcher::builder()
    ///     .default_max_batch_weight(16 << 20, |row: &String| row.len())
    ///     .spawn(|_: &mut Batch<String>| Ok(LoadFeedback::new()))?;
    /// batcher.add("a row".to_owned())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn default_max_batch_weight(
        self,
        limit: usize,
        weight: impl Fn(&T) -> usize + Send + Sync + 'static,
    ) -> Self {
        if self.weigher.is_some() {
            return self;
        }
        let limit = self
            .max_queue_weight
            .map_or(limit, |queue| limit.min(queue));
        self.max_batch_weight(limit, weight)
    }

    /// Changes a part of the [`retry`](Self::retry) setting and keeps the rest of it. For a
    /// [`Sink`].
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback, Retry};
    /// let batcher = Batcher::builder()
    ///     .retry(Retry::attempts(3))
    ///     .adjust_retry(|retry| retry.bisect(false)) // still three attempts
    ///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adjust_retry(mut self, change: impl FnOnce(Retry) -> Retry) -> Self {
        self.retry = change(std::mem::take(&mut self.retry));
        self
    }
}
