//! The books of one consumer: which entries are in hand, and what may be done with each. Pure: it
//! knows no log, no batcher, no clock.
//!
//! # Protocol
//! | state | meaning | next |
//! | --- | --- | --- |
//! | `Ready` | to be submitted with others | `Out` |
//! | `Suspect` | delivered too often: to be submitted alone | `Alone` |
//! | `Out` | its outcome is awaited | `Stored`, `Dead`, `Again` |
//! | `Alone` | the same, and nothing else is out | `Stored`, `Dead`, `Suspect` |
//! | `Again` | not stored, no fault of its own: to be submitted again | `Ready` |
//! | `Stored` | to be acknowledged | gone |
//! | `Dead` | to be buried | gone |
//!
//! A suspect is submitted once nothing is out, and nothing is submitted while it is out: if the
//! process ends then, that entry is the only one to blame.
//!
//! A log may want entries back, to give them to another consumer. What is not submitted leaves at once,
//! from any state; the rest once it is `Stored` and acknowledged or `Dead` and buried, or when the
//! time for that is over.

#[cfg(any(feature = "kafka", test))]
mod prefix;

use std::collections::{BTreeMap, VecDeque};

#[cfg(feature = "kafka")]
pub use self::prefix::Prefixes;

/// How a submitted entry ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Stored,
    /// It will fail again, for this reason.
    Permanent(String),
    /// An outage, a transient failure, a doubt: its owner submits it again.
    Again,
}

/// From which counts on an entry is suspected, and given up.
#[derive(Clone, Copy, Debug)]
pub struct Suspicion {
    /// Delivered more often than this: submitted alone.
    pub deliveries: u64,
    /// So many processes ended while this entry was out alone: buried.
    pub deaths: u64,
}

/// Counts of one consumer since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub acknowledged: u64,
    pub buried: u64,
    pub left: u64,
    pub resubmitted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Suspect,
    Out,
    Alone,
    Again,
    Stored,
    Dead(String),
}

pub struct Ledger<Id> {
    suspicion: Suspicion,
    hand: BTreeMap<Id, State>,
    /// In the order of their submission; each is `Ready`.
    ready: VecDeque<Id>,
    /// Each is `Suspect`.
    suspects: VecDeque<Id>,
    again: Vec<Id>,
    stored: Vec<Id>,
    dead: VecDeque<Id>,
    out: usize,
    counts: Counts,
}

/// Which of the entries that the log wants back leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// What was not submitted, and so is not stored.
    NotSubmitted,
    All,
}

/// What to submit next, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<Id> {
    WithOthers(Id),
    /// Nothing else is out.
    Alone(Id),
}

impl<Id: Clone + Ord> Ledger<Id> {
    pub fn new(suspicion: Suspicion) -> Self {
        Self {
            suspicion,
            hand: BTreeMap::new(),
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            again: Vec::new(),
            stored: Vec::new(),
            dead: VecDeque::new(),
            out: 0,
            counts: Counts::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn in_hand(&self) -> usize {
        self.hand.len()
    }

    /// How many outcomes are awaited.
    pub fn out(&self) -> usize {
        self.out
    }

    pub fn ids(&self) -> Vec<Id> {
        self.hand.keys().cloned().collect()
    }

    /// Whether the entry is new to this consumer. An entry that is in hand already stays as it is.
    pub fn take(&mut self, id: &Id, times: u64, deaths: u64) -> bool {
        if self.hand.contains_key(id) {
            return false;
        }
        self.counts.read += 1;
        if deaths >= self.suspicion.deaths {
            self.hand.insert(id.clone(), State::Suspect);
            let reason = format!("{deaths} processes ended while it was submitted alone");
            self.die(id, reason);
        } else if deaths > 0 || times > self.suspicion.deliveries {
            self.hand.insert(id.clone(), State::Suspect);
            self.suspects.push_back(id.clone());
        } else {
            self.hand.insert(id.clone(), State::Ready);
            self.ready.push_back(id.clone());
        }
        true
    }

    /// What may be submitted now. The caller follows with `submitted` or `dead_on_arrival`; or with
    /// nothing, if it cannot submit it yet.
    pub fn next(&self) -> Option<Next<Id>> {
        if self.is_alone() {
            return None;
        }
        if let Some(id) = self.ready.front() {
            return Some(Next::WithOthers(id.clone()));
        }
        if self.out > 0 {
            return None;
        }
        self.suspects.front().cloned().map(Next::Alone)
    }

    /// Whether an entry is out alone.
    fn is_alone(&self) -> bool {
        self.out == 1
            && self
                .suspects
                .front()
                .is_some_and(|id| self.hand[id] == State::Alone)
    }

    pub fn submitted(&mut self, next: Next<Id>) {
        match next {
            Next::WithOthers(id) => {
                self.ready.retain_front(&id);
                self.hand.insert(id, State::Out);
            }
            // It stays at the front of the suspects until its outcome.
            Next::Alone(id) => {
                self.hand.insert(id, State::Alone);
            }
        }
        self.out += 1;
    }

    /// What `next` gave cannot be an item at all.
    pub fn dead_on_arrival(&mut self, next: Next<Id>, why: String) {
        match next {
            Next::WithOthers(id) => {
                self.ready.retain_front(&id);
                self.die(&id, why);
            }
            Next::Alone(id) => {
                self.suspects.retain_front(&id);
                self.die(&id, why);
            }
        }
    }

    fn die(&mut self, id: &Id, why: String) {
        self.hand.insert(id.clone(), State::Dead(why));
        self.dead.push_back(id.clone());
    }

    /// The outcome of an entry that is out.
    pub fn ended(&mut self, id: &Id, end: End) {
        let alone = match self.hand.get(id) {
            Some(State::Out) => false,
            Some(State::Alone) => true,
            _ => return,
        };
        self.out -= 1;
        if alone {
            self.suspects.retain_front(id);
        }
        match end {
            End::Stored => {
                self.hand.insert(id.clone(), State::Stored);
                self.stored.push(id.clone());
            }
            End::Permanent(why) => self.die(id, why),
            End::Again if alone => {
                self.hand.insert(id.clone(), State::Suspect);
                self.suspects.push_back(id.clone());
                self.counts.resubmitted += 1;
            }
            End::Again => {
                self.hand.insert(id.clone(), State::Again);
                self.again.push(id.clone());
            }
        }
    }

    /// What is to be submitted again becomes ready.
    pub fn release(&mut self) {
        for id in self.again.drain(..) {
            self.hand.insert(id.clone(), State::Ready);
            self.ready.push_back(id);
            self.counts.resubmitted += 1;
        }
    }

    /// What is to be acknowledged.
    pub fn stored(&self) -> &[Id] {
        &self.stored
    }

    /// The log has taken the acknowledgement of all that `stored` gave.
    pub fn acknowledged(&mut self) {
        for id in self.stored.drain(..) {
            self.hand.remove(&id);
            self.counts.acknowledged += 1;
        }
    }

    /// What is to be buried next, and why.
    pub fn dead(&self) -> Option<(Id, &str)> {
        let id = self.dead.front()?;
        match &self.hand[id] {
            State::Dead(why) => Some((id.clone(), why)),
            _ => None,
        }
    }

    /// The log has taken what `dead` gave.
    pub fn buried(&mut self) {
        if let Some(id) = self.dead.pop_front() {
            self.hand.remove(&id);
            self.counts.buried += 1;
        }
    }

    /// Whether an entry that the log wants back is still in hand.
    pub fn holds(&self, is_recalled: impl Fn(&Id) -> bool) -> bool {
        self.hand.keys().any(is_recalled)
    }

    /// The log wants these back: those that were not submitted leave, or, when the time for the others
    /// is over, all of them. Returns which left. An outcome that comes later changes nothing.
    pub fn recall(&mut self, is_recalled: impl Fn(&Id) -> bool, whose: Recall) -> Vec<Id> {
        let leaves = |state: &State| match state {
            State::Ready | State::Suspect | State::Again => true,
            State::Out | State::Alone | State::Stored | State::Dead(_) => whose == Recall::All,
        };
        let left = self.hand.iter();
        let left = left.filter(|(id, state)| is_recalled(id) && leaves(state));
        let left: Vec<Id> = left.map(|(id, _)| id.clone()).collect();
        for id in &left {
            if let Some(State::Out | State::Alone) = self.hand.remove(id) {
                self.out -= 1;
            }
        }
        let stays = |id: &Id| self.hand.contains_key(id);
        self.ready.retain(stays);
        self.suspects.retain(stays);
        self.again.retain(stays);
        self.stored.retain(stays);
        self.dead.retain(stays);
        self.counts.left += left.len() as u64;
        left
    }

    /// The end: what is still in hand stays with the log, for others.
    pub fn leave(&mut self) -> Vec<Id> {
        self.counts.left += self.hand.len() as u64;
        let (suspicion, counts) = (self.suspicion, self.counts);
        let left = std::mem::replace(self, Self::new(suspicion));
        self.counts = counts;
        left.hand.into_keys().collect()
    }
}

trait RetainFront<Id> {
    /// Removes this one, which is usually the first.
    fn retain_front(&mut self, id: &Id);
}

impl<Id: PartialEq> RetainFront<Id> for VecDeque<Id> {
    fn retain_front(&mut self, id: &Id) {
        match self.front() {
            Some(front) if front == id => {
                self.pop_front();
            }
            _ => self.retain(|other| other != id),
        }
    }
}

#[cfg(test)]
mod tests;
