//! The policies that are compared.

use std::fmt;
use std::str::FromStr;

use load_aware_batcher::{CostModel, Fixed, LoadThreshold, Policy};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    Fixed(usize),
    Threshold,
    Model,
}

/// The largest size of any candidate.
pub const MAX: usize = 5_000;

impl Candidate {
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Fixed(size) => Box::new(Fixed(size)),
            Self::Threshold => Box::new(LoadThreshold::new()),
            Self::Model => Box::new(CostModel::new()),
        }
    }

    /// The largest size that it may use. `LoadThreshold` does not measure throughput, so this bound
    /// is all that limits it on an idle host.
    pub fn max_batch_size(self) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Threshold => 1_000,
            Self::Model => MAX,
        }
    }

    /// The builder's default, twice the largest size, for the policies that learn and for the large
    /// fixed sizes. Less for small fixed sizes: they would still write what waits long after the
    /// end of their turn.
    pub fn queue_capacity(self) -> usize {
        match self {
            Self::Fixed(size) => (40 * size).min(2 * MAX),
            Self::Threshold | Self::Model => 2 * self.max_batch_size(),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "fixed {size}"),
            Self::Threshold => f.write_str("threshold"),
            Self::Model => f.write_str("model"),
        }
    }
}

impl FromStr for Candidate {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let size = name
            .strip_prefix("fixed:")
            .and_then(|size| size.parse().ok());
        match (name, size) {
            (_, Some(size)) if (1..=MAX).contains(&size) => Ok(Self::Fixed(size)),
            ("threshold", _) => Ok(Self::Threshold),
            ("model", _) => Ok(Self::Model),
            _ => Err(format!(
                "there is no policy {name:?}: must be fixed:N with N from 1 to {MAX}, threshold or model"
            )),
        }
    }
}
