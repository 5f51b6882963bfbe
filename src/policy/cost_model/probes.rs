//! Which batch is a probe. Batches of one size cannot tell two numbers apart, so now and then a
//! batch has another size.

/// Batches from one probe to the next at first.
const PROBE_INTERVAL_BATCHES: u32 = 8;
/// The same when nothing has changed for long.
const PROBE_INTERVAL_STEADY_BATCHES: u32 = 32;
/// The same when something has changed.
const PROBE_INTERVAL_SURPRISED_BATCHES: u32 = 2;
/// The steady interval needs at least this many probes.
const STEADY_PROBES_MIN: u32 = 6;
/// Full batches from one large probe to the next, at first. Each that finds nothing doubles them.
/// Where the next one is further away, the wait is as many times longer.
const LARGE_INTERVAL_MIN_BATCHES: u32 = 4;
/// The same at most. In the end, 16 of 512 + 16 items are in large probes: 3 %.
const LARGE_INTERVAL_MAX_BATCHES: u32 = 512;
/// A small probe is a batch divided by this.
const SMALL_PROBE_DIVISOR: usize = 16;
/// Below this size, the probe for the cost of a call is larger by this factor instead.
const TINY_PROBE_FACTOR: usize = 4;
/// A large probe is a batch multiplied by this, or the largest size. After one that found nothing,
/// the next is this many times larger again, up to the largest. Where rows share the pages of an
/// index, an item costs as much in a batch that writes one row to each page as in a small batch.
const LARGE_PROBE_FACTOR: usize = 16;
/// There is no large probe if it could not be larger by at least this factor.
const LARGE_PROBE_FACTOR_MIN: usize = 2;
/// The share of the time that probes may waste: as much as the calls' own cost at an efficiency of
/// 0.95. A probe that meets another client's lock waits as long as a large batch would. If probes
/// are in step with that client, each one does, and each is a surprise. Without this limit, a third
/// of the time went into probes.
const WASTED_TIME_SHARE: f64 = 0.05;
/// The debt of one probe is paid off within this many batches, even if the probe hung for longer.
/// Without this limit, nothing would be learnt for an hour after it.
const DEBT_MAX_BATCHES: f64 = 256.0;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Probing {
    /// What a call costs.
    Call,
    /// Whether an item is cheaper in half a batch.
    Half,
    /// Whether an item is cheaper in a much larger batch.
    Large,
    /// Whether the backend refuses this length.
    Length,
}

#[derive(Clone, Debug)]
pub(super) struct Probes {
    /// The probe that was requested and whose sample has not arrived, with its size.
    pub(super) pending: Option<(Probing, usize)>,
    batches_since_probe: u32,
    /// Batches from one small probe to the next.
    interval: u32,
    is_half_next: bool,
    full_since_large: u32,
    /// Full batches from one large probe to the next.
    large_interval: u32,
    /// How many times larger than the size in force the next large probe is.
    large_factor: usize,
    /// Whether the last large probe was of the largest size.
    was_largest: bool,
    /// Seconds that probes wasted beyond their share. The time of batches pays it off.
    debt: f64,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            pending: None,
            batches_since_probe: 0,
            interval: PROBE_INTERVAL_BATCHES,
            is_half_next: false,
            full_since_large: 0,
            large_interval: LARGE_INTERVAL_MIN_BATCHES,
            large_factor: LARGE_PROBE_FACTOR,
            was_largest: false,
            debt: 0.0,
        }
    }

    /// Counts a batch. What it was probing, if it is the probe that was requested.
    pub(super) fn take(&mut self, is_probe: bool, full: bool, failed: bool) -> Option<Probing> {
        self.batches_since_probe = self.batches_since_probe.saturating_add(1);
        // After a failure, a large probe would be likely to fail too.
        self.full_since_large = if failed {
            0
        } else {
            self.full_since_large.saturating_add(u32::from(full))
        };
        self.pending
            .take_if(|_| is_probe)
            .map(|(probing, _)| probing)
    }

    /// A batch took `seconds`. Its items would have taken `usual_seconds` in batches of the usual
    /// size, each of which takes `batch_seconds`.
    pub(super) fn pay(&mut self, seconds: f64, usual_seconds: f64, batch_seconds: f64) {
        let debt = self.debt + (seconds - usual_seconds).max(0.0) - WASTED_TIME_SHARE * seconds;
        self.debt = debt.clamp(0.0, DEBT_MAX_BATCHES * WASTED_TIME_SHARE * batch_seconds);
    }

    /// The model has jumped: the debt for what it knew before is void.
    pub(super) fn jumped(&mut self) {
        self.debt = 0.0;
        self.probe_soon();
    }

    /// A batch was not as expected.
    pub(super) fn probe_soon(&mut self) {
        self.interval = PROBE_INTERVAL_SURPRISED_BATCHES;
    }

    /// A probe was as expected. `probes` is their number so far.
    pub(super) fn probe_less(&mut self, probes: u32, in_doubt: bool) {
        let interval_max = if probes < STEADY_PROBES_MIN || in_doubt {
            PROBE_INTERVAL_BATCHES
        } else {
            PROBE_INTERVAL_STEADY_BATCHES
        };
        self.interval = (2 * self.interval).min(interval_max);
    }

    /// The ceiling is in doubt: the interval is not the steady one.
    pub(super) fn doubt(&mut self) {
        self.interval = self.interval.min(PROBE_INTERVAL_BATCHES);
    }

    /// A large probe went through. `won`: its items were cheaper.
    pub(super) fn large_probe_done(&mut self, won: bool) {
        if won {
            // The next one, of the same size, confirms it.
            self.large_interval = LARGE_INTERVAL_MIN_BATCHES;
        } else {
            self.large_interval = (2 * self.large_interval).min(LARGE_INTERVAL_MAX_BATCHES);
            self.large_factor = if self.was_largest {
                LARGE_PROBE_FACTOR
            } else {
                self.large_factor.saturating_mul(LARGE_PROBE_FACTOR)
            };
        }
    }

    /// A large probe failed or was cut short: the next one is no larger, and later.
    pub(super) fn large_probe_failed(&mut self) {
        self.large_interval = (2 * self.large_interval).min(LARGE_INTERVAL_MAX_BATCHES);
        self.large_factor = LARGE_PROBE_FACTOR;
    }

    /// The pending probe will bring no evidence.
    pub(super) fn forget(&mut self, refused: bool) {
        if matches!(self.pending.take(), Some((Probing::Large, _))) && refused {
            self.large_probe_failed();
        }
    }

    /// Requests the next probe, if one is due and makes sense. `longest` is the largest size within
    /// the budget and the bounds.
    pub(super) fn plan(&mut self, size: usize, longest: usize) {
        if self.pending.is_some() || self.debt > 0.0 {
            return;
        }
        let reach = self.large_factor.saturating_mul(size);
        // The largest size if it is less than twice as far: no probe would cover the sizes between.
        let large = if longest / 2 <= reach { longest } else { reach };
        let steps = large
            .div_ceil(LARGE_PROBE_FACTOR.saturating_mul(size).max(1))
            .max(1);
        let is_large_due =
            self.full_since_large as usize >= steps.saturating_mul(self.large_interval as usize);
        let (probing, other) =
            if is_large_due && large >= LARGE_PROBE_FACTOR_MIN.saturating_mul(size) {
                self.full_since_large = 0;
                self.was_largest = large == longest;
                (Probing::Large, large)
            } else if self.batches_since_probe < self.interval {
                return;
            } else if size < TINY_PROBE_FACTOR {
                (Probing::Call, longest.clamp(1, TINY_PROBE_FACTOR * size))
            } else if self.is_half_next && self.interval >= PROBE_INTERVAL_BATCHES {
                (Probing::Half, size / 2)
            } else {
                (Probing::Call, (size / SMALL_PROBE_DIVISOR).max(1))
            };
        if other == size {
            return;
        }
        self.pending = Some((probing, other));
        if probing != Probing::Large {
            self.is_half_next = probing == Probing::Call;
            self.batches_since_probe = 0;
        }
    }
}

/// Whether a batch that was requested as a large probe is one: it may have been cut short.
pub(super) fn is_large_probe(items: f64, size: f64) -> bool {
    items >= LARGE_PROBE_FACTOR_MIN as f64 * size
}
