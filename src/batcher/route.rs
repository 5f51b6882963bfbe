//! Which lane an item goes to, where a batcher has several.
//!
//! | the builder says | an item goes to | what stays in order |
//! | --- | --- | --- |
//! | `order_by_producer` | the lane of its producer handle | what one handle adds |
//! | `order_by(key)` | the lane that the key's hash names | items of one key, added by one thread |
//! | `unordered` | the lane that is filled now, or any with room | nothing |
//!
//! # Unordered
//! All producers fill one lane until it has a whole batch, and go on with the next; or until its
//! flusher gathers from it, and go on with the lane that has the fewest items. So a trickle fills
//! one batch, and not one in each lane, and a burst is spread over all. A lane that is full, or
//! whose handler hangs, is passed over: an add waits only while no lane has room. It then waits for
//! one lane at a time, for [`TURN`], and looks at all others after that, since nobody can wait for
//! several channels at once.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::error::AddError;
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::queue::gate::Patience;
use crate::queue::message::CHUNK_ITEMS_MAX;
use crate::sync::{Arc, Shared, now};

/// How long an add waits for room in one of several full lanes before it looks at the others.
const TURN: Duration = Duration::from_millis(1);

/// The hash of an item's key.
pub(crate) type KeyHash<T> = Shared<dyn Fn(&T) -> u64 + Send + Sync>;

/// How items are spread over lanes.
pub(crate) enum Route<T> {
    /// Each handle has its lane.
    ByProducer,
    ByKey(KeyHash<T>),
    Unordered,
}

impl<T> Clone for Route<T> {
    fn clone(&self) -> Self {
        match self {
            Self::ByProducer => Self::ByProducer,
            Self::ByKey(hash) => Self::ByKey(Shared::clone(hash)),
            Self::Unordered => Self::Unordered,
        }
    }
}

/// The hash of a key: the same for equal keys on every thread.
pub(crate) fn key_hash<K: Hash>(key: &K) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The lane of a hash: its upper bits, as a share of all.
pub(crate) fn lane_of(hash: u64, lanes: usize) -> usize {
    ((u128::from(hash) * lanes as u128) >> 64) as usize
}

/// Adds to any lane, in the order of the module's doc. `add` is given a lane's place among all.
pub(crate) fn add_anywhere<T, I, R>(
    lanes: &Lanes<T>,
    mut item: I,
    patience: Patience,
    add: impl Fn(usize, I, Patience) -> Result<R, AddError<I>>,
) -> Result<R, AddError<I>> {
    let count = lanes.all().len();
    let first = lanes.next_to_fill();
    let mut turn = first;
    loop {
        let mut stalled = false;
        for place in (0..count).map(|offset| (first + offset) % count) {
            match add(place, item, Patience::Never) {
                Ok(added) => {
                    if place != first {
                        lanes.fill(place);
                    }
                    return Ok(added);
                }
                Err(AddError::Full(back)) => item = back,
                Err(AddError::Stalled(back)) => {
                    stalled = true;
                    item = back;
                }
                Err(refused) => return Err(refused),
            }
        }
        let until = match patience {
            _ if stalled => return Err(AddError::Stalled(item)),
            Patience::Never => return Err(AddError::Full(item)),
            Patience::Until(deadline) if deadline <= now() => {
                return Err(AddError::Timeout(item));
            }
            Patience::Until(deadline) => deadline.min(now() + TURN),
            Patience::Forever => now() + TURN,
        };
        match add(turn, item, Patience::Until(until)) {
            Err(AddError::Timeout(back)) => item = back,
            done => return done,
        }
        turn = (turn + 1) % count;
    }
}

/// Adds many items in chunks, each to any lane.
pub(crate) fn add_many_anywhere<T>(
    lanes: &Lanes<T>,
    items: impl IntoIterator<Item = T>,
    patience: Patience,
) -> Result<usize, AddError<Vec<T>>> {
    let mut rest = items.into_iter().fuse();
    let mut added = 0;
    loop {
        let chunk: Vec<T> = rest.by_ref().take(CHUNK_ITEMS_MAX).collect();
        if chunk.is_empty() {
            return Ok(added);
        }
        let items = chunk.len();
        let sent = add_anywhere(lanes, chunk, patience, |place, chunk, patience| {
            lanes.all()[place].add_many(chunk, patience)
        });
        match sent {
            Ok(_) => added += items,
            Err(refused) => {
                return Err(refused.map(|mut back| {
                    back.extend(rest);
                    back
                }));
            }
        }
    }
}

/// Adds many items in chunks, each to the lane of its key.
pub(crate) fn add_many_by_key<T>(
    lanes: &[Arc<Lane<T>>],
    hash: &KeyHash<T>,
    items: impl IntoIterator<Item = T>,
    patience: Patience,
) -> Result<usize, AddError<Vec<T>>> {
    let mut rest = items.into_iter().fuse();
    let mut chunks: Vec<Vec<T>> = lanes.iter().map(|_| Vec::new()).collect();
    let mut added = 0;
    loop {
        let full = match rest.next() {
            Some(item) => {
                let place = lane_of(hash(&item), lanes.len());
                chunks[place].push(item);
                (chunks[place].len() == CHUNK_ITEMS_MAX).then_some(place)
            }
            None => match chunks.iter().position(|chunk| !chunk.is_empty()) {
                Some(place) => Some(place),
                None => return Ok(added),
            },
        };
        let Some(place) = full else {
            continue;
        };
        let chunk = std::mem::take(&mut chunks[place]);
        let items = chunk.len();
        match lanes[place].add_many(chunk, patience) {
            Ok(_) => added += items,
            Err(refused) => {
                return Err(refused.map(|mut back| {
                    back.extend(chunks.into_iter().flatten());
                    back.extend(rest);
                    back
                }));
            }
        }
    }
}
