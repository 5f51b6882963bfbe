//! How far each partition of a log may be committed, where a commit means everything below it. Pure.
//!
//! # Invariant
//! Every entry below the point of a partition that was delivered is handled. Offsets that the log
//! leaves out are none: what was not delivered is not waited for.

use std::collections::{BTreeMap, BTreeSet};

/// The partitions of one consumer, each with its point.
pub struct Prefixes<P> {
    partitions: BTreeMap<P, Prefix>,
}

struct Prefix {
    /// Delivered and not handled.
    open: BTreeSet<i64>,
    /// One above the highest that was delivered.
    end: i64,
    /// What the log was told last; at first, the lowest that it delivered.
    committed: i64,
}

impl Prefix {
    /// The lowest offset that has to be delivered again, should this consumer end.
    fn point(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.end)
    }
}

impl<P: Clone + Ord> Prefixes<P> {
    pub fn new() -> Self {
        Self {
            partitions: BTreeMap::new(),
        }
    }

    /// The log has delivered this entry.
    pub fn delivered(&mut self, partition: &P, offset: i64) {
        let prefix = self
            .partitions
            .entry(partition.clone())
            .or_insert_with(|| Prefix {
                open: BTreeSet::new(),
                end: offset,
                committed: offset,
            });
        prefix.open.insert(offset);
        prefix.end = prefix.end.max(offset + 1);
    }

    /// The entry is stored or buried. Without effect on a partition that is forgotten.
    pub fn handled(&mut self, partition: &P, offset: i64) {
        if let Some(prefix) = self.partitions.get_mut(partition) {
            prefix.open.remove(&offset);
        }
    }

    /// The partitions whose point is above what was committed, each with its point.
    pub fn due(&self) -> Vec<(P, i64)> {
        let points = self.partitions.iter();
        let points = points.filter(|(_, prefix)| prefix.point() > prefix.committed);
        points
            .map(|(partition, prefix)| (partition.clone(), prefix.point()))
            .collect()
    }

    /// The log has taken these points.
    pub fn committed(&mut self, points: &[(P, i64)]) {
        for (partition, point) in points {
            if let Some(prefix) = self.partitions.get_mut(partition) {
                prefix.committed = *point;
            }
        }
    }

    /// The partition is another consumer's, or begins anew.
    pub fn forget(&mut self, partition: &P) {
        self.partitions.remove(partition);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_holds_the_point_and_its_end_moves_it_over_all_that_is_handled() {
        let mut prefixes = Prefixes::new();
        // Offsets 12 and 13 are left out by the log.
        for offset in [10, 11, 14, 15] {
            prefixes.delivered(&0, offset);
        }
        assert_eq!(prefixes.due(), []);
        prefixes.handled(&0, 11);
        prefixes.handled(&0, 14);
        assert_eq!(prefixes.due(), []);
        prefixes.handled(&0, 10);
        assert_eq!(prefixes.due(), [(0, 15)]);
        prefixes.committed(&[(0, 15)]);
        assert_eq!(prefixes.due(), []);
        prefixes.handled(&0, 15);
        assert_eq!(prefixes.due(), [(0, 16)]);
        prefixes.forget(&0);
        assert_eq!(prefixes.due(), []);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver { partition: u8, skipped: i64 },
        Handle { partition: u8, which: usize },
        Commit,
        Forget { partition: u8 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3u8, 0..3i64)
                .prop_map(|(partition, skipped)| Step::Deliver { partition, skipped }),
            6 => (0..3u8, any::<usize>())
                .prop_map(|(partition, which)| Step::Handle { partition, which }),
            2 => Just(Step::Commit),
            1 => (0..3u8).prop_map(|partition| Step::Forget { partition }),
        ]
    }

    proptest! {
        #[test]
        fn a_point_is_above_handled_entries_alone_and_as_high_as_that_allows(
            steps in proptest::collection::vec(step(), 0..120)
        ) {
            let mut prefixes = Prefixes::new();
            // What was delivered, in order, and whether it is handled.
            let mut logs: [Vec<(i64, bool)>; 3] = Default::default();
            let mut committed = [None; 3];
            for step in steps {
                match step {
                    Step::Deliver { partition, skipped } => {
                        let log = &mut logs[usize::from(partition)];
                        let offset = log.last().map_or(7, |(last, _)| last + 1) + skipped;
                        log.push((offset, false));
                        prefixes.delivered(&partition, offset);
                    }
                    Step::Handle { partition, which } => {
                        let log = &mut logs[usize::from(partition)];
                        if !log.is_empty() {
                            let at = which % log.len();
                            log[at].1 = true;
                            prefixes.handled(&partition, log[at].0);
                        }
                    }
                    Step::Commit => {
                        let due = prefixes.due();
                        prefixes.committed(&due);
                        prop_assert_eq!(prefixes.due(), []);
                        for (partition, point) in due {
                            let log = &logs[usize::from(partition)];
                            let below = log.iter().take_while(|(offset, _)| *offset < point);
                            prop_assert!(below.clone().all(|(_, handled)| *handled));
                            match log.get(below.count()) {
                                Some((offset, handled)) => {
                                    prop_assert!(*offset == point && !handled);
                                }
                                None => prop_assert_eq!(log.last().map(|(last, _)| last + 1), Some(point)),
                            }
                            let before = committed[usize::from(partition)].replace(point);
                            prop_assert!(before.is_none_or(|before| before < point));
                        }
                        // What is not due has nothing new: its first open entry is its point already.
                        for (partition, log) in logs.iter().enumerate() {
                            let open = log.iter().find(|(_, handled)| !handled);
                            let begins = log.first().map(|(first, _)| *first);
                            let known = committed[partition].or(begins);
                            prop_assert_eq!(
                                open.map(|(offset, _)| *offset)
                                    .or(log.last().map(|(last, _)| last + 1)),
                                known
                            );
                        }
                    }
                    Step::Forget { partition } => {
                        prefixes.forget(&partition);
                        logs[usize::from(partition)].clear();
                        committed[usize::from(partition)] = None;
                    }
                }
            }
        }
    }
}
