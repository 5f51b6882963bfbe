//! The way out: from the channel to the handler, and to the outcome of every item.
//!
//! A lane is one queue with its backlog and its flusher; a batcher has one, or several that share
//! the permits for calls. The flusher's thread goes round: the
//! backlog decides the next `step`, which may `gather` a batch; the handler is called; `complete`
//! decides what becomes of its items; what failed is searched for bad rows (`search`, under the
//! rules of `retry`).

pub(crate) mod age;
pub(crate) mod backlog;
pub(crate) mod barriers;
pub(crate) mod close_report;
pub(crate) mod complete;
pub(crate) mod dead_letters;
pub(crate) mod edges;
pub(crate) mod flusher;
pub(crate) mod gather;
pub(crate) mod in_progress;
pub(crate) mod incoming;
pub(crate) mod lane;
pub(crate) mod lanes;
pub(crate) mod lifecycle;
pub(crate) mod permit;
pub(crate) mod regroup;
pub(crate) mod retained;
pub(crate) mod retry;
pub(crate) mod search;
pub(crate) mod step;
pub(crate) mod ticket_line;
pub(crate) mod workers;
