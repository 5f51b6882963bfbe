//! The two numbers: the time of an item now, and the cost of a call in items. Each is learnt from
//! the batches that show it.

/// The deviation of the errors, as a share of the mean difference between one and the next: `√π / 2`
/// for normal noise.
const DEVIATION_PER_DIFFERENCE: f64 = 0.886;
/// The noise is a mean over about 20 batches.
const NOISE_GAIN: f64 = 0.05;
/// The least and the most that the noise is taken for, as shares.
const NOISE_MIN: f64 = 0.02;
const NOISE_MAX: f64 = 0.5;
/// An error over this multiple of the noise is a surprise.
const SURPRISE_NOISE_MULTIPLE: f64 = 2.0;
/// An error is clipped at this multiple of the noise, so that an outlier moves little.
const OUTLIER_NOISE_MULTIPLE: f64 = 2.5;
/// Added to both, so that rounding is no surprise on a backend without noise.
const ERROR_SLACK: f64 = 0.05;
/// Surprises in a row with the same sign that make a change.
const CHANGE_SURPRISES: i32 = 3;
/// The rate at which the time of an item follows ordinary batches. It is higher in the first ones.
const ITEM_GAIN: f64 = 0.125;
/// The rate at which the cost of a call follows probes.
const CALL_GAIN: f64 = 0.25;
/// The same for a young model and after two surprises with the same sign. On a backend without
/// noise, even a small change is clipped as an outlier otherwise.
const CALL_GAIN_FAST: f64 = 0.5;
/// The same for ordinary batches of an odd size. Partial batches cost nothing extra, but show
/// little.
const CALL_GAIN_ODD_SIZE: f64 = 0.0625;
/// A model with fewer probes is young: its first guess may be far off, so it may move far.
const YOUNG_PROBES_MAX: u32 = 4;
/// The usual size is a mean over about four batches.
const USUAL_SIZE_GAIN: f64 = 0.25;
/// The least and the most that a call may cost, in items. They only keep the arithmetic finite.
const CALL_ITEMS_MIN: f64 = 0.05;
const CALL_ITEMS_MAX: f64 = 1e9;

/// The length of a call and the time that it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallTime {
    pub(super) items: f64,
    pub(super) seconds: f64,
}

/// `time(n) = item · (call + n)`.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// The time of an item now, in seconds.
    pub(super) item: f64,
    /// What a call costs, in items.
    pub(super) call: f64,
    /// How far batches of one size scatter, as a share.
    pub(super) noise: f64,
    /// The usual size: a mean over the last batches, in items.
    pub(super) usual: f64,
    /// Ordinary batches seen.
    pub(super) batches: u32,
    /// Probes seen, the start being the first.
    pub(super) probes: u32,
    /// Surprises in a row with the same sign, of ordinary batches. Negative if they were faster.
    pub(super) run: i32,
    /// The same of probes.
    probe_run: i32,
    last_error: f64,
}

impl Model {
    pub(super) fn new(item: f64, call: f64, usual: f64) -> Self {
        Self {
            item,
            call,
            noise: 0.2,
            usual,
            batches: 1,
            probes: 1,
            run: 0,
            probe_run: 0,
            last_error: 0.0,
        }
    }

    /// The model through a smaller and a larger batch, if they differ enough.
    pub(super) fn through(small: CallTime, large: CallTime) -> Option<Self> {
        // Either the times differ clearly. Or the sizes differ so much that the call must be what
        // costs.
        let is_enough = large.items >= 2.0 * small.items
            && (large.seconds >= 1.5 * small.seconds || large.items >= 16.0 * small.items);
        is_enough.then(|| {
            let slope = (large.seconds - small.seconds) / (large.items - small.items);
            let item = slope.max(0.02 * large.seconds / large.items);
            let call = (small.seconds / item - small.items)
                .max(0.5)
                .min(4.0 * large.items);
            Self::new(item, call, large.items)
        })
    }

    /// The time that a batch of `n` items is expected to take, in seconds.
    pub(super) fn expected(&self, n: f64) -> f64 {
        self.item * (self.call + n)
    }

    /// By how much a batch was slower than expected, as a share.
    pub(super) fn error(&self, call: CallTime) -> f64 {
        call.seconds / self.expected(call.items) - 1.0
    }

    /// The share of the call in the time of a batch of `n` items.
    pub(super) fn overhead(&self, n: f64) -> f64 {
        self.call / (self.call + n)
    }

    pub(super) fn is_young(&self) -> bool {
        self.probes < YOUNG_PROBES_MAX
    }

    pub(super) fn is_surprise(&self, error: f64) -> bool {
        error.abs() > SURPRISE_NOISE_MULTIPLE * self.noise + ERROR_SLACK
    }

    /// The last batches were all faster, or all slower, than expected.
    pub(super) fn is_change(&self) -> bool {
        self.run.abs() >= CHANGE_SURPRISES
    }

    fn clip(&self, error: f64) -> f64 {
        let error_max = OUTLIER_NOISE_MULTIPLE * self.noise + ERROR_SLACK;
        error.clamp(-error_max, error_max)
    }

    /// Learns from an ordinary batch of `n` items. True if it completed a run of surprises and the
    /// model jumped.
    pub(super) fn learn(&mut self, n: f64, error: f64) -> bool {
        self.batches = self.batches.saturating_add(1);
        self.run = if self.is_surprise(error) {
            in_a_row(self.run, error, 1)
        } else {
            0
        };
        let clipped = self.clip(error);
        // From differences: after a change the error is the same each time, and that is no noise.
        let difference = (error - self.last_error)
            .abs()
            .min(OUTLIER_NOISE_MULTIPLE * self.noise + ERROR_SLACK);
        let scatter = DEVIATION_PER_DIFFERENCE * difference;
        self.last_error = error;
        self.noise = (self.noise + NOISE_GAIN * (scatter - self.noise)).clamp(NOISE_MIN, NOISE_MAX);
        let jumps = self.run.abs() >= CHANGE_SURPRISES;
        if jumps {
            self.item *= 1.0 + 0.5 * error.max(-0.9);
        } else {
            let oddness = self.oddness(n);
            let lever = (self.call + n) * (self.call + self.usual) / (self.usual + n);
            let step = CALL_GAIN_ODD_SIZE * clipped * oddness * lever;
            self.correct(oddness, clipped, step, 2.0);
        }
        self.usual += USUAL_SIZE_GAIN * (n - self.usual);
        jumps
    }

    /// Learns the cost of a call from a batch of `n` items, a size far from the usual one. Whether
    /// it was a surprise; `None` while ordinary batches are surprises too.
    pub(super) fn learn_from_probe(&mut self, n: f64, error: f64) -> Option<bool> {
        let young = self.is_young();
        self.probes = self.probes.saturating_add(1);
        let surprise = (self.run.abs() < 2).then(|| self.is_surprise(error));
        if let Some(is_surprise) = surprise {
            self.probe_run = if is_surprise {
                in_a_row(self.probe_run, error, 1)
            } else {
                0
            };
        }
        let is_fast = young || (self.probe_run.abs() >= 2 && self.run == 0);
        let (gain, error) = if is_fast {
            (CALL_GAIN_FAST, error.max(-0.9))
        } else {
            (CALL_GAIN, self.clip(error))
        };
        let oddness = self.oddness(n);
        let step = gain * oddness * oddness * (self.solve(n, error) - self.call);
        self.correct(oddness, error, step, if young { 4.0 } else { 2.0 });
        surprise
    }

    /// How far a size is from the usual one: from 1 (much smaller) to −1 (much larger).
    fn oddness(&self, n: f64) -> f64 {
        (self.usual - n) / (self.usual + n)
    }

    /// Moves the call's cost by `step`, at most by the factor `change_max`. Changes the item's time
    /// such that the expected time of the usual size stays. Then moves the item's time by the
    /// error, less the odder the size is.
    fn correct(&mut self, oddness: f64, error: f64, step: f64, change_max: f64) {
        if self.run.abs() < 2 {
            let call = (self.call + step)
                .clamp(self.call / change_max, change_max * self.call + 1.0)
                .clamp(CALL_ITEMS_MIN, CALL_ITEMS_MAX);
            self.item *= (self.call + self.usual) / (call + self.usual);
            self.call = call;
        }
        let gain = (1.0 / (f64::from(self.batches) + 1.0)).max(ITEM_GAIN);
        self.item *= 1.0 + gain * error.max(-0.9) * (1.0 - oddness.abs());
    }

    /// The call's cost that explains a batch of `n` items with this error, if the usual size takes
    /// its expected time.
    fn solve(&self, n: f64, error: f64) -> f64 {
        let ratio = (self.call + n) / (self.call + self.usual) * (1.0 + error);
        let explains = (1.0 - ratio) * (self.usual - n) > 0.0;
        if explains {
            (ratio * self.usual - n) / (1.0 - ratio)
        } else {
            CALL_ITEMS_MAX
        }
    }

    /// A second batch in a row failed. If it took longer than expected, its time becomes the
    /// expected one.
    pub(super) fn adopt_failed_time(&mut self, error: f64) {
        self.item *= 1.0 + error.max(0.0);
    }

    /// A failed call counts as two surprises if it took longer than expected. Else it ends a run.
    pub(super) fn failed(&mut self, error: f64) {
        self.run = if error > 0.0 {
            in_a_row(self.run, error, 2)
        } else {
            0
        };
    }
}

fn in_a_row(run: i32, error: f64, weight: i32) -> i32 {
    if error > 0.0 {
        run.max(0).saturating_add(weight)
    } else {
        run.min(0).saturating_sub(weight)
    }
}
