//! The ways in which a batch's rows are sent inside its transaction.

use std::io::{self, Write};

use load_aware_batcher::BatchError;
use load_aware_batcher::classify::Stage;
use postgres::types::ToSql;
use postgres::{CopyInWriter, Error, Statement, Transaction};

use crate::doubts::Refused;
use crate::encoded::{Array, COPY_END, COPY_HEAD, Encoded};
use crate::failure::Failure;
use crate::plan::Plan;

/// How the rows of a batch are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `COPY` into the table. A conflict fails it.
    Copy,
    /// `COPY` of the rows whose keys are not in the table.
    CopyRest,
    /// One `INSERT … SELECT … ON CONFLICT`.
    Insert,
    /// The same, where keys are equal to the server that are not equal here.
    InsertDistinct,
}

/// The statements that this connection has prepared.
#[derive(Default)]
pub(crate) struct Prepared {
    copy: Option<Statement>,
    insert: Option<Statement>,
    insert_distinct: Option<Statement>,
    present: Option<Statement>,
    mark: Option<Statement>,
}

/// The batch's transaction, or a savepoint in it.
pub(crate) struct Sending<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) prepared: &'a mut Prepared,
    pub(crate) encoded: &'a Encoded,
}

/// Enough for few system calls, and little enough for the server to work while the next is made.
const CHUNK: usize = 64 * 1024;

fn prepared(
    transaction: &mut Transaction<'_>,
    kept: &mut Option<Statement>,
    text: &str,
) -> Result<Statement, Failure> {
    if let Some(statement) = kept {
        return Ok(statement.clone());
    }
    // It has seen no row: what is wrong with it is no row's fault.
    let statement = transaction
        .prepare(text)
        .map_err(Failure::at(Stage::Connect))?;
    Ok(kept.insert(statement).clone())
}

impl Sending<'_> {
    /// Stores the batch's id, if there is a table for it; false if it is there already.
    pub(crate) fn mark(
        &mut self,
        transaction: &mut Transaction<'_>,
        id: u128,
    ) -> Result<bool, Failure> {
        let Some(batches) = &self.plan.batches else {
            return Ok(true);
        };
        let mark = prepared(transaction, &mut self.prepared.mark, &batches.mark)?;
        let id = Array::value(&id.to_be_bytes());
        let marked = transaction.execute(&mark, &[&id]);
        Ok(marked.map_err(Failure::at(Stage::Statement))? > 0)
    }

    pub(crate) fn send(
        &mut self,
        transaction: &mut Transaction<'_>,
        rows: &[usize],
        way: Way,
    ) -> Result<(), Failure> {
        match (way, &self.plan.copy) {
            (Way::Copy, Some(copy)) => {
                let copy = prepared(transaction, &mut self.prepared.copy, copy)?;
                self.copy(transaction, &copy, rows)
            }
            (Way::CopyRest, Some(_)) => {
                let rest = self.absent(transaction, rows)?;
                self.send(transaction, &rest, Way::Copy)
            }
            _ => self.insert(transaction, rows, way),
        }
    }

    /// Sends the halves of what is refused, down to single rows. Each half has a savepoint.
    pub(crate) fn send_halves(
        &mut self,
        transaction: &mut Transaction<'_>,
        rows: &[usize],
        way: Way,
        refused: &mut Refused,
    ) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let at_statement = Failure::at(Stage::Statement);
        // Dropped on an early return: that rolls back to it.
        let mut savepoint = transaction.transaction().map_err(&at_statement)?;
        match self.send(&mut savepoint, rows, way) {
            Ok(()) => return savepoint.commit().map_err(&at_statement),
            Err(failure) => {
                drop(savepoint);
                let error = failure.into_error();
                if !error.is_permanent() || error.is_handler_broken() {
                    return Err(Failure::Batch(error));
                }
                if let [row] = rows {
                    refused.push((*row, error));
                    return Ok(());
                }
            }
        }
        for half in rows.chunks(rows.len().div_ceil(2)) {
            self.send_halves(transaction, half, way, refused)?;
        }
        Ok(())
    }

    /// The rows whose keys are not in the table.
    fn absent(
        &mut self,
        transaction: &mut Transaction<'_>,
        rows: &[usize],
    ) -> Result<Vec<usize>, Failure> {
        let Some(present) = &self.plan.present else {
            return Ok(rows.to_vec());
        };
        let present = prepared(transaction, &mut self.prepared.present, present)?;
        let keys = self.encoded.key_arrays(rows, self.plan);
        let found = transaction
            .query(&present, &parameters(&keys))
            .map_err(Failure::at(Stage::Statement))?;
        let mut is_there = vec![false; rows.len()];
        for row in found {
            let place: i64 = row.get(0);
            let place = usize::try_from(place - 1).expect("counted from 1");
            is_there[place] = true;
        }
        let absent = rows.iter().zip(is_there);
        Ok(absent
            .filter(|(_, there)| !there)
            .map(|(row, _)| *row)
            .collect())
    }

    fn insert(
        &mut self,
        transaction: &mut Transaction<'_>,
        rows: &[usize],
        way: Way,
    ) -> Result<(), Failure> {
        let (text, kept) = match way {
            Way::InsertDistinct => (
                &self.plan.insert_distinct,
                &mut self.prepared.insert_distinct,
            ),
            _ => (&self.plan.insert, &mut self.prepared.insert),
        };
        let at_statement = Failure::at(Stage::Statement);
        let Some(staging) = &self.plan.staging else {
            let insert = prepared(transaction, kept, text)?;
            let arrays = self.encoded.arrays(rows, &self.plan.columns);
            let sent = transaction.execute(&insert, &parameters(&arrays));
            return sent.map(drop).map_err(at_statement);
        };
        // The table is another one each time, so nothing is prepared for it.
        transaction
            .batch_execute(&staging.create)
            .map_err(Failure::at(Stage::Connect))?;
        let copy = transaction
            .prepare(&staging.copy)
            .map_err(Failure::at(Stage::Connect))?;
        self.copy(transaction, &copy, rows)?;
        let onward = transaction
            .prepare(text)
            .map_err(Failure::at(Stage::Connect))?;
        transaction.execute(&onward, &[]).map_err(&at_statement)?;
        // Another half of the batch may follow.
        transaction
            .batch_execute(&staging.drop)
            .map_err(&at_statement)
    }

    fn copy(
        &self,
        transaction: &mut Transaction<'_>,
        copy: &Statement,
        rows: &[usize],
    ) -> Result<(), Failure> {
        let at_statement = Failure::at(Stage::Statement);
        if rows.is_empty() {
            return Ok(());
        }
        // Dropped on an early return: that ends the COPY as failed.
        let mut writer = transaction.copy_in(copy).map_err(&at_statement)?;
        let written = self.copy_rows(&mut writer, rows);
        // Where the server has said why, that is the answer.
        writer.finish().map_err(at_statement)?;
        // The server takes a COPY that ends early for a whole one: it must not be committed.
        written.map_err(|error| Failure::Batch(BatchError::transient(error).handler_broken()))
    }

    fn copy_rows(&self, writer: &mut CopyInWriter<'_>, rows: &[usize]) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK + 1_024);
        chunk.extend_from_slice(COPY_HEAD);
        for row in rows {
            chunk.extend_from_slice(self.encoded.row_bytes(*row));
            if chunk.len() >= CHUNK {
                writer.write_all(&chunk)?;
                chunk.clear();
            }
        }
        chunk.extend_from_slice(COPY_END);
        writer.write_all(&chunk)
    }
}

fn parameters(arrays: &[Array]) -> Vec<&(dyn ToSql + Sync)> {
    let arrays = arrays.iter();
    arrays.map(|array| array as &(dyn ToSql + Sync)).collect()
}

/// Whether a transaction that the user has worked in can still be committed. The server answers the
/// commit of one in which a statement has failed with a rollback, and the driver does not say so.
pub(crate) fn check_alive(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    transaction.batch_execute("SELECT 1")
}
