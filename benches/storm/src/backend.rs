//! What a database must offer to be measured.

use load_aware_batcher::{Handler, Sensor};
use testkit::writers::Row;

use crate::competitors::{Competitors, Storm};

pub trait Backend {
    fn name(&self) -> &'static str;

    /// Makes an empty table for each of this many candidates. In a common table, the candidate with
    /// the highest keys would have an advantage.
    fn reset(&mut self, candidates: usize);

    /// A handler for the table of the candidate with this number, with a statement timeout.
    fn handler(&self, candidate: usize) -> (Box<dyn Handler<Row> + Send>, Box<dyn Sensor>);

    /// Starts the competitors. Those that lock a table lock the tables of all candidates.
    fn competitors(&self, storm: Storm) -> Competitors;
}

/// The statement timeout, where the database has one.
pub const STATEMENT_TIMEOUT_MS: u32 = 100;

/// The table of the candidate with this number.
pub fn table(candidate: usize) -> String {
    format!("readings_{candidate}")
}
