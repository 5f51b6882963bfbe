//! What the bench needs of a database.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use load_aware_batcher::{Batcher, Sink};

use crate::row::{Reading, readings};
use crate::usage::Usage;

pub type Failure = Box<dyn std::error::Error>;

/// One database with its ways of writing.
pub trait Database {
    fn name(&self) -> &'static str;

    /// The name of the native loader's command.
    fn loader(&self) -> &'static str;

    /// Drops and creates `readings`.
    fn create(&mut self, key: Key) -> Result<(), Failure>;

    /// Writes all rows in this way. `false` where the loader's program is not installed.
    fn write(&mut self, way: Way, key: Key, rows: Rows<'_>) -> Result<bool, Failure>;

    /// The number of rows in `readings`.
    fn stored(&mut self) -> Result<usize, Failure>;

    /// What the server's processes have used so far. `None` for a database without a server.
    fn server(&self) -> Option<Usage>;

    /// The target of the sink: the least share of the loader's speed.
    fn target(&self, key: Key) -> f64;
}

/// The rows to be written, from memory or from a file with the same rows.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub count: usize,
    pub csv: &'a Path,
}

/// Writes all rows with a companion crate's sink and its defaults.
pub fn write_by(sink: impl Sink<Reading> + 'static, rows: Rows<'_>) -> Result<(), Failure> {
    let batcher = Batcher::builder().sink(sink)?;
    batcher.add_many(readings(rows.count))?;
    let report = batcher.close(Duration::from_secs(600));
    if report.is_clean() {
        Ok(())
    } else {
        Err(format!("the sink: {report:?}").into())
    }
}

/// Whether `id` is the primary key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Primary,
    None,
}

impl Key {
    /// The clause after the type of `id`.
    pub fn clause(self) -> &'static str {
        match self {
            Key::Primary => " PRIMARY KEY",
            Key::None => "",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::Primary => "primary key",
            Key::None => "no key",
        })
    }
}

/// How the rows are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The database's own program, from a CSV file.
    Loader,
    /// The companion crate. Only table, columns and, with a key, `OnConflict::Ignore` are set.
    Sink,
    /// A prepared `INSERT` of 1 000 rows, each in its own transaction.
    MultiRow,
    /// A prepared `INSERT` of one row, all in one transaction.
    RowByRow,
}

impl Way {
    pub const ALL: [Way; 4] = [Way::Loader, Way::Sink, Way::MultiRow, Way::RowByRow];

    /// The number of rows that this way writes where the loader writes `rows`. Row by row over a
    /// socket is an order of magnitude slower, and its rate does not depend on the number.
    pub fn share(self, rows: usize) -> usize {
        match self {
            Way::RowByRow => rows / 10,
            Way::Loader | Way::Sink | Way::MultiRow => rows,
        }
    }
}

/// The rows of one `INSERT` of [`Way::MultiRow`].
pub const ROWS_A_STATEMENT: usize = 1_000;
