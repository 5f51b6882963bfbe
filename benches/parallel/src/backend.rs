//! What the bench needs of a database.

use std::path::Path;

use crate::cells::{Cell, Situation, Way};
use crate::proxy::DelayProxy;
use crate::run::{Run, Span};

pub trait Backend {
    fn name(&self) -> &'static str;

    /// One run into an empty table.
    fn run(&mut self, cell: Cell, way: Way, span: Span) -> Run;
}

/// The proxy, in a situation with a slow network.
pub fn far(socket: &Path, situation: Situation) -> Option<DelayProxy> {
    let each_way = situation.each_way()?;
    Some(DelayProxy::start(socket, each_way))
}
