//! Which batch is a probe: now and then one of another size, since batches of one size cannot tell
//! two numbers apart.

/// Batches from one probe to the next: at first, when all has been quiet for long, and when
/// something changed.
const EVERY: u32 = 8;
const EVERY_QUIET: u32 = 32;
const EVERY_SURPRISED: u32 = 2;
/// Probes after which it may become quiet.
const QUIET: u32 = 6;
/// Full batches to the next look at a much larger one: at first, and at most. Each that found
/// nothing doubles them, and one that is further away waits so much longer: in the end 16 of 512 +
/// 16 items are in looks, 3 %.
const LOOK: u32 = 4;
const LOOK_MAX: u32 = 512;
/// A probe is so many times smaller than a batch, or larger where there is no smaller.
const SMALLER: usize = 16;
const LARGER: usize = 4;
/// A much larger batch is so many times larger, or as large as may be, but not less than so many
/// times. Each that found nothing is followed by one as many times larger again, up to the largest:
/// where rows share the pages of an index, an item of a batch that writes one row to each page
/// costs as much as in a small one.
const MUCH: usize = 16;
const MUCH_LEAST: usize = 2;
/// Which share of the time probes may waste: as much as the calls themselves at an efficiency of
/// 0.95. Where a probe meets a neighbour's lock, it waits as long as a large batch would: in step
/// with the neighbour every probe does, each is a surprise, and a third of the time went into
/// probes. What one of them wasted is paid off within so many batches, should it have hung for
/// more: for an hour after it nothing would be learnt otherwise.
const WASTE: f64 = 0.05;
const PAID_WITHIN: f64 = 256.0;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Probing {
    /// What a call costs.
    Call,
    /// Whether half a batch is cheaper per item.
    Half,
    /// Whether a much larger one is.
    Large,
    /// Whether the backend refuses this length.
    Length,
}

#[derive(Clone, Debug)]
pub(super) struct Probes {
    /// Asked for and not seen yet.
    pub(super) pending: Option<(Probing, usize)>,
    since: u32,
    every: u32,
    half_next: bool,
    since_look: u32,
    look_every: u32,
    /// How many times larger the next look is, and whether the last one was the largest batch of
    /// all.
    reach: usize,
    at_most: bool,
    /// Seconds that probes wasted beyond their share; paid off by the time of batches.
    debt: f64,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            pending: None,
            since: 0,
            every: EVERY,
            half_next: false,
            since_look: 0,
            look_every: LOOK,
            reach: MUCH,
            at_most: false,
            debt: 0.0,
        }
    }

    /// Counts a batch; what it was probing, if it is the probe that was asked for.
    pub(super) fn take(&mut self, is_probe: bool, full: bool, failed: bool) -> Option<Probing> {
        self.since = self.since.saturating_add(1);
        // Who fails should not try much more.
        self.since_look = if failed {
            0
        } else {
            self.since_look.saturating_add(u32::from(full))
        };
        self.pending
            .take_if(|_| is_probe)
            .map(|(probing, _)| probing)
    }

    /// A batch took so long, and would have taken `usual` as part of batches that take `batch`
    /// each.
    pub(super) fn pay(&mut self, time: f64, usual: f64, batch: f64) {
        let debt = self.debt + (time - usual).max(0.0) - WASTE * time;
        self.debt = debt.clamp(0.0, PAID_WITHIN * WASTE * batch);
    }

    /// All is different: what it cost to know what was is forgotten.
    pub(super) fn jumped(&mut self) {
        self.debt = 0.0;
        self.hurry();
    }

    /// Something is not as expected: look again soon.
    pub(super) fn hurry(&mut self) {
        self.every = EVERY_SURPRISED;
    }

    /// A probe was as expected, after so many of them.
    pub(super) fn relax(&mut self, probes: u32, in_doubt: bool) {
        self.every = (2 * self.every).min(if probes < QUIET || in_doubt {
            EVERY
        } else {
            EVERY_QUIET
        });
    }

    pub(super) fn doubt(&mut self) {
        self.every = self.every.min(EVERY);
    }

    /// A look at a much larger batch found something or not.
    pub(super) fn looked(&mut self, found: bool) {
        if found {
            // Is it so again?
            self.look_every = LOOK;
        } else {
            self.look_every = (2 * self.look_every).min(LOOK_MAX);
            self.reach = if self.at_most {
                MUCH
            } else {
                self.reach.saturating_mul(MUCH)
            };
        }
    }

    /// A look failed or was cut short: no further, and not so soon.
    pub(super) fn look_failed(&mut self) {
        self.look_every = (2 * self.look_every).min(LOOK_MAX);
        self.reach = MUCH;
    }

    /// The probe under way will not tell.
    pub(super) fn forget(&mut self, refused: bool) {
        if matches!(self.pending.take(), Some((Probing::Large, _))) && refused {
            self.look_failed();
        }
    }

    /// Asks for the next probe, if there is one and it is time; `longest` is the largest size
    /// within the budget and the bounds.
    pub(super) fn plan(&mut self, size: usize, longest: usize) {
        if self.pending.is_some() || self.debt > 0.0 {
            return;
        }
        let reach = self.reach.saturating_mul(size);
        // All of it where that is near: sizes between the two would never be looked at.
        let much = if longest / 2 <= reach { longest } else { reach };
        let further = much.div_ceil(MUCH.saturating_mul(size).max(1)).max(1);
        let is_look_due =
            self.since_look as usize >= further.saturating_mul(self.look_every as usize);
        let (probing, other) = if is_look_due && much >= MUCH_LEAST.saturating_mul(size) {
            self.since_look = 0;
            self.at_most = much == longest;
            (Probing::Large, much)
        } else if self.since < self.every {
            return;
        } else if size < LARGER {
            (Probing::Call, longest.clamp(1, LARGER * size))
        } else if self.half_next && self.every >= EVERY {
            (Probing::Half, size / 2)
        } else {
            (Probing::Call, (size / SMALLER).max(1))
        };
        if other == size {
            return;
        }
        self.pending = Some((probing, other));
        if probing != Probing::Large {
            self.half_next = probing == Probing::Call;
            self.since = 0;
        }
    }
}

/// Whether a batch that was to be much larger is: it may have been cut short.
pub(super) fn is_much_larger(n: f64, size: f64) -> bool {
    n >= MUCH_LEAST as f64 * size
}
