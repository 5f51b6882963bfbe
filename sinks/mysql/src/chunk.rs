//! Cuts a batch into statements, each within the packet's limit.

use std::collections::VecDeque;

use mysql::Value;

/// How many rows a statement may have.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// Any number up to this.
    Any(usize),
    /// A power of two up to this.
    PowerOfTwo(usize),
}

/// The values of the rows that come next.
pub(crate) struct Chunks<'a, R> {
    /// Makes the values of a row, and says what they take.
    values: R,
    rows: std::slice::Iter<'a, usize>,
    length: Length,
    bytes_max: usize,
    /// The rows whose values are made and not sent, with what each takes.
    made: VecDeque<(usize, usize)>,
    pending: Vec<Value>,
    pending_bytes: usize,
    columns: usize,
}

/// The rows of one statement, by their index in the batch.
pub(crate) struct Chunk {
    pub(crate) rows: Vec<usize>,
    pub(crate) values: Vec<Value>,
}

impl<'a, R: Fn(usize, &mut Vec<Value>) -> usize> Chunks<'a, R> {
    pub(crate) fn new(
        order: &'a [usize],
        columns: usize,
        length: Length,
        bytes_max: usize,
        values: R,
    ) -> Self {
        Self {
            values,
            rows: order.iter(),
            length,
            bytes_max,
            made: VecDeque::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            columns,
        }
    }

    /// How many of the rows that are made fit into one statement: at least one.
    fn fitting(&self) -> usize {
        let mut bytes = 0;
        let fits = self.made.iter().take_while(|(_, size)| {
            bytes += size;
            bytes <= self.bytes_max
        });
        let fits = fits.count().max(1);
        match self.length {
            Length::Any(_) => fits,
            Length::PowerOfTwo(_) => 1 << fits.ilog2(),
        }
    }
}

impl<R: Fn(usize, &mut Vec<Value>) -> usize> Iterator for Chunks<'_, R> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let (Length::Any(rows_max) | Length::PowerOfTwo(rows_max)) = self.length;
        while self.made.len() < rows_max && self.pending_bytes <= self.bytes_max {
            let Some(row) = self.rows.next() else {
                break;
            };
            let size = (self.values)(*row, &mut self.pending);
            self.made.push_back((*row, size));
            self.pending_bytes += size;
        }
        if self.made.is_empty() {
            return None;
        }
        let fitting = self.fitting();
        let mut rows = Vec::with_capacity(fitting);
        for (row, size) in self.made.drain(..fitting) {
            rows.push(row);
            self.pending_bytes -= size;
        }
        let rest = self.pending.split_off(fitting * self.columns);
        let values = std::mem::replace(&mut self.pending, rest);
        Some(Chunk { rows, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the statements for rows of these sizes.
    fn lengths(sizes: &[usize], length: Length, bytes_max: usize) -> Vec<usize> {
        let order: Vec<usize> = (0..sizes.len()).collect();
        let values = |row: usize, into: &mut Vec<Value>| {
            into.extend([Value::from(row), Value::NULL]);
            sizes[row]
        };
        let mut seen = Vec::new();
        let chunks = Chunks::new(&order, 2, length, bytes_max, values);
        let lengths = chunks.map(|chunk| {
            for (row, values) in chunk.rows.iter().zip(chunk.values.chunks(2)) {
                assert_eq!(values, [Value::from(*row), Value::NULL]);
            }
            assert_eq!(chunk.values.len(), 2 * chunk.rows.len());
            let sum: usize = chunk.rows.iter().map(|row| sizes[*row]).sum();
            assert!(sum <= bytes_max || chunk.rows.len() == 1);
            seen.extend(chunk.rows.iter().copied());
            chunk.rows.len()
        });
        let lengths = lengths.collect();
        assert_eq!(seen, order, "each row once, in order");
        lengths
    }

    #[test]
    fn statements_stay_within_both_limits() {
        use Length::{Any, PowerOfTwo};
        assert_eq!(lengths(&[1; 13], PowerOfTwo(4), 100), [4, 4, 4, 1]);
        assert_eq!(lengths(&[1; 7], PowerOfTwo(8), 100), [4, 2, 1]);
        assert_eq!(lengths(&[30; 8], PowerOfTwo(8), 100), [2, 2, 2, 2]);
        assert_eq!(lengths(&[1, 1, 200, 1, 1], PowerOfTwo(8), 100), [2, 1, 2]);
        assert_eq!(lengths(&[200, 200], PowerOfTwo(8), 100), [1, 1]);
        assert_eq!(lengths(&[1; 13], Any(6), 100), [6, 6, 1]);
        assert_eq!(lengths(&[30; 8], Any(8), 100), [3, 3, 2]);
        assert_eq!(lengths(&[200, 200], Any(8), 100), [1, 1]);
        assert_eq!(lengths(&[], PowerOfTwo(8), 100), [0; 0]);
    }
}
