//! The history of each item. An accepted item must end exactly once.

use std::sync::{Arc, Mutex};

use crate::{AddError, CloseReport, Failed, Stats};

/// Plain locks: they are never held across a step that the checker sees.
#[derive(Clone, Default)]
pub(super) struct Account(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    accepted: Vec<u32>,
    handled: Vec<u32>,
    /// Rows that failed in any way, and items that were returned unsent.
    returned: Vec<u32>,
}

impl Account {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Notes an add of one item. True if it was accepted.
    pub(super) fn added(&self, item: u32, result: Result<(), AddError<u32>>) -> bool {
        match result {
            Ok(()) => {
                self.0.lock().unwrap().accepted.push(item);
                true
            }
            Err(refused) => {
                assert_eq!(refused.into_inner(), item, "the item comes back");
                false
            }
        }
    }

    /// Notes an `add_many`. The returned items must be the last ones.
    pub(super) fn added_many(&self, items: &[u32], result: Result<usize, AddError<Vec<u32>>>) {
        let accepted = match result {
            Ok(count) => count,
            Err(refused) => {
                let back = refused.into_inner();
                assert_eq!(
                    items[items.len() - back.len()..],
                    back,
                    "the rest comes back, in order"
                );
                items.len() - back.len()
            }
        };
        self.0
            .lock()
            .unwrap()
            .accepted
            .extend_from_slice(&items[..accepted]);
    }

    pub(super) fn handled(&self, items: impl IntoIterator<Item = u32>) {
        self.0.lock().unwrap().handled.extend(items);
    }

    pub(super) fn was_handled(&self, item: u32) -> bool {
        self.0.lock().unwrap().handled.contains(&item)
    }

    /// Whether the item was handled or returned.
    pub(super) fn has_ended(&self, item: u32) -> bool {
        let books = self.0.lock().unwrap();
        books.handled.contains(&item) || books.returned.contains(&item)
    }

    pub(super) fn failed(&self, failed: &Failed<u32>) {
        self.0.lock().unwrap().returned.push(failed.item);
    }

    /// Notes the items of the report.
    pub(super) fn closed(&self, report: &CloseReport<u32>) {
        let mut books = self.0.lock().unwrap();
        books.returned.extend(&report.unsent);
        books
            .returned
            .extend(report.failed.iter().map(|failed| failed.item));
    }

    /// Checks that every accepted item ended once, except for this many items that were dropped.
    pub(super) fn settle(&self, dropped: u64) {
        let books = self.0.lock().unwrap();
        let mut ended: Vec<_> = books
            .handled
            .iter()
            .chain(&books.returned)
            .copied()
            .collect();
        ended.sort_unstable();
        assert!(
            ended.windows(2).all(|pair| pair[0] != pair[1]),
            "an item ended twice: {ended:?}"
        );
        let mut accepted = books.accepted.clone();
        accepted.sort_unstable();
        assert!(
            ended
                .iter()
                .all(|item| accepted.binary_search(item).is_ok()),
            "{ended:?} of {accepted:?}"
        );
        assert_eq!(
            ended.len() as u64 + dropped,
            accepted.len() as u64,
            "{ended:?} of {accepted:?}"
        );
    }

    /// Checks that the counters of a report, after the end, agree with the history.
    pub(super) fn assert_counted(&self, report: &CloseReport<u32>) {
        let books = self.0.lock().unwrap();
        let counted = report.handled + report.failed_total + report.unsent_total + report.abandoned;
        assert_eq!(counted, books.accepted.len() as u64, "{report:?}");
        assert_eq!(report.handled, books.handled.len() as u64, "{report:?}");
    }

    /// Items of one producer, all those with the same tens, are handled in the order they were
    /// added.
    pub(super) fn assert_order(&self) {
        let books = self.0.lock().unwrap();
        for producer in 0..10 {
            let own: Vec<_> = books
                .handled
                .iter()
                .filter(|item| **item / 10 == producer)
                .collect();
            assert!(own.is_sorted(), "{own:?}");
        }
    }
}

/// No snapshot misses an item or sees one twice.
pub(super) fn assert_balanced(stats: &Stats) {
    let ended = stats.handled + stats.failed + stats.unsent + stats.abandoned;
    assert_eq!(stats.added, ended + stats.pending, "{stats:?}");
}
