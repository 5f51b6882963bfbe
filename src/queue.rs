//! The way in: from a producer's add to the channel.
//!
//! An add goes through the gate, which knows who may still add and who must be woken. It waits
//! there while there is no room: in the channel, for the items of a chunk (`permits`), or by weight
//! (`weight_room`). Nothing here knows what lies behind the channel; that is `flush`.

pub(crate) mod blocked;
pub(crate) mod channel;
pub(crate) mod gate;
pub(crate) mod message;
pub(crate) mod permits;
pub(crate) mod refusal;
pub(crate) mod stall;
pub(crate) mod waiters;
pub(crate) mod weigher;
pub(crate) mod weight_room;
