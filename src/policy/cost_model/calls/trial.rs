//! A trial: blocks of calls at two numbers of calls at once, in pairs, at one size of batches.

/// A block has at least this many calls, and at least two for each call at once.
const BLOCK_CALLS_MIN: usize = 6;
/// A trial has at most this many blocks: four pairs.
const BLOCKS_MAX: u32 = 8;
/// A trial ends as soon as the gain is this many standard errors from its threshold.
const STANDARD_ERRORS: f64 = 1.5;
/// The gain over which more calls at once are worth it.
const GAIN_MIN_MORE: f64 = 0.15;
/// The gain under which fewer calls at once suffice. It is smaller, so that noise moves nothing.
const GAIN_MIN_FEWER: f64 = 0.075;
/// At most this share of a side counts as failed. It only keeps the arithmetic finite.
const FAILED_SHARE_MAX: f64 = 0.9;

/// How many calls a block at `calls` at once has.
pub(super) fn block_calls(calls: usize) -> usize {
    calls.saturating_mul(2).max(BLOCK_CALLS_MIN)
}

/// The times of the calls of one side. Their logarithms are averaged, so that one outlier moves
/// little. No time is kept.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    calls: f64,
    failed: f64,
    mean_log: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Times {
    fn add(&mut self, seconds: f64, failed: bool) {
        self.calls += 1.0;
        self.failed += f64::from(u8::from(failed));
        let log = seconds.ln();
        let distance = log - self.mean_log;
        self.mean_log += distance / self.calls;
        self.squares += distance * (log - self.mean_log);
    }

    /// The variance of the mean, as a square of a share.
    fn variance(&self) -> f64 {
        self.squares / (self.calls - 1.0).max(1.0) / self.calls.max(1.0)
    }

    fn succeeded(&self) -> f64 {
        1.0 - (self.failed / self.calls.max(1.0)).min(FAILED_SHARE_MAX)
    }
}

/// The result of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Whether the number on trial is the better one.
    pub(super) is_taken: bool,
    /// The throughput of the number on trial, by that of the number in force.
    pub(super) throughput_ratio: f64,
    /// The time of a call, the same way.
    pub(super) time_ratio: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// The number of calls at once in force.
    base: usize,
    /// The number on trial.
    pub(super) tried: usize,
    /// The size of the batches while it lasts.
    pub(super) size: usize,
    /// Blocks that are complete.
    blocks: u32,
    /// Calls that the block still needs.
    left: usize,
    at_base: Times,
    at_tried: Times,
    /// Calls since it began, counted or not.
    pub(super) calls: u32,
    pub(super) failures: u32,
}

impl Trial {
    pub(super) fn new(base: usize, tried: usize, size: usize) -> Self {
        Self {
            base,
            tried,
            size,
            blocks: 0,
            left: block_calls(base),
            at_base: Times::default(),
            at_tried: Times::default(),
            calls: 0,
            failures: 0,
        }
    }

    pub(super) fn is_more(&self) -> bool {
        self.tried > self.base
    }

    /// How many calls at once the block in progress is about. The order is base, tried, tried, base,
    /// so that a drift of the backend cancels out and the number changes only every second block.
    pub(super) fn permits(&self) -> usize {
        if matches!(self.blocks % 4, 1 | 2) {
            self.tried
        } else {
            self.base
        }
    }

    /// Takes a call of the block in progress. The verdict, if it is clear.
    pub(super) fn add(&mut self, seconds: f64, failed: bool) -> Option<Verdict> {
        let is_tried = self.permits() == self.tried;
        let side = if is_tried {
            &mut self.at_tried
        } else {
            &mut self.at_base
        };
        side.add(seconds, failed);
        self.left -= 1;
        if self.left > 0 {
            return None;
        }
        self.blocks += 1;
        self.left = block_calls(self.permits());
        if self.blocks % 2 == 0 {
            self.judge()
        } else {
            None
        }
    }

    fn judge(&self) -> Option<Verdict> {
        let (base, tried) = (self.base as f64, self.tried as f64);
        let time_ratio = (self.at_tried.mean_log - self.at_base.mean_log).exp();
        let goodput = self.at_tried.succeeded() / self.at_base.succeeded();
        let throughput_ratio = tried / base / time_ratio * goodput;
        // Of the larger number against the smaller, whichever is on trial.
        let (ratio, step) = if self.is_more() {
            (throughput_ratio, tried / base - 1.0)
        } else {
            (1.0 / throughput_ratio, base / tried - 1.0)
        };
        let gain = (ratio - 1.0) / step;
        let error = ratio * (self.at_base.variance() + self.at_tried.variance()).sqrt() / step;
        let gain_min = if self.is_more() {
            GAIN_MIN_MORE
        } else {
            GAIN_MIN_FEWER
        };
        let is_clear = (gain - gain_min).abs() >= STANDARD_ERRORS * error;
        (is_clear || self.blocks >= BLOCKS_MAX).then_some(Verdict {
            is_taken: (gain > gain_min) == self.is_more(),
            throughput_ratio,
            time_ratio,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The verdict of a trial where a call takes `seconds` of the number at once, and its calls.
    fn verdict(base: usize, tried: usize, seconds: impl Fn(usize) -> f64) -> (Verdict, usize) {
        let mut trial = Trial::new(base, tried, 100);
        for call in 1..10_000 {
            if let Some(verdict) = trial.add(seconds(trial.permits()), false) {
                return (verdict, call);
            }
        }
        panic!("no verdict");
    }

    #[test]
    fn more_calls_are_taken_if_a_further_one_brings_over_15_percent_of_a_call() {
        // Time of a call at 2 and 4 at once, and whether 4 are worth it.
        for (at_2, at_4, is_taken) in [
            (1.0, 1.0, true),
            (1.0, 1.7, true),
            (1.0, 1.8, false),
            (1.0, 2.5, false),
        ] {
            let (verdict, _) = verdict(2, 4, |calls| if calls == 2 { at_2 } else { at_4 });
            assert_eq!(verdict.is_taken, is_taken, "{at_2} {at_4}: {verdict:?}");
            assert!((verdict.throughput_ratio - 2.0 * at_2 / at_4).abs() < 1e-9);
        }
    }

    #[test]
    fn fewer_calls_are_taken_if_a_further_one_brings_under_7_percent_of_a_call() {
        // Throughput at 4 by that at 3; a third of a call's share is 0.333.
        for (ratio, is_taken) in [(1.0, true), (1.02, true), (1.03, false), (1.33, false)] {
            let time = |calls: usize| if calls == 4 { 4.0 / ratio } else { 3.0 };
            assert_eq!(verdict(4, 3, time).0.is_taken, is_taken, "{ratio}");
        }
    }

    #[test]
    fn a_trial_without_noise_ends_after_one_pair_of_blocks() {
        assert_eq!(verdict(1, 2, |_| 1.0).1, 12);
        assert_eq!(verdict(4, 8, |_| 1.0).1, 8 + 16);
    }

    #[test]
    fn a_failed_call_counts_its_time_and_brings_nothing() {
        let mut trial = Trial::new(1, 2, 100);
        let verdict = (0..12).find_map(|call| trial.add(1.0, call >= 6 && call % 2 == 0));
        assert!((verdict.unwrap().throughput_ratio - 1.0).abs() < 1e-9);
    }
}
