//! A sink that a button of the page breaks.

use std::sync::Arc;

use load_aware_batcher::{
    Batch, BatchError, Builder, Handler, LoadFeedback, Sensor, Sink, SinkError, Worker,
};

use crate::reading::Reading;
use crate::scene::Scene;

/// Answers in place of the backend while the scene says that it is broken.
pub struct Breakable<S> {
    sink: S,
    scene: Arc<Scene>,
}

impl<S> Breakable<S> {
    pub fn new(sink: S, scene: Arc<Scene>) -> Self {
        Self { sink, scene }
    }
}

impl<S: Sink<Reading>> Sink<Reading> for Breakable<S> {
    type Handler = BreakableHandler<S::Handler>;

    fn configure(&self, builder: Builder<Reading>) -> Result<Builder<Reading>, SinkError> {
        self.sink.configure(builder)
    }

    fn connect(&self, worker: Worker) -> Result<Self::Handler, BatchError> {
        Ok(BreakableHandler {
            handler: self.sink.connect(worker)?,
            scene: Arc::clone(&self.scene),
        })
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        self.sink.sensor()
    }
}

/// The handler of a [`Breakable`] sink.
pub struct BreakableHandler<H> {
    handler: H,
    scene: Arc<Scene>,
}

impl<H: Handler<Reading>> Handler<Reading> for BreakableHandler<H> {
    fn handle(&mut self, batch: &mut Batch<Reading>) -> Result<LoadFeedback, BatchError> {
        if self.scene.is_broken() {
            return Err(BatchError::unavailable("the demo's backend is broken"));
        }
        self.handler.handle(batch)
    }
}
