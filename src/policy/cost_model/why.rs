//! Why the size is what it is: numbers first, words when they are wanted.

use std::mem::discriminant;
use std::time::Duration;

use crate::policy::Reason;

/// Why the size is what it is, in numbers that cost nothing to write down.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    Start,
    Failed { len: usize, after: Duration },
    CallCost(f64),
    BatchTime,
    TooLarge(usize),
    DearWhenLarge,
    CheapWhenLarge,
    Maximum,
    Minimum,
}

/// Saturates, and costs less than the standard library's conversion, which rounds.
pub(super) fn seconds(time: f64) -> Duration {
    Duration::from_nanos((time * 1e9) as u64)
}

impl Why {
    /// In words, or what was said already: that a size stays for the same reason is said once.
    /// `times`: what a batch of `from` has to reckon with, and what it may take.
    pub(super) fn or_said(
        self,
        from: usize,
        to: usize,
        times: (f64, f64),
        said: &Reason,
    ) -> Reason {
        let reason = self.reason(from, to, times);
        let alike =
            discriminant(&reason) == discriminant(said) && !matches!(reason, Reason::Text(_));
        if from == to && alike {
            said.clone()
        } else {
            reason
        }
    }

    /// Whether it explains that the size went from one to the other: several samples may have moved
    /// it in between, and the last one's reason is not that of the way.
    pub(super) fn explains(self, from: usize, to: usize, (expected, budget): (f64, f64)) -> bool {
        match self {
            Self::BatchTime if seconds(expected) > seconds(budget) => to < from,
            Self::BatchTime | Self::CheapWhenLarge => to >= from,
            Self::Failed { .. } | Self::DearWhenLarge => to <= from,
            Self::Start | Self::CallCost(_) | Self::TooLarge(_) | Self::Maximum | Self::Minimum => {
                true
            }
        }
    }

    /// In words, for a size that went from one to the other.
    fn reason(self, from: usize, to: usize, (expected, budget): (f64, f64)) -> Reason {
        match self {
            Self::Start => Reason::Learning { from, to },
            Self::Failed { len, after } => Reason::BatchFailed {
                len,
                after,
                from,
                to,
            },
            Self::CallCost(items) => Reason::CallCost { items, from, to },
            Self::BatchTime => Reason::BatchTime {
                expected: seconds(expected),
                budget: seconds(budget),
                from,
                to,
            },
            Self::TooLarge(len) => Reason::TooLarge { len, from, to },
            Self::DearWhenLarge => Reason::DearWhenLarge { from, to },
            Self::CheapWhenLarge => Reason::CheapWhenLarge { from, to },
            Self::Maximum => "the best size is the maximum or above".into(),
            Self::Minimum => "the best size is under the minimum".into(),
        }
    }
}
