//! Writes batches: one prepared `INSERT` a row inside one transaction.
//!
//! There is no round trip to save; what a batch saves is the commit, an fsync. A statement that
//! fails rolls back alone, so a row that SQLite refuses is rejected and the rest of its batch is
//! stored in the same call: no search.
//!
//! `BEGIN IMMEDIATE` takes the write lock first: a transaction that begins by reading and finds the
//! file changed underneath cannot wait, only start again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use load_aware_batcher::classify::Stage;
use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use rusqlite::types::Value;
use rusqlite::{Connection, Error, Statement, Transaction, TransactionBehavior};

use crate::busy::Busy;
use crate::column::{Column, compare};
use crate::doubts::{Doubts, Refused};
use crate::failure::{ColumnError, failed, is_busy, of_user};
use crate::plan::Plan;

/// The user's own part of the transaction.
pub(crate) type BeforeCommit<T> =
    dyn Fn(&Transaction<'_>, &Batch<T>) -> Result<(), BatchError> + Send + Sync;

/// From one removal of old batch ids to the next.
const PRUNE: Duration = Duration::from_secs(3_600);

/// What all writers of a sink share.
pub(crate) struct Shared<T> {
    pub(crate) columns: Vec<Arc<dyn Column<T>>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) busy: Arc<Busy>,
    pub(crate) doubts: Arc<Doubts>,
    pub(crate) before_commit: Option<Arc<BeforeCommit<T>>>,
    pub(crate) busy_timeout: Duration,
    pub(crate) keep_batches: Duration,
}

/// The handler of a [`Sqlite`](crate::Sqlite) sink: one connection.
pub struct Writer<T> {
    connection: Connection,
    shared: Shared<T>,
    pruned: Option<Instant>,
}

impl<T> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Handler<T> for Writer<T> {
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        let _watch = self.shared.busy.watch(self.shared.busy_timeout);
        let result = self.write(batch).map(|()| LoadFeedback::new());
        match result {
            // Still inside a transaction that did not roll back.
            Err(error) if !self.connection.is_autocommit() => Err(error.handler_broken()),
            result => result,
        }
    }
}

impl<T> Writer<T> {
    pub(crate) fn new(connection: Connection, shared: Shared<T>) -> Self {
        Self {
            connection,
            shared,
            pruned: None,
        }
    }

    fn write(&mut self, batch: &Batch<T>) -> Result<(), BatchError> {
        let shared = &self.shared;
        // Dropped on every early return: that rolls back.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| shared.failed(error, Stage::Statement))?;
        if !shared.is_new(&transaction, batch, &mut self.pruned)? {
            // An earlier attempt was stored and only its answer lost.
            reject(batch, shared.doubts.take(batch.id()));
            return Ok(());
        }
        let refused = shared.insert_all(&transaction, batch)?;
        match shared.commit(transaction, batch) {
            Ok(()) => {
                reject(batch, refused);
                Ok(())
            }
            Err(error) => {
                if error.is_in_doubt() && shared.plan.batches.is_some() {
                    shared.doubts.keep(batch.id(), refused);
                }
                Err(error)
            }
        }
    }
}

fn reject<T>(batch: &Batch<T>, refused: Refused) {
    for (index, error) in refused {
        batch.reject(index, error);
    }
}

impl<T> Shared<T> {
    /// Stores the batch's id, if there is a table for it; false if it is there already.
    fn is_new(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch<T>,
        pruned: &mut Option<Instant>,
    ) -> Result<bool, BatchError> {
        let Some(batches) = &self.plan.batches else {
            return Ok(true);
        };
        let failed = |error| self.failed(error, Stage::Statement);
        if pruned.is_none_or(|pruned| pruned.elapsed() >= PRUNE) {
            let age = i64::try_from(self.keep_batches.as_secs()).unwrap_or(i64::MAX);
            transaction.execute(&batches.prune, [age]).map_err(failed)?;
            *pruned = Some(Instant::now());
        }
        let mut mark = transaction
            .prepare_cached(&batches.mark)
            .map_err(|error| self.failed(error, Stage::Connect))?;
        Ok(mark.execute([batch.id().to_string()]).map_err(failed)? > 0)
    }

    /// The rows that SQLite refused; the others are in the transaction.
    fn insert_all(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch<T>,
    ) -> Result<Refused, BatchError> {
        // A statement that does not prepare has seen no row: a missing table is not a row's fault.
        // A cached one would show it only at its first row, with the same code as a row's own
        // fault. To prepare costs some microseconds a batch.
        let mut statement = transaction
            .prepare(&self.plan.insert)
            .map_err(|error| self.failed(error, Stage::Connect))?;
        let mut refused = Vec::new();
        let mut insert = |index: usize| match self.insert(&mut statement, &batch[index]) {
            // A trigger or a constraint can end the whole transaction.
            Err(error) if error.is_permanent() && !transaction.is_autocommit() => {
                refused.push((index, error));
                Ok(())
            }
            result => result,
        };
        match self.order(batch) {
            Some(order) => order.into_iter().try_for_each(&mut insert)?,
            None => (0..batch.len()).try_for_each(&mut insert)?,
        }
        Ok(refused)
    }

    fn insert(&self, statement: &mut Statement<'_>, row: &T) -> Result<(), BatchError> {
        for (place, column) in self.columns.iter().enumerate() {
            column.bind(row, statement, place + 1).map_err(|error| {
                let column = self.plan.columns[place].clone();
                BatchError::permanent(ColumnError { column, error })
            })?;
        }
        match statement.raw_execute() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(error, Stage::Statement)),
        }
    }

    /// The order of the rows' keys; `None` if they have it already, or have no key. Rows in order
    /// share pages of the index. Of equal keys the first row stays the first.
    fn order(&self, batch: &[T]) -> Option<Vec<usize>> {
        let keys = &self.plan.sort_by[..];
        let value = |row: &T, place: &usize| self.columns[*place].key(row);
        match keys {
            [] => None,
            [key] => order(batch.iter().map(|row| value(row, key)).collect(), compare),
            _ => order(
                batch
                    .iter()
                    .map(|row| keys.iter().map(|key| value(row, key)).collect())
                    .collect(),
                |one: &Vec<Value>, other: &Vec<Value>| {
                    let columns = one.iter().zip(other);
                    columns
                        .map(|(one, other)| compare(one, other))
                        .find(|order| order.is_ne())
                        .unwrap_or(std::cmp::Ordering::Equal)
                },
            ),
        }
    }

    fn commit(&self, transaction: Transaction<'_>, batch: &Batch<T>) -> Result<(), BatchError> {
        if let Some(before_commit) = &self.before_commit {
            before_commit(&transaction, batch).map_err(of_user)?;
        }
        let committed = transaction.commit();
        committed.map_err(|error| self.failed(error, Stage::Commit))
    }

    fn failed(&self, error: Error, stage: Stage) -> BatchError {
        if is_busy(&error) {
            self.busy.count_timeout();
        }
        failed(error, stage)
    }
}

fn order<K>(keys: Vec<K>, compare: impl Fn(&K, &K) -> std::cmp::Ordering) -> Option<Vec<usize>> {
    if keys.is_sorted_by(|one, other| compare(one, other).is_le()) {
        return None;
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|one, other| compare(&keys[*one], &keys[*other]));
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_keep_their_order() {
        assert_eq!(order(vec![2, 1, 2, 1], Ord::cmp), Some(vec![1, 3, 0, 2]));
        assert_eq!(order(vec![1, 1, 2], Ord::cmp), None);
    }
}
