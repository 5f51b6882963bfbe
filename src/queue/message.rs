//! What travels through the channel: single items, chunks of items, and items with a weight or a
//! ticket.

use crate::sync::{Receiver, Sender, bounded};
use crate::ticket::Resolver;

/// How many items one message carries at most.
pub(crate) const CHUNK_ITEMS_MAX: usize = 64;
/// How many empty chunks are kept for the next `add_many`, in addition to as many as hold a full
/// queue. The last chunk of each call may be short, so more chunks than that may be in use.
const SPARE_CHUNKS: usize = 128;
/// How many empty chunks are given back at once. One by one, flusher and producers would write to
/// the same cache lines in turn.
pub(crate) const CHUNKS_TOGETHER: usize = 16;

/// One send. On its way through the channel it has another form, see `channel`.
pub(crate) struct Message<T> {
    /// The sending thread's.
    pub(crate) tag: u32,
    pub(crate) load: Load<T>,
}

pub(crate) enum Load<T> {
    One(T),
    Chunk(Box<Chunk<T>>),
    Tracked(Box<Tracked<T>>),
}

/// Items added together: 1 to [`CHUNK_ITEMS_MAX`].
pub(crate) struct Chunk<T> {
    pub(crate) items: Vec<T>,
    /// Each item's weight; empty without a weigher.
    pub(crate) weights: Vec<usize>,
}

/// One item with a weight, or with somebody who waits for its outcome.
pub(crate) struct Tracked<T> {
    pub(crate) item: T,
    pub(crate) weight: usize,
    pub(crate) ticket: Option<Resolver>,
}

/// What a message brings into the channel beyond one item.
#[derive(Clone, Copy)]
pub(crate) struct Extra {
    pub(crate) items: usize,
    pub(crate) weight: usize,
}

impl Extra {
    pub(crate) const NONE: Self = Self {
        items: 0,
        weight: 0,
    };
}

impl<T> Message<T> {
    pub(crate) fn items(&self) -> usize {
        match &self.load {
            Load::One(_) | Load::Tracked(_) => 1,
            Load::Chunk(chunk) => chunk.items.len(),
        }
    }

    /// The item of a message that is not a chunk, which only `add_many` sends.
    pub(crate) fn into_item(self) -> T {
        match self.load {
            Load::One(item) => item,
            Load::Tracked(tracked) => tracked.item,
            Load::Chunk(_) => unreachable!("a single item was sent"),
        }
    }

    /// The chunk of a message that is one.
    pub(crate) fn into_chunk(self) -> Box<Chunk<T>> {
        match self.load {
            Load::Chunk(chunk) => chunk,
            Load::One(_) | Load::Tracked(_) => unreachable!("a chunk was sent"),
        }
    }
}

impl<T> Chunk<T> {
    /// How many of its items fit into the room and under the weight limit, from the first on; adds
    /// them to `weight`. The first item of a batch always fits.
    pub(crate) fn fitting(
        &self,
        room: usize,
        limit: usize,
        first: bool,
        weight: &mut usize,
    ) -> usize {
        if self.weights.is_empty() {
            return self.items.len().min(room);
        }
        let mut taken = 0;
        for item in self.weights.iter().take(room) {
            let heavier = weight.saturating_add(*item);
            // An item over the limit weighs as much as the limit, and gets its own batch.
            if (heavier > limit || *weight >= limit) && !(first && taken == 0) {
                break;
            }
            *weight = heavier;
            taken += 1;
        }
        taken
    }
}

/// Empty chunks between their gathering and the next `add_many`, so that steady adding allocates
/// nothing.
pub(crate) struct SpareChunks<T> {
    put: Sender<Box<Chunk<T>>>,
    take: Receiver<Box<Chunk<T>>>,
}

impl<T> SpareChunks<T> {
    /// For a queue with room for this many items of chunks.
    pub(crate) fn new(capacity: usize) -> Self {
        let (put, take) = bounded(SPARE_CHUNKS + capacity / CHUNK_ITEMS_MAX);
        Self { put, take }
    }

    pub(crate) fn take(&self) -> Box<Chunk<T>> {
        self.take.try_recv().unwrap_or_else(|_| {
            Box::new(Chunk {
                items: Vec::with_capacity(CHUNK_ITEMS_MAX),
                weights: Vec::new(),
            })
        })
    }

    /// Keeps empty chunks.
    #[allow(clippy::vec_box, reason = "they travel as they are")]
    pub(crate) fn put_all(&self, chunks: &mut Vec<Box<Chunk<T>>>) {
        chunks.drain(..).for_each(|chunk| self.put(chunk));
    }

    /// Keeps an empty chunk.
    pub(crate) fn put(&self, mut chunk: Box<Chunk<T>>) {
        chunk.weights.clear();
        debug_assert!(chunk.items.is_empty());
        // Full: this one is dropped.
        let _ = self.put.try_send(chunk);
    }
}
