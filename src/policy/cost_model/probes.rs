//! Which batch is a probe: now and then one of another size, since batches of one size cannot tell two numbers apart.

/// Batches from one probe to the next: at first, when all has been quiet for long, and when something changed.
const EVERY: u32 = 8;
const EVERY_QUIET: u32 = 32;
const EVERY_SURPRISED: u32 = 2;
/// Probes after which it may become quiet.
const QUIET: u32 = 6;
/// The share of the time that probes may take, where a call costs as much as hundreds of items, over about 200 batches.
const TIME_SHARE: f64 = 0.03;
const FADE: f64 = 0.995;
/// A probe is so many times smaller than a batch, or larger where there is no smaller.
const SMALLER: usize = 16;
/// A look at a much larger batch: so many times, or as many as fit but not under the second figure. The first comes soon, then
/// each that found nothing doubles the batches to the next.
const LOOK: f64 = 16.0;
const LOOK_LEAST: f64 = 4.0;
const LOOK_EVERY: (u32, u32) = (8, 512);
const LARGER: usize = 4;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Probing {
    /// What a call costs.
    Call,
    /// Whether half a batch is cheaper per item.
    Half,
    /// Whether a much larger one is, though no larger one is worth while by the formula.
    Large,
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
    time: f64,
    time_probing: f64,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            pending: None,
            since: 0,
            every: EVERY,
            half_next: false,
            since_look: 0,
            look_every: LOOK_EVERY.0,
            time: 0.0,
            time_probing: 0.0,
        }
    }

    /// Counts a batch; what it was probing, if it is the probe that was asked for. `call` is what a call costs, in seconds.
    pub(super) fn take(&mut self, is_probe: bool, time: f64, call: f64) -> Option<Probing> {
        let probing = self.pending.take_if(|_| is_probe).map(|(probing, _)| probing);
        self.since = self.since.saturating_add(1);
        self.since_look = self.since_look.saturating_add(1);
        self.time = FADE * self.time + time;
        self.time_probing *= FADE;
        if probing.is_some() {
            self.time_probing += time.min(call);
        }
        probing
    }

    /// Something is not as expected: look again soon.
    pub(super) fn hurry(&mut self) {
        self.every = EVERY_SURPRISED;
    }

    /// A probe was as expected, after so many of them.
    pub(super) fn relax(&mut self, probes: u32, in_doubt: bool) {
        self.every = (2 * self.every).min(if probes < QUIET || in_doubt { EVERY } else { EVERY_QUIET });
    }

    /// A look at a much larger batch found something or not.
    pub(super) fn looked(&mut self, found: bool) {
        self.look_every = if found { LOOK_EVERY.0 } else { (2 * self.look_every).min(LOOK_EVERY.1) };
    }

    pub(super) fn doubt(&mut self) {
        self.every = self.every.min(EVERY);
    }

    /// The next probe, if it is time for one. `last` is the size of the probe in force, which would be the same probe again;
    /// `longest` is the largest size within the budget and the builder's bounds.
    pub(super) fn plan(&self, size: usize, longest: usize, last: Option<usize>) -> Option<(Probing, usize)> {
        let look = ((LOOK * size as f64) as usize).min(longest);
        if self.pending.is_none() && self.since_look >= self.look_every && look as f64 >= LOOK_LEAST * size as f64 {
            return Some((Probing::Large, look - usize::from(last == Some(look))));
        }
        if self.pending.is_some() || self.since < self.every || self.time_probing > TIME_SHARE * self.time {
            return None;
        }
        let small = size < LARGER;
        if !self.half_next || self.every < EVERY || small {
            let other = if small { (LARGER * size).min(longest) } else { (size / SMALLER).max(1) };
            (other != size).then_some((Probing::Call, if last == Some(other) { other + 1 } else { other }))
        } else {
            Some((Probing::Half, (size / 2).max(1)))
        }
    }

    /// Asks for it.
    pub(super) fn ask(&mut self, probe: (Probing, usize)) {
        self.pending = Some(probe);
        self.since = 0;
        match probe.0 {
            Probing::Large => self.since_look = 0,
            Probing::Call | Probing::Half => self.half_next = !self.half_next,
        }
    }
}
