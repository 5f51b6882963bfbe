//! What the flusher calls with each batch.

use super::Batch;
use crate::error::BatchError;
use crate::feedback::LoadFeedback;

/// What the flusher calls with each batch: any `FnMut(&mut Batch<T>) -> Result<LoadFeedback,
/// BatchError>`, or a type of one's own.
///
/// A closure must name its argument's type, `|batch: &mut Batch<Row>| …`.
pub trait Handler<T> {
    /// Writes the batch to the backend and says how loaded the backend is.
    ///
    /// `Ok` means that every row was applied but for those that it [`reject`](Batch::reject)ed. The
    /// items are only borrowed: they stay with the batcher, which drops them when they are handled.
    ///
    /// # Errors
    /// No row of this call was applied, unless the error says [`in_doubt`](BatchError::in_doubt).
    /// The batch is tried again with the same id and items, or searched for its bad rows, as the
    /// builder's `retry` says. A panic counts like an error of no class.
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError>;
}

impl<T, F> Handler<T> for F
where
    F: FnMut(&mut Batch<T>) -> Result<LoadFeedback, BatchError>,
{
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        self(batch)
    }
}
