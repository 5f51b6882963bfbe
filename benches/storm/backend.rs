//! What a database must offer to be measured.

use load_aware_batcher::Handler;

use crate::ingest::monitor::Sensor;
use crate::ingest::rows::Row;
use crate::neighbours::{Neighbours, Storm};

pub trait Backend {
    fn name(&self) -> &'static str;

    /// Empties the table.
    fn reset(&mut self);

    /// The example's handler, with a statement time-out.
    fn handler(&self) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>);

    /// Starts the neighbours.
    fn neighbours(&self, storm: Storm) -> Neighbours;
}

/// No statement may take longer, where the database can hold to it.
pub const STATEMENT_TIMEOUT_MS: u32 = 100;
