//! Why a decision was made: plain numbers, formatted only when they are displayed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Why a decision was made. `Display` gives a sentence, formatted only when it is displayed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// A policy's own words.
    Text(Cow<'static, str>),
    /// A load score against its two thresholds.
    Score {
        /// The score, 0..=1.
        score: f64,
        /// Below it the size grows.
        low: f64,
        /// Above it the size shrinks.
        high: f64,
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// The first batches, each twice as large as the one before.
    Learning {
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// The size follows from the cost of a call.
    CallCost {
        /// What a call costs, in items.
        items: f64,
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// The size is limited by the time for a batch.
    BatchTime {
        /// The expected time of a batch of the size before, noise included.
        expected: Duration,
        /// The time that a batch may take.
        budget: Duration,
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// A call failed as a whole.
    BatchFailed {
        /// Its items.
        len: usize,
        /// How long it took.
        after: Duration,
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// An item costs less in half a batch.
    DearWhenLarge {
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// The backend refuses batches of this length at once, and accepts their parts.
    TooLarge {
        /// The smallest length that was refused.
        len: usize,
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// An item costs much less in a much larger batch.
    CheapWhenLarge {
        /// The size before.
        from: usize,
        /// The size after.
        to: usize,
    },
    /// Another number of calls at once is on trial.
    TryingCalls {
        /// The number on trial.
        tried: usize,
        /// The number in force.
        from: usize,
    },
    /// A trial of another number of calls at once has ended.
    CallsCompared {
        /// The number that was on trial.
        tried: usize,
        /// How much more throughput it brought than the number before, as a share; negative if less.
        throughput: f64,
        /// The number before.
        from: usize,
        /// The number after.
        to: usize,
    },
    /// A call failed that was refused at once or took too long: fewer calls at once.
    FewerCallsAfterFailure {
        /// How long it took.
        after: Duration,
        /// The number of calls at once before, or the one on trial.
        from: usize,
        /// The number after.
        to: usize,
    },
    /// The backend complains: fewer calls at once.
    FewerCallsForLoad {
        /// The load score, if any signal was reported, 0..=1.
        score: Option<f64>,
        /// The share of items that were refused, 0..=1.
        errors: f64,
        /// The number of calls at once before.
        from: usize,
        /// The number after.
        to: usize,
    },
    /// How much of the time is spent pausing between calls.
    Pausing {
        /// The load score, if any signal was reported, 0..=1.
        score: Option<f64>,
        /// The share of items that were refused, 0..=1.
        errors: f64,
        /// The share of the time without a call, 0..1.
        share: f64,
    },
    /// Fewer producer handles add than there are handlers, and each has its own.
    FewProducers {
        /// Handlers whose queue a producer handle adds to.
        used: usize,
        /// All handlers.
        handlers: usize,
    },
    /// One queue of several gets most of the items, and its handler bounds the rate.
    HotKey {
        /// The number of the handler.
        worker: usize,
        /// Its share of the items added since the last check, 0..=1.
        share: f64,
    },
}

impl Reason {
    /// Whether it explains the number of calls at once.
    pub(super) fn is_about_calls(&self) -> bool {
        matches!(
            self,
            Self::TryingCalls { .. }
                | Self::CallsCompared { .. }
                | Self::FewerCallsAfterFailure { .. }
                | Self::FewerCallsForLoad { .. }
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Score {
                score,
                low,
                high,
                from,
                to,
            } => {
                if score < low {
                    write!(f, "load {score:.2} is under {low:.2}: ")?;
                } else if score > high {
                    write!(f, "load {score:.2} is over {high:.2}: ")?;
                } else {
                    write!(f, "load {score:.2} is between {low:.2} and {high:.2}: ")?;
                }
                change(f, *from, *to)
            }
            Self::FewProducers { used, handlers } => {
                let handles = if *used == 1 {
                    "handle uses"
                } else {
                    "handles use"
                };
                write!(f, "{used} producer {handles} {used} of {handlers} lanes")
            }
            Self::HotKey { worker, share } => write!(
                f,
                "lane {worker} gets {:.0} % of the items, all of one key or a few: the rate cannot \
                 exceed {:.1} times that of one connection",
                share * 100.0,
                1.0 / share
            ),
            Self::Learning { from, to } => {
                f.write_str("learning what a call costs: ")?;
                change(f, *from, *to)
            }
            Self::CallCost { items, from, to } => {
                write!(f, "a call costs as much as {items:.1} items: ")?;
                change(f, *from, *to)
            }
            Self::BatchTime {
                expected,
                budget,
                from,
                to,
            } => {
                let side = if expected > budget { "over" } else { "within" };
                write!(
                    f,
                    "batch time {} is {side} the {} budget: ",
                    Millis(*expected),
                    Millis(*budget)
                )?;
                change(f, *from, *to)
            }
            Self::BatchFailed {
                len,
                after,
                from,
                to,
            } => {
                write!(f, "a batch of {len} failed after {}: ", Millis(*after))?;
                change(f, *from, *to)
            }
            Self::DearWhenLarge { from, to } => {
                f.write_str("an item costs less in half a batch: ")?;
                change(f, *from, *to)
            }
            Self::TooLarge { len, from, to } => {
                write!(f, "the backend refuses batches of {len}: ")?;
                change(f, *from, *to)
            }
            Self::CheapWhenLarge { from, to } => {
                f.write_str("an item costs less in a much larger batch: ")?;
                change(f, *from, *to)
            }
            Self::TryingCalls { tried, from } => {
                write!(f, "trying {} at once instead of {from}", calls(*tried))
            }
            Self::CallsCompared {
                tried,
                throughput,
                from,
                to,
            } => {
                let verb = if *tried == 1 { "brings" } else { "bring" };
                let side = if *throughput < 0.0 { "less" } else { "more" };
                write!(
                    f,
                    "{} at once {verb} {:.0} % {side} than {from}: ",
                    calls(*tried),
                    throughput.abs() * 100.0
                )?;
                if to == tried {
                    write!(f, "{from} → {to}")
                } else {
                    write!(f, "back to {to}")
                }
            }
            Self::FewerCallsAfterFailure { after, from, to } => {
                write!(f, "a call failed after {}: ", Millis(*after))?;
                write!(f, "{from} → {} at once", calls(*to))
            }
            Self::FewerCallsForLoad {
                score,
                errors,
                from,
                to,
            } => {
                complaint(f, *score, *errors)?;
                write!(f, "{from} → {} at once", calls(*to))
            }
            Self::Pausing {
                score,
                errors,
                share,
            } => {
                complaint(f, *score, *errors)?;
                write!(f, "pausing {:.0} % of the time", share * 100.0)
            }
        }
    }
}

/// `load 0.82, 0 % of items refused: `.
fn complaint(f: &mut fmt::Formatter<'_>, score: Option<f64>, errors: f64) -> fmt::Result {
    match score {
        Some(score) => write!(f, "load {score:.2}, ")?,
        None => f.write_str("no load reported, ")?,
    }
    write!(f, "{:.0} % of items refused: ", errors * 100.0)
}

/// `1 call`, `4 calls`.
fn calls(number: usize) -> String {
    let noun = if number == 1 { "call" } else { "calls" };
    format!("{number} {noun}")
}

/// `310 → 155`, or `unchanged at 310`.
fn change(f: &mut fmt::Formatter<'_>, from: usize, to: usize) -> fmt::Result {
    if from == to {
        write!(f, "unchanged at {from}")
    } else {
        write!(f, "{from} → {to}")
    }
}

/// A time in the unit that batches are measured in: `412 ms`, `4.2 ms`, `0.042 ms`.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs_f64() * 1e3;
        let digits = if millis >= 10.0 {
            0
        } else if millis >= 1.0 {
            1
        } else {
            3
        };
        write!(f, "{millis:.digits$} ms")
    }
}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_like_a_sentence() {
        let millis = Duration::from_millis;
        let table = [
            (
                Reason::Learning { from: 20, to: 40 },
                "learning what a call costs: 20 → 40",
            ),
            (
                Reason::CallCost {
                    items: 19.2,
                    from: 320,
                    to: 364,
                },
                "a call costs as much as 19.2 items: 320 → 364",
            ),
            (
                Reason::BatchTime {
                    expected: millis(412),
                    budget: millis(400),
                    from: 310,
                    to: 300,
                },
                "batch time 412 ms is over the 400 ms budget: 310 → 300",
            ),
            (
                Reason::BatchTime {
                    expected: Duration::from_micros(4_200),
                    budget: millis(5),
                    from: 30,
                    to: 30,
                },
                "batch time 4.2 ms is within the 5.0 ms budget: unchanged at 30",
            ),
            (
                Reason::BatchFailed {
                    len: 310,
                    after: millis(400),
                    from: 310,
                    to: 155,
                },
                "a batch of 310 failed after 400 ms: 310 → 155",
            ),
            (
                Reason::DearWhenLarge { from: 100, to: 85 },
                "an item costs less in half a batch: 100 → 85",
            ),
            (
                Reason::CheapWhenLarge { from: 100, to: 200 },
                "an item costs less in a much larger batch: 100 → 200",
            ),
            (
                Reason::TryingCalls { tried: 8, from: 4 },
                "trying 8 calls at once instead of 4",
            ),
            (
                Reason::CallsCompared {
                    tried: 8,
                    throughput: 0.03,
                    from: 4,
                    to: 4,
                },
                "8 calls at once bring 3 % more than 4: back to 4",
            ),
            (
                Reason::CallsCompared {
                    tried: 1,
                    throughput: -0.02,
                    from: 2,
                    to: 1,
                },
                "1 call at once brings 2 % less than 2: 2 → 1",
            ),
            (
                Reason::FewerCallsAfterFailure {
                    after: millis(12),
                    from: 6,
                    to: 5,
                },
                "a call failed after 12 ms: 6 → 5 calls at once",
            ),
            (
                Reason::FewerCallsForLoad {
                    score: Some(0.93),
                    errors: 0.0,
                    from: 2,
                    to: 1,
                },
                "load 0.93, 0 % of items refused: 2 → 1 call at once",
            ),
            (
                Reason::Pausing {
                    score: Some(0.82),
                    errors: 0.0,
                    share: 0.3,
                },
                "load 0.82, 0 % of items refused: pausing 30 % of the time",
            ),
            (
                Reason::Pausing {
                    score: None,
                    errors: 0.11,
                    share: 0.0,
                },
                "no load reported, 11 % of items refused: pausing 0 % of the time",
            ),
        ];
        for (reason, sentence) in table {
            assert_eq!(reason.to_string(), sentence);
        }
    }
}
