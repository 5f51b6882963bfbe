//! Courses of events that are the same for every database: kills in the middle of the traffic, a
//! server that is frozen, upserts of the same keys.

mod frozen;
mod kills;
mod versions;

pub use frozen::{Driver, close_at_the_deadline, hold_deadlines};
pub use kills::{CloseOnPanic, Random, kills, survive_kills};
pub use versions::{KEYS, VERSIONS, add_versions};

use std::time::Duration;

use load_aware_batcher::Stats;

/// A net for what should come soon. No test asserts how soon.
const NET: Duration = Duration::from_secs(120);

/// How often something was tried again, whole or split.
pub fn tried_again(stats: &Stats) -> u64 {
    stats.retries + stats.split_retries
}
