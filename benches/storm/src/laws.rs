//! The ways of sizing batches that are compared.

use std::fmt;
use std::str::FromStr;

use load_aware_batcher::{CostModel, Fixed, LoadThreshold, Policy};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    Fixed(usize),
    Threshold,
    Model,
}

/// The largest size of any law.
pub const MAX: usize = 5_000;

impl Law {
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Fixed(size) => Box::new(Fixed(size)),
            Self::Threshold => Box::new(LoadThreshold::new()),
            Self::Model => Box::new(CostModel::new()),
        }
    }

    /// The bound it is given. The threshold law knows nothing of throughput: its bound is its only
    /// throttle.
    pub fn max_batch_size(self) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Threshold => 1_000,
            Self::Model => MAX,
        }
    }

    /// The builder's default, twice the largest size, for the laws that may go there and for the
    /// sizes that they are compared with; less for small sizes, or they would still write what
    /// waits when their turn has long been over.
    pub fn queue_capacity(self) -> usize {
        match self {
            Self::Fixed(size) => (40 * size).min(2 * MAX),
            Self::Threshold | Self::Model => 2 * self.max_batch_size(),
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "fixed {size}"),
            Self::Threshold => f.write_str("threshold"),
            Self::Model => f.write_str("model"),
        }
    }
}

impl FromStr for Law {
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
                "there is no law {name:?}: must be fixed:N with N from 1 to {MAX}, threshold or model"
            )),
        }
    }
}
