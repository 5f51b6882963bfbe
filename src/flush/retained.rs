//! Failed rows that are kept because there is no `on_failed` hook. Part of the dead letters.
//!
//! A row is kept under its number, which is its place in the order in which items left the queue.
//! It leaves in one of three ways: with all others, to `take_failed` or to the close report; or
//! alone, once its ticket has returned that it failed. All three take it out under the lock, so a
//! row leaves once.

//!
//! All lanes of a batcher share one [`Budget`]. Each counts its rows there under its own lock.
//! Whoever takes rows then locks every lane in turn, so a lane that saw a full budget before that
//! is found stalled, and one that looks later sees the room.

use std::collections::BTreeMap;

use crate::batch::Failed;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// How many failed rows are kept in all lanes of a batcher, and how many may be. Relaxed throughout:
/// the locks order what hangs on it, see the module's doc.
#[derive(Clone)]
pub(crate) struct Budget {
    kept: Arc<AtomicUsize>,
    /// With this many kept, nothing is handed over.
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            kept: Arc::new(AtomicUsize::new(0)),
            most,
        }
    }
}

/// See the module's doc.
pub(crate) struct Retained<T> {
    rows: BTreeMap<u64, Failed<T>>,
    budget: Budget,
}

impl<T> Retained<T> {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            rows: BTreeMap::new(),
            budget,
        }
    }

    pub(crate) fn keep(&mut self, failed: Failed<T>) {
        let before = self.rows.insert(failed.number, failed);
        debug_assert!(before.is_none(), "a row fails once");
        self.budget.kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether as many rows are kept as may be, in all lanes together.
    pub(crate) fn is_full(&self) -> bool {
        self.budget.kept.load(Ordering::Relaxed) >= self.budget.most
    }

    /// All rows, in order of their numbers.
    pub(crate) fn take_all(&mut self) -> Vec<Failed<T>> {
        let rows: Vec<_> = std::mem::take(&mut self.rows).into_values().collect();
        self.budget.kept.fetch_sub(rows.len(), Ordering::Relaxed);
        rows
    }

    /// The row with this number, if it is still kept.
    pub(crate) fn take_one(&mut self, number: u64) -> Option<Failed<T>> {
        let row = self.rows.remove(&number)?;
        self.budget.kept.fetch_sub(1, Ordering::Relaxed);
        Some(row)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::error::BatchError;

    fn row(number: u64) -> Failed<u64> {
        Failed {
            item: number * 10,
            error: BatchError::permanent("no"),
            attempts: 1,
            in_doubt: false,
            outage: false,
            number,
        }
    }

    #[test]
    fn a_row_leaves_once_and_the_rest_in_order() {
        let mut rows = Retained::new(Budget::new(3));
        [4, 1, 9]
            .into_iter()
            .for_each(|number| rows.keep(row(number)));
        assert!(rows.is_full());
        assert_eq!(rows.take_one(4).map(|failed| failed.item), Some(40));
        assert!(rows.take_one(4).is_none() && rows.take_one(5).is_none());
        assert!(!rows.is_full() && rows.len() == 2);
        assert!(
            rows.take_all()
                .iter()
                .map(|failed| failed.item)
                .eq([10, 90])
        );
        assert!(rows.take_one(9).is_none() && rows.take_all().is_empty());
    }

    #[test]
    fn the_lanes_of_a_batcher_keep_so_many_rows_together() {
        let budget = Budget::new(2);
        let [mut one, mut other] = [Retained::new(budget.clone()), Retained::new(budget)];
        one.keep(row(1));
        assert!(!one.is_full() && !other.is_full());
        other.keep(row(1));
        assert!(one.is_full() && other.is_full());
        assert_eq!(one.take_all().len(), 1);
        assert!(!one.is_full() && !other.is_full());
    }
}
