//! The two numbers: what an item takes now and what a call costs in items, each learnt from the
//! batches that tell of it.

/// Of the differences between neighbouring errors, how much is their deviation: `√π / 2`, for
/// normal noise.
const DIFFERENCE: f64 = 0.886;
/// The noise is a mean over about 20 batches, and never taken for less or more than these shares.
const NOISE_GAIN: f64 = 0.05;
const NOISE: (f64, f64) = (0.02, 0.5);
/// An error of more noise than this is a surprise; beyond the second figure it is cut off, so that
/// an outlier moves little.
const SURPRISE: f64 = 2.0;
const OUTLIER: f64 = 2.5;
/// On top of both, so that a backend without noise is not surprised by rounding.
const SLACK: f64 = 0.05;
/// Surprises of one sign in a row until it is a change and not noise.
const RUN: i32 = 3;
/// The time of an item follows ordinary batches at this rate, faster in the first ones.
const ITEM_GAIN: f64 = 0.125;
/// The cost of a call follows probes at this rate, faster in the first ones and where two surprise
/// alike (on a backend without noise even a small change is cut off as an outlier otherwise), and
/// odd sizes slowly: partial batches teach it for nothing.
const CALL_GAIN: f64 = 0.25;
const CALL_GAIN_SURE: f64 = 0.5;
const CALL_GAIN_ODD: f64 = 0.0625;
/// A model that has seen fewer probes is young: its first guess may be far off, so it may be moved
/// far.
const YOUNG: u32 = 4;
/// The usual size is a mean over about four batches.
const RECENT: f64 = 0.25;
/// What a call may cost, in items: limits for arithmetic's sake.
const CALL: (f64, f64) = (0.05, 1e9);

/// `time(n) = item · (call + n)`.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Seconds an item takes now.
    pub(super) item: f64,
    /// What a call costs, in items.
    pub(super) call: f64,
    /// How far like batches scatter, as a share.
    pub(super) noise: f64,
    /// The size that batches have lately.
    pub(super) usual: f64,
    /// Ordinary batches seen.
    pub(super) batches: u32,
    /// Probes seen, the start being the first.
    pub(super) probes: u32,
    /// Surprises of one sign in a row, of ordinary batches and of probes; negative where they were
    /// faster.
    pub(super) run: i32,
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

    /// The model through a smaller and a larger batch, each with its time, if they tell enough.
    pub(super) fn through(small: (f64, f64), large: (f64, f64)) -> Option<Self> {
        // Either the times differ clearly, or the sizes do so much that it is plain that the call
        // is what costs.
        let tells =
            large.0 >= 2.0 * small.0 && (large.1 >= 1.5 * small.1 || large.0 >= 16.0 * small.0);
        tells.then(|| {
            let item = ((large.1 - small.1) / (large.0 - small.0)).max(0.02 * large.1 / large.0);
            Self::new(
                item,
                (small.1 / item - small.0).max(0.5).min(4.0 * large.0),
                large.0,
            )
        })
    }

    /// Seconds that a batch of `n` is expected to take.
    pub(super) fn expected(&self, n: f64) -> f64 {
        self.item * (self.call + n)
    }

    /// By how much a batch was slower than expected, as a share.
    pub(super) fn error(&self, n: f64, time: f64) -> f64 {
        time / self.expected(n) - 1.0
    }

    /// How much of the time of a batch of `n` is the call's own.
    pub(super) fn overhead(&self, n: f64) -> f64 {
        self.call / (self.call + n)
    }

    pub(super) fn is_young(&self) -> bool {
        self.probes < YOUNG
    }

    pub(super) fn is_surprise(&self, error: f64) -> bool {
        error.abs() > SURPRISE * self.noise + SLACK
    }

    fn cut_off(&self, error: f64) -> f64 {
        let most = OUTLIER * self.noise + SLACK;
        error.clamp(-most, most)
    }

    /// Learns from an ordinary batch; true if that was the last of a run of surprises and the model
    /// has jumped.
    pub(super) fn learn(&mut self, n: f64, error: f64) -> bool {
        self.batches = self.batches.saturating_add(1);
        self.run = if self.is_surprise(error) {
            in_a_row(self.run, error, 1)
        } else {
            0
        };
        let cut_off = self.cut_off(error);
        // From differences, so that a backend that changes, and is off by the same each time, does
        // not pass for a noisy one.
        let scatter = DIFFERENCE
            * (error - self.last_error)
                .abs()
                .min(OUTLIER * self.noise + SLACK);
        self.last_error = error;
        self.noise = (self.noise + NOISE_GAIN * (scatter - self.noise)).clamp(NOISE.0, NOISE.1);
        let jumps = self.run.abs() >= RUN;
        if jumps {
            self.item *= 1.0 + 0.5 * error.max(-0.9);
        } else {
            let oddness = self.oddness(n);
            let lever = (self.call + n) * (self.call + self.usual) / (self.usual + n);
            self.correct(
                oddness,
                cut_off,
                CALL_GAIN_ODD * cut_off * oddness * lever,
                2.0,
            );
        }
        self.usual += RECENT * (n - self.usual);
        jumps
    }

    /// Learns what a call costs from a batch of quite another size. Whether it was a surprise,
    /// where that can be told: not while ordinary batches surprise as well.
    pub(super) fn learn_from_probe(&mut self, n: f64, error: f64) -> Option<bool> {
        let young = self.is_young();
        self.probes = self.probes.saturating_add(1);
        let told = (self.run.abs() < 2).then(|| self.is_surprise(error));
        if let Some(surprise) = told {
            self.probe_run = if surprise {
                in_a_row(self.probe_run, error, 1)
            } else {
                0
            };
        }
        let sure = young || (self.probe_run.abs() >= 2 && self.run == 0);
        let (gain, error) = if sure {
            (CALL_GAIN_SURE, error.max(-0.9))
        } else {
            (CALL_GAIN, self.cut_off(error))
        };
        let oddness = self.oddness(n);
        let step = gain * oddness * oddness * (self.solve(n, error) - self.call);
        self.correct(oddness, error, step, if young { 4.0 } else { 2.0 });
        told
    }

    /// How far a size is from the usual one, from 1, much smaller, to −1, much larger.
    fn oddness(&self, n: f64) -> f64 {
        (self.usual - n) / (self.usual + n)
    }

    /// Moves the call's cost by a step, to at most so many times what it was, and the item's time
    /// such that the usual size is expected to take what it did; then the item's time by what an
    /// error at so odd a size says of it.
    fn correct(&mut self, oddness: f64, error: f64, step: f64, most: f64) {
        if self.run.abs() < 2 {
            let call = (self.call + step)
                .clamp(self.call / most, most * self.call + 1.0)
                .clamp(CALL.0, CALL.1);
            self.item *= (self.call + self.usual) / (call + self.usual);
            self.call = call;
        }
        let gain = (1.0 / (f64::from(self.batches) + 1.0)).max(ITEM_GAIN);
        self.item *= 1.0 + gain * error.max(-0.9) * (1.0 - oddness.abs());
    }

    /// The call's cost that explains a batch of `n` with this error, if the usual size takes what
    /// it is expected to.
    fn solve(&self, n: f64, error: f64) -> f64 {
        let ratio = (self.call + n) / (self.call + self.usual) * (1.0 + error);
        let explains = (1.0 - ratio) * (self.usual - n) > 0.0;
        if explains {
            (ratio * self.usual - n) / (1.0 - ratio)
        } else {
            CALL.1
        }
    }

    /// The time of a second batch in a row that failed is the truth, if it is longer.
    pub(super) fn believe(&mut self, error: f64) {
        self.item *= 1.0 + error.max(0.0);
    }

    /// A failure counts as two surprises if it took longer than expected, and ends a run if not.
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
