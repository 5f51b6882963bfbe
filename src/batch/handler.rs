//! What the flusher calls with each batch.

use super::Batch;
use crate::error::BatchError;
use crate::feedback::LoadFeedback;

/// What the flusher calls with each batch: any `FnMut(&mut Batch<T>) -> Result<LoadFeedback,
/// BatchError>`, or a type of your own.
///
/// A closure must name the type of its argument: `|batch: &mut Batch<Row>| …`.
pub trait Handler<T> {
    /// Writes the batch to the backend, and returns the load of the backend where it is known.
    ///
    /// `Ok` means that every row was stored, except those that the call marked by
    /// [`reject`](Batch::reject) or [`retry`](Batch::retry). The items are only borrowed. They stay
    /// with the batcher, which drops them when they are handled.
    ///
    /// # Errors
    /// An error means that no row of this call was stored, unless it is
    /// [`in_doubt`](BatchError::in_doubt). The batch is tried again with the same id and items, or
    /// searched for its bad rows, as [`Builder::retry`](crate::Builder::retry) says. A panic counts
    /// like an error without a class.
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
