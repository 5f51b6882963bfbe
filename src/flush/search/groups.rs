//! How many rows the next group has.

use super::{FEW, Search};

impl<T> Search<T> {
    /// A bad row is among this many rows at the front.
    pub(super) fn narrow(&mut self, len: usize) {
        (self.known, self.rest) = (len, 0);
        (self.narrowed, self.verify) = (false, false);
        (self.passed, self.longest_part) = (Some(0), 0);
    }

    /// A bad row was found: how many rows the next group has.
    pub(super) fn found_bad(&mut self, number: u64) {
        self.found += 1;
        let are_adjacent = self.after_bad == Some(number);
        self.after_bad = Some(number + 1);
        self.known = 0;
        self.group = if are_adjacent {
            1
        } else {
            self.group_after(number)
        };
    }

    /// Rows of the next group, at least one. With many bad rows found it is half of the mean
    /// distance between them. With few, the geometric mean of that distance and of the rows left
    /// for each: this may have been the last.
    fn group_after(&self, number: u64) -> usize {
        let seen = (number + 1).saturating_sub(self.first) as f64;
        let found = self.found as f64;
        let rows = if self.found < FEW {
            (self.rows.len() as f64 * seen).sqrt()
        } else {
            0.5 * seen
        };
        ((rows / found) as usize).max(1)
    }
}

/// The next length of groups that go through.
pub(super) fn half_as_long_again(len: usize) -> usize {
    len.saturating_add(len.div_ceil(2))
}
