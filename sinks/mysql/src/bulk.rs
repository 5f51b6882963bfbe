//! MariaDB's bulk command: one prepared row, and the values of many.
//!
//! The server needs about an eighth less time for a row than by statements of 512 rows, and it
//! waits for the client less often. Where a row spoils a command, the batch is rolled back and goes
//! by statements, which find that row.

use std::mem::discriminant;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, Value};

/// The most rows of one command. Measured: 8 192 are no faster.
pub(crate) const ROWS_MAX: usize = 2_048;
/// So many batches go by statements after one that a row has spoilt: each costs a second attempt.
const PAUSE: u32 = 16;

/// Whether a connection's batches go by the bulk command.
pub(crate) struct Bulk {
    /// The server knows the command, and the values of a column are of one type.
    is_possible: bool,
    /// Batches that go by statements all the same.
    pause: u32,
}

impl Bulk {
    pub(crate) fn new(is_possible: bool) -> Self {
        Self {
            is_possible,
            pause: 0,
        }
    }

    /// Whether the next batch goes by the command.
    pub(crate) fn next(&mut self) -> bool {
        let paused = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        self.is_possible && !paused
    }

    /// A row has spoilt a command.
    pub(crate) fn pause(&mut self) {
        self.pause = PAUSE;
    }

    /// The values are not of one type: the next ones will not be either.
    pub(crate) fn end(&mut self) {
        self.is_possible = false;
    }
}

/// Whether the command gets through to a server that knows it. The driver does not say, and without
/// it sends row by row. A query is none that the command may run: the refusal shows that the server
/// has read it.
pub(crate) fn is_supported(conn: &mut Conn) -> Result<bool, Error> {
    match conn.exec_batch("SELECT ?", [(1,), (2,)]) {
        Ok(()) => Ok(false),
        Err(Error::MySqlError(refused)) => Ok(refused.code == 1295),
        Err(error) => Err(error),
    }
}

/// Whether the values of each column are of one type, nulls apart. The command has one type for a
/// column, and the server would read another one's bytes as that.
pub(crate) fn are_uniform(values: &[Value], columns: usize) -> bool {
    let of_one_type = |column: usize| {
        let values = values.iter().skip(column).step_by(columns);
        let mut kinds = values
            .filter(|value| **value != Value::NULL)
            .map(discriminant);
        let first = kinds.next();
        kinds.all(|kind| Some(kind) == first)
    };
    (0..columns).all(of_one_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_several_types_is_not_uniform_and_nulls_are_of_any() {
        let (int, uint, text) = (Value::Int(1), Value::UInt(1), Value::Bytes(Vec::new()));
        let null = Value::NULL;
        let are = |values: &[&Value]| {
            let values: Vec<Value> = values.iter().copied().cloned().collect();
            are_uniform(&values, 2)
        };
        assert!(are(&[&int, &text, &null, &text, &int, &null]));
        assert!(are(&[&null, &null]));
        assert!(!are(&[&int, &text, &uint, &text]));
        assert!(!are(&[&int, &text, &int, &int]));
        assert!(!are(&[&null, &text, &null, &int]));
    }

    #[test]
    fn after_a_spoilt_command_some_batches_go_by_statements() {
        let mut bulk = Bulk::new(true);
        assert!(bulk.next() && bulk.next());
        bulk.pause();
        assert_eq!((0..PAUSE).filter(|_| bulk.next()).count(), 0);
        assert!(bulk.next());
        bulk.end();
        assert!(!bulk.next());
    }
}
