//! What is compared: situations of a server, and ways to set size and concurrency.

use std::fmt;
use std::time::Duration;

/// Where the time of a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// The server's own socket.
    Loopback,
    /// A network that takes this many milliseconds each way.
    Delay(u64),
    /// Each transaction sleeps 4 ms on the server before its commit, as with a slow disk. Several
    /// transactions sleep at the same time.
    SlowCommit,
    /// A second index, in random order.
    SecondIndex,
}

/// How long a slow commit sleeps, in seconds.
pub const COMMIT_S: f64 = 0.004;
/// The largest batch of a cell whose size has no narrow bound.
pub const WIDE: usize = 20_000;
/// The largest batch of a cell whose size is bounded.
pub const NARROW: usize = 1_000;
/// The most calls at once.
pub const MOST_CALLS: usize = 8;

impl Situation {
    pub fn each_way(self) -> Option<Duration> {
        match self {
            Self::Delay(ms) => Some(Duration::from_millis(ms)),
            _ => None,
        }
    }

    /// Whether calls need only the cores. Client and server share two cores here, so one or two
    /// calls use them fully.
    pub fn fills_the_cores(self) -> bool {
        matches!(self, Self::Loopback)
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Delay(ms) => write!(f, "{ms} ms each way"),
            Self::SlowCommit => write!(f, "{} ms a commit", COMMIT_S * 1e3),
            Self::SecondIndex => f.write_str("a second index"),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub situation: Situation,
    pub max_batch_size: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, n ≤ {}", self.situation, self.max_batch_size)
    }
}

/// What sets size and concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Fixed {
        size: usize,
        calls: usize,
    },
    /// `CostModel`, with up to this many calls at once.
    Model {
        calls: usize,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed { size, calls } => write!(f, "fixed n = {size}, k = {calls}"),
            Self::Model { calls: 1 } => f.write_str("CostModel, k = 1"),
            Self::Model { calls } => write!(f, "CostModel, k = 1..={calls}"),
        }
    }
}
