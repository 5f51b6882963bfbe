//! What a database must offer to be measured.

use load_aware_batcher::{Handler, Sensor};
use testkit::writers::Row;

use crate::neighbours::{Neighbours, Storm};

pub trait Backend {
    fn name(&self) -> &'static str;

    /// An empty table for each of so many laws: in one of all, the law whose keys are the highest
    /// would have the best of it.
    fn reset(&mut self, laws: usize);

    /// A handler for the so-manieth law's table, with a statement time-out.
    fn handler(&self, law: usize) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>);

    /// Starts the neighbours, those that lock a table on all laws' tables.
    fn neighbours(&self, storm: Storm) -> Neighbours;
}

/// No statement may take longer, where the database can hold to it.
pub const STATEMENT_TIMEOUT_MS: u32 = 100;

/// The so-manieth law's table.
pub fn table(law: usize) -> String {
    format!("readings_{law}")
}
