//! The policies on trial.

use std::time::Duration;

use load_aware_batcher::{Aimd, CostModel, Fixed, HillClimb, LoadThreshold, Policy};

/// The bound on the time of a batch, in the scenarios that have one. `Aimd` has no default for it.
pub const BOUND: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    Fixed50,
    Threshold,
    Strict,
    Aimd,
    HillClimb,
    CostModel,
}

impl Candidate {
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

    /// With the defaults, or with a bound on the time of a batch where the policy has such a
    /// setting.
    pub fn policy(self, bound: Option<Duration>) -> Box<dyn Policy> {
        match self {
            Self::Fixed50 => Box::new(Fixed(50)),
            Self::Threshold => Box::new(LoadThreshold::new()),
            Self::Strict => Box::new(LoadThreshold::strict()),
            Self::Aimd => Box::new(Aimd::new(BOUND)),
            Self::HillClimb => Box::new(HillClimb::new()),
            Self::CostModel => {
                let model = CostModel::new();
                Box::new(match bound {
                    Some(bound) => model.max_batch_time(bound),
                    None => model,
                })
            }
        }
    }
}
