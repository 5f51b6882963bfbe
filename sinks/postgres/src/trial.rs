//! Whether a batch is first tried by plain `COPY`, where conflicts would roll it back.

/// After a conflict the next batches go by the conflict-safe way without a trial: 1 of them, then
/// 2, 4, … up to 64 while each trial meets a conflict. The first trial without a conflict ends it.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// How many batches still go without a trial.
    waiting: u32,
    /// How many went without one after the last conflict.
    last: u32,
}

const MOST: u32 = 64;

impl Trial {
    /// Whether the next batch is tried by `COPY`. Counts the batch.
    pub(crate) fn is_due(&mut self) -> bool {
        if self.waiting == 0 {
            return true;
        }
        self.waiting -= 1;
        false
    }

    pub(crate) fn met_conflict(&mut self) {
        self.last = (self.last * 2).clamp(1, MOST);
        self.waiting = self.last;
    }

    pub(crate) fn was_clean(&mut self) {
        self.last = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_rarer_while_they_meet_conflicts_and_come_back_after_a_clean_one() {
        let mut trial = Trial::default();
        let without = |trial: &mut Trial| (0..).take_while(|_| !trial.is_due()).count();
        for expected in [0, 1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(without(&mut trial), expected);
            trial.met_conflict();
        }
        assert_eq!(without(&mut trial), 64);
        trial.was_clean();
        assert_eq!(without(&mut trial), 0);
        trial.met_conflict();
        assert_eq!(without(&mut trial), 1);
    }
}
