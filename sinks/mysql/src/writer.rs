//! Writes batches: prepared `INSERT`s of many rows inside one transaction, by MariaDB's bulk command
//! where there is one.
//!
//! A statement that fails rolls back alone, so one that a row has spoilt is repeated in halves
//! inside the same transaction, down to that row. The row is rejected and the rest of its batch is
//! stored in the same call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use load_aware_batcher::classify::Stage;
use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use mysql::prelude::Queryable;
use mysql::{Conn, Error, Params, Transaction, TxOpts, Value};

use crate::bulk::{self, Bulk};
use crate::chunk::{Chunk, Chunks, Length};
use crate::column::{Column, compare, size};
use crate::connection::Link;
use crate::doubts::{Doubts, Refused};
use crate::failure::{code, code_of, failed, of_user};
use crate::load::Timeouts;
use crate::plan::Plan;

/// The user's own part of the transaction.
pub(crate) type BeforeCommit<T> =
    dyn Fn(&mut Transaction<'_>, &Batch<T>) -> Result<(), BatchError> + Send + Sync;

/// From one removal of old batch ids to the next.
const PRUNE: Duration = Duration::from_secs(60);

/// What all writers of a sink share.
pub(crate) struct Shared<T> {
    pub(crate) columns: Vec<Arc<dyn Column<T>>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) doubts: Arc<Doubts>,
    pub(crate) before_commit: Option<Arc<BeforeCommit<T>>>,
    pub(crate) keep_batches: Duration,
}

/// The handler of a [`Mysql`](crate::Mysql) sink: one connection.
pub struct Writer<T> {
    link: Link,
    shared: Shared<T>,
    bulk: Bulk,
    pruned: Option<Instant>,
}

impl<T> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Handler<T> for Writer<T> {
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        let (conn, shared) = (self.link.conn(), &self.shared);
        shared.prune(conn, &mut self.pruned)?;
        let by_bulk = self.bulk.next();
        if !by_bulk || !shared.write(conn, batch, Some(&mut self.bulk))? {
            shared.write(conn, batch, None)?;
        }
        // How loaded the server is, the sensor reports: asking here would cost every batch a round
        // trip.
        Ok(LoadFeedback::new())
    }
}

impl<T> Writer<T> {
    /// # Errors
    /// The connection is of no use.
    pub(crate) fn new(mut link: Link, shared: Shared<T>) -> Result<Self, Error> {
        // The guard is a subquery. One inside the bulk command is a rare thing for a server, and a
        // wrong answer of the guard would change a stored row.
        let is_possible = !shared.plan.guarded && bulk::is_supported(link.conn())?;
        Ok(Self {
            link,
            shared,
            bulk: Bulk::new(is_possible),
            pruned: None,
        })
    }
}

impl<T> Shared<T> {
    /// One transaction. False if nothing was stored and the batch is to go by statements.
    fn write(
        &self,
        conn: &mut Conn,
        batch: &Batch<T>,
        by_bulk: Option<&mut Bulk>,
    ) -> Result<bool, BatchError> {
        // Dropped on every early return: that rolls back. A lock wait time-out alone rolls back its
        // statement only.
        let mut transaction = conn
            .start_transaction(TxOpts::default())
            .map_err(|error| self.failed(error, Stage::Statement))?;
        if !self.is_new(&mut transaction, batch)? {
            // An earlier attempt was stored and only its answer lost.
            reject(batch, self.doubts.take(batch.id()));
            return Ok(true);
        }
        let refused = match by_bulk {
            Some(bulk) => {
                if !self.bulk_insert_all(&mut transaction, batch, bulk)? {
                    return Ok(false);
                }
                Refused::new()
            }
            None => self.insert_all(&mut transaction, batch)?,
        };
        match self.commit(transaction, batch) {
            Ok(()) => {
                reject(batch, refused);
                Ok(true)
            }
            Err(error) => {
                if error.is_in_doubt() && self.plan.batches.is_some() {
                    self.doubts.keep(batch.id(), refused);
                }
                Err(error)
            }
        }
    }

    /// Removes old batch ids, outside the batch's transaction: two writers would wait for each
    /// other.
    fn prune(&self, conn: &mut Conn, pruned: &mut Option<Instant>) -> Result<(), BatchError> {
        let Some(batches) = &self.plan.batches else {
            return Ok(());
        };
        if pruned.is_some_and(|pruned| pruned.elapsed() < PRUNE) {
            return Ok(());
        }
        *pruned = Some(Instant::now());
        let age = self.keep_batches.as_secs();
        match conn.exec_drop(&batches.prune, (age,)) {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = self.failed(error, Stage::Statement);
                // What stands in the way of a removal need not stand in the batch's.
                if error.is_handler_broken() {
                    Err(error)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Stores the batch's id, if there is a table for it; false if it is there already.
    fn is_new(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch<T>,
    ) -> Result<bool, BatchError> {
        let Some(batches) = &self.plan.batches else {
            return Ok(true);
        };
        match transaction.exec_drop(&batches.mark, (batch.id().to_string(),)) {
            Ok(()) => Ok(true),
            // The statement alone is rolled back.
            Err(error) if code(&error) == Some(1062) => Ok(false),
            Err(error) => Err(self.failed(error, Stage::Statement)),
        }
    }

    fn commit(&self, mut transaction: Transaction<'_>, batch: &Batch<T>) -> Result<(), BatchError> {
        if let Some(before_commit) = &self.before_commit {
            before_commit(&mut transaction, batch).map_err(of_user)?;
        }
        let committed = transaction.commit();
        committed.map_err(|error| self.failed(error, Stage::Commit))
    }

    /// By the bulk command; false if a row has spoilt it, or its values are not for it.
    fn bulk_insert_all(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch<T>,
        bulk: &mut Bulk,
    ) -> Result<bool, BatchError> {
        let values = |row: usize, into: &mut Vec<Value>| self.values(&batch[row], into);
        let (order, columns) = (self.order(batch), self.columns.len());
        let (text, bytes_max) = (self.plan.insert.text(1), self.plan.bytes_max);
        let length = Length::Any(bulk::ROWS_MAX);
        for chunk in Chunks::new(&order, columns, length, bytes_max, values) {
            if !bulk::are_uniform(&chunk.values, columns) {
                bulk.end();
                return Ok(false);
            }
            let mut values = chunk.values.into_iter();
            let row = |_: &usize| values.by_ref().take(columns).collect::<Vec<Value>>();
            let rows: Vec<Vec<Value>> = chunk.rows.iter().map(row).collect();
            if let Err(error) = transaction.exec_batch(text, rows) {
                let error = self.failed(error, Stage::Statement);
                if !error.is_permanent() || error.is_handler_broken() {
                    return Err(error);
                }
                bulk.pause();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The rows that the server refused; the others are in the transaction.
    fn insert_all(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch<T>,
    ) -> Result<Refused, BatchError> {
        let mut refused = Vec::new();
        let values = |row: usize, into: &mut Vec<Value>| self.values(&batch[row], into);
        let order = self.order(batch);
        let plan = &self.plan;
        let length = Length::PowerOfTwo(plan.insert.rows_max());
        let columns = self.columns.len();
        for chunk in Chunks::new(&order, columns, length, plan.bytes_max, values) {
            self.insert(transaction, batch, chunk, &mut refused)?;
        }
        Ok(refused)
    }

    /// One statement; if a row spoils it, its halves.
    fn insert(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch<T>,
        chunk: Chunk,
        refused: &mut Refused,
    ) -> Result<(), BatchError> {
        let text = self.plan.insert.text(chunk.rows.len());
        let Err(error) = transaction.exec_drop(text, Params::Positional(chunk.values)) else {
            return Ok(());
        };
        let error = self.failed(error, Stage::Statement);
        if !error.is_permanent() || error.is_handler_broken() || spoils_the_transaction(&error) {
            return Err(error);
        }
        if let [row] = chunk.rows[..] {
            refused.push((row, self.named(error)));
            return Ok(());
        }
        for rows in chunk.rows.chunks(chunk.rows.len() / 2) {
            let mut values = Vec::with_capacity(rows.len() * self.columns.len());
            for row in rows {
                self.values(&batch[*row], &mut values);
            }
            let rows = rows.to_vec();
            self.insert(transaction, batch, Chunk { rows, values }, refused)?;
        }
        Ok(())
    }

    /// Adds the row's values, and says what they take in a packet.
    fn values(&self, row: &T, into: &mut Vec<Value>) -> usize {
        let mut bytes = 0;
        for column in &self.columns {
            let value = column.value(row);
            bytes += size(&value);
            into.push(value);
        }
        bytes
    }

    /// The order of the rows' keys, so that two writers that meet wait for each other and do not
    /// deadlock. Of equal keys the first row stays the first.
    fn order(&self, batch: &[T]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        let places = &self.plan.sort_by[..];
        if places.is_empty() {
            return order;
        }
        let keys: Vec<Value> = batch
            .iter()
            .flat_map(|row| places.iter().map(|place| self.columns[*place].value(row)))
            .collect();
        let key = |row: &usize| &keys[row * places.len()..(row + 1) * places.len()];
        order.sort_by(|one, other| {
            let columns = key(one).iter().zip(key(other));
            columns
                .map(|(one, other)| compare(one, other))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        order
    }

    /// The guard's error says nothing of what it guards.
    fn named(&self, error: BatchError) -> BatchError {
        if self.plan.guarded && code_of(&error) == Some(1242) {
            return BatchError::permanent(
                "the row is a duplicate in another unique index than the key",
            );
        }
        error
    }

    fn failed(&self, error: Error, stage: Stage) -> BatchError {
        if matches!(code(&error), Some(1205 | 1969 | 3024)) {
            self.timeouts.count();
        }
        failed(error, stage)
    }
}

/// Whether the rest of the transaction is gone or too large after this error.
fn spoils_the_transaction(error: &BatchError) -> bool {
    matches!(code_of(error), Some(1197 | 1705 | 1713))
}

fn reject<T>(batch: &Batch<T>, refused: Refused) {
    for (index, error) in refused {
        batch.reject(index, error);
    }
}
