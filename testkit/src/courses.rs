//! Test runs that are the same for every database: kills in the middle of the traffic, a frozen
//! server, and upserts of the same keys.

mod frozen;
mod kills;
mod versions;

pub use frozen::{Driver, close_at_the_deadline, hold_deadlines};
pub use kills::{CloseOnPanic, Random, kills, survive_kills};
pub use versions::{KEYS, VERSIONS, add_versions};

use std::time::Duration;

use load_aware_batcher::Stats;

/// Longer than anything here takes. No test asserts a time.
const NET: Duration = Duration::from_secs(120);

/// How often a batch was tried again, whole or split.
pub fn tried_again(stats: &Stats) -> u64 {
    stats.retries + stats.split_retries
}
