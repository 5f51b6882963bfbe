//! A handler in a span.

use std::time::Instant;

use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use tracing::field::Empty;
use tracing::{Span, debug_span};

use super::TARGET;

/// A handler whose calls run in a span `batch` of level DEBUG, so that the spans of a driver nest in
/// it.
///
/// Its fields are `batcher`, `batch.id`, `batch.parent` for a part of a batch, `len`, `attempt`,
/// `trigger`, `size_in_force`, `probe` and, where it was measured, `queue_wait_ms`. At the end of
/// the call it gets `outcome`, `service_ms`, `rejected` and `otel.status_code`, and after a failure
/// `error.type`. Outcome and type are named as in the metric `batcher_calls_total`. After a panic of
/// the handler the span has none of these but `outcome`, `otel.status_code` and `service_ms`.
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_telemetry::tracing::Traced;
///
/// let handler = Traced::new("orders", |_: &mut Batch<u64>| Ok(LoadFeedback::new()));
/// let batcher = Batcher::builder().name("orders").spawn(handler)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Traced<H> {
    batcher: String,
    handler: H,
}

impl<H> Traced<H> {
    /// Wraps a handler of the batcher of this name.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, BatchError, LoadFeedback};
    /// # use load_aware_batcher_telemetry::tracing::Traced;
    /// let handler = |_: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> { Ok(LoadFeedback::new()) };
    /// let traced = Traced::new("orders", handler);
    /// # let _ = traced;
    /// ```
    #[must_use]
    pub fn new(batcher: impl Into<String>, handler: H) -> Self {
        Self {
            batcher: batcher.into(),
            handler,
        }
    }

    /// The handler.
    ///
    /// ```
    /// # use load_aware_batcher_telemetry::tracing::Traced;
    /// assert_eq!(Traced::new("orders", 1).into_inner(), 1);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> H {
        self.handler
    }
}

impl<T, H: Handler<T>> Handler<T> for Traced<H> {
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        let span = debug_span!(
            target: TARGET,
            "batch",
            batcher = self.batcher,
            batch.id = %batch.id(),
            batch.parent = batch.parent().map(tracing::field::display),
            len = batch.len(),
            attempt = batch.attempt(),
            trigger = super::trigger(batch.trigger()),
            size_in_force = batch.cut_at(),
            probe = batch.is_probe(),
            queue_wait_ms = batch.queue_wait().map(|wait| wait.as_secs_f64() * 1e3),
            outcome = Empty,
            error.type = Empty,
            service_ms = Empty,
            rejected = Empty,
            otel.status_code = Empty,
        );
        let _entered = span.enter();
        let call = Call {
            span: &span,
            begun: Instant::now(),
        };
        let result = self.handler.handle(batch);
        let error = result.as_ref().err();
        let error_type = error.map(|error| super::error_type(error.class()));
        span.record("outcome", error_type.unwrap_or("ok"));
        span.record("error.type", error_type);
        span.record("rejected", batch.rejected());
        let status = if result.is_ok() { "OK" } else { "ERROR" };
        span.record("otel.status_code", status);
        drop(call);
        result
    }
}

/// A call under way. Its drop records the time, also while a panic passes.
struct Call<'a> {
    span: &'a Span,
    begun: Instant,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.span.record("outcome", "panicked");
            self.span.record("otel.status_code", "ERROR");
        }
        let service_time = self.begun.elapsed();
        self.span
            .record("service_ms", service_time.as_secs_f64() * 1e3);
    }
}
