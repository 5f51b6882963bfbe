//! The test kit of load-aware-batcher: what its tests, benches, examples and fuzz target share.
//!
//! Without features it needs the crate alone, so that it builds everywhere. The feature `servers`
//! adds real databases, and the feature `writers` handlers for them that are written by hand. The
//! crate's own models (`--cfg loom`) leave both out, because the drivers do not build there.

pub mod courses;
mod directed;
pub mod example;
pub mod pairs;
pub mod program;
mod race;
#[cfg(all(unix, feature = "servers", not(loom)))]
pub mod servers;
pub mod settling;
mod waiting;
mod watched;
#[cfg(all(feature = "writers", not(loom)))]
pub mod writers;

pub use directed::{Call, Directed, Director, Reply, directed};
pub use race::race;
pub use waiting::{
    Gate, LONG, NEVER, ends, ends_within, first_call_settled, fixed, until, wait_for,
};
pub use watched::{Watched, WatchedHandler};
