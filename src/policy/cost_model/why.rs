//! Why the size is what it is, in numbers. Words are made from them when a decision is published.

use std::mem::discriminant;
use std::time::Duration;

use crate::policy::Reason;

/// The times that explain [`Why::BatchTime`], in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchTimes {
    /// The time to plan for a batch of the old size, noise included.
    pub(super) expected: f64,
    /// The time that a batch may take.
    pub(super) budget: f64,
}

/// Why the size is what it is. Storing it costs nothing.
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

/// The time as a `Duration`. It saturates, and costs less than the standard library's conversion, which rounds.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::from_nanos((seconds * 1e9) as u64)
}

impl Why {
    /// The reason, or the previous one: a size that stays for the same reason is explained once.
    pub(super) fn or_previous(
        self,
        from: usize,
        to: usize,
        times: BatchTimes,
        previous: &Reason,
    ) -> Reason {
        let reason = self.reason(from, to, times);
        let is_same =
            discriminant(&reason) == discriminant(previous) && !matches!(reason, Reason::Text(_));
        if from == to && is_same {
            previous.clone()
        } else {
            reason
        }
    }

    /// Whether it explains why the size went from `from` to `to`. Several samples may have moved the
    /// size, and the reason of the last need not explain the sum.
    pub(super) fn explains(self, from: usize, to: usize, times: BatchTimes) -> bool {
        match self {
            Self::BatchTime if duration(times.expected) > duration(times.budget) => to < from,
            Self::BatchTime | Self::CheapWhenLarge => to >= from,
            Self::Failed { .. } | Self::DearWhenLarge => to <= from,
            Self::Start | Self::CallCost(_) | Self::TooLarge(_) | Self::Maximum | Self::Minimum => {
                true
            }
        }
    }

    /// The reason, for a size that went from `from` to `to`.
    fn reason(self, from: usize, to: usize, times: BatchTimes) -> Reason {
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
                expected: duration(times.expected),
                budget: duration(times.budget),
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
