//! The policy that never changes the size: the baseline.

use crate::error::BuildError;
use crate::policy::setpoint::Setpoint;
use crate::policy::{Decision, Policy, Window};

/// Keeps the batch size that you set, clamped to the builder's bounds. Where the concurrency is a
/// range, it asks for the most calls at once.
///
/// ```
/// # use load_aware_batcher::{Batch, Batcher, Fixed, LoadFeedback};
/// let batcher = Batcher::builder()
///     .policy(Fixed(250))
///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// assert_eq!(batcher.stats().batch_size, 250);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(
    /// The batch size in items, at least 1.
    pub usize,
);

impl Policy for Fixed {
    fn name(&self) -> &'static str {
        "Fixed"
    }

    fn decide(&mut self, window: &Window<'_>, _current: &Setpoint) -> Decision {
        Decision {
            concurrency: Some(window.max_concurrency),
            ..Decision::resize(self.0, "the size is fixed")
        }
    }

    fn initial_batch_size(&self) -> Option<usize> {
        Some(self.0)
    }

    fn validate(&self) -> Result<(), BuildError> {
        if self.0 == 0 {
            Err(BuildError::setting("Fixed", 0, "must be at least 1"))
        } else {
            Ok(())
        }
    }
}
