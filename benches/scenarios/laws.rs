//! The laws on trial.

use std::time::Duration;

use load_aware_batcher::{Aimd, CostModel, Fixed, HillClimb, LoadThreshold, Policy};

/// What `Aimd` has to be told, and what `CostModel` may be told, in the scenarios with a bound.
pub const BOUND: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Fixed50,
    Threshold,
    Strict,
    Aimd,
    HillClimb,
    CostModel,
}

impl Law {
    pub const ALL: [Self; 6] = [
        Self::Fixed50,
        Self::Threshold,
        Self::Strict,
        Self::Aimd,
        Self::HillClimb,
        Self::CostModel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed50 => "Fixed(50)",
            Self::Threshold => "LoadThreshold",
            Self::Strict => "LoadThreshold::strict",
            Self::Aimd => "Aimd(200 ms)",
            Self::HillClimb => "HillClimb",
            Self::CostModel => "CostModel",
        }
    }

    /// With nothing set, or with a bound on the time of a batch where the law knows such a thing.
    pub fn policy(self, bound: Option<Duration>) -> Box<dyn Policy> {
        match self {
            Self::Fixed50 => Box::new(Fixed(50)),
            Self::Threshold => Box::new(LoadThreshold::new()),
            Self::Strict => Box::new(LoadThreshold::strict()),
            Self::Aimd => Box::new(Aimd::new(BOUND)),
            Self::HillClimb => Box::new(HillClimb::new()),
            Self::CostModel => {
                let law = CostModel::new();
                Box::new(match bound {
                    Some(bound) => law.max_batch_time(bound),
                    None => law,
                })
            }
        }
    }
}
