//! A sink whose errors a test sees.

use std::sync::Arc;

use load_aware_batcher::{
    Batch, BatchError, Builder, Handler, LoadFeedback, Sensor, Sink, SinkError, Worker,
};

type Hear = dyn Fn(&BatchError) + Send + Sync;

/// A sink that reports each error of its connections and of its calls before the batcher has it.
pub struct Watched<S> {
    sink: S,
    hear: Arc<Hear>,
}

impl<S> Watched<S> {
    pub fn new(sink: S, hear: impl Fn(&BatchError) + Send + Sync + 'static) -> Self {
        Self {
            sink,
            hear: Arc::new(hear),
        }
    }
}

impl<T, S: Sink<T>> Sink<T> for Watched<S> {
    type Handler = WatchedHandler<S::Handler>;

    fn configure(&self, builder: Builder<T>) -> Result<Builder<T>, SinkError> {
        self.sink.configure(builder)
    }

    fn connect(&self, worker: Worker) -> Result<Self::Handler, BatchError> {
        let handler = self.sink.connect(worker).inspect_err(&*self.hear)?;
        let hear = Arc::clone(&self.hear);
        Ok(WatchedHandler { handler, hear })
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        self.sink.sensor()
    }
}

/// The handler of a [`Watched`] sink.
pub struct WatchedHandler<H> {
    handler: H,
    hear: Arc<Hear>,
}

impl<T, H: Handler<T>> Handler<T> for WatchedHandler<H> {
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        self.handler.handle(batch).inspect_err(&*self.hear)
    }
}
