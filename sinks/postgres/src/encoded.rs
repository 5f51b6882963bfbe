//! The rows of a batch as the server reads them: encoded once, whichever ways they go.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use load_aware_batcher::BatchError;
use postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::column::Column;
use crate::connection::AnyError;
use crate::doubts::Refused;
use crate::failure::ColumnError;
use crate::plan::{Merge, Plan, PlanColumn};

/// Rows in the binary format of `COPY`: a number of fields, then each with its length.
pub(crate) struct Encoded {
    data: BytesMut,
    /// Where each row is.
    rows: Vec<Range<usize>>,
    /// Where the values of each row's key are; `None` for null. So many a row as the key has
    /// columns.
    keys: Vec<Option<Range<usize>>>,
    key_columns: usize,
}

/// What is before the first row.
pub(crate) const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What is behind the last row.
pub(crate) const COPY_END: &[u8] = &(-1_i16).to_be_bytes();

const NULL: i32 = -1;

impl Encoded {
    /// Rows with a value that the driver cannot encode are refused, and left empty.
    pub(crate) fn new<T>(
        batch: &[T],
        columns: &[Arc<dyn Column<T>>],
        plan: &Plan,
    ) -> (Self, Refused) {
        let mut refused = Vec::new();
        let mut new = Self {
            data: BytesMut::with_capacity(batch.len() * columns.len() * 12),
            rows: Vec::with_capacity(batch.len()),
            keys: Vec::with_capacity(batch.len() * plan.key.len()),
            key_columns: plan.key.len(),
        };
        let mut fields = Vec::with_capacity(columns.len());
        for (index, row) in batch.iter().enumerate() {
            let start = new.data.len();
            fields.clear();
            if let Err(error) = new.row(row, columns, &plan.columns, &mut fields) {
                new.data.truncate(start);
                fields.clear();
                fields.resize(columns.len(), None);
                refused.push((index, BatchError::permanent(error)));
            }
            new.rows.push(start..new.data.len());
            new.keys
                .extend(plan.key.iter().map(|place| fields[*place].clone()));
        }
        (new, refused)
    }

    fn row<T>(
        &mut self,
        row: &T,
        columns: &[Arc<dyn Column<T>>],
        plan: &[PlanColumn],
        fields: &mut Vec<Option<Range<usize>>>,
    ) -> Result<(), ColumnError> {
        let data = &mut self.data;
        // A table has at most 1 600 columns.
        data.put_i16(columns.len() as i16);
        for (column, PlanColumn { name, ty }) in columns.iter().zip(plan) {
            let at = data.len();
            data.put_i32(NULL);
            let encoded = column.encode(row, ty, data).and_then(|null| {
                if matches!(null, IsNull::Yes) {
                    data.truncate(at + 4);
                    return Ok(None);
                }
                let length = i32::try_from(data.len() - at - 4)?;
                data[at..at + 4].copy_from_slice(&length.to_be_bytes());
                Ok(Some(at + 4..data.len()))
            });
            fields.push(encoded.map_err(|error| ColumnError {
                column: name.clone(),
                error,
            })?);
        }
        Ok(())
    }

    /// The rows to be written, in the order of their keys, so that two writers that meet wait for
    /// each other and do not deadlock. Of rows with one key one is left, if they are merged.
    pub(crate) fn order(&self, merge: Merge) -> Vec<usize> {
        let is_encoded = |index: &usize| !self.rows[*index].is_empty();
        let mut order: Vec<usize> = (0..self.rows.len()).filter(is_encoded).collect();
        if self.key_columns == 0 {
            return order;
        }
        if !order.is_sorted_by(|one, other| self.compare(*one, *other).is_le()) {
            // Stable: of equal keys the first row stays the first.
            order.sort_by(|one, other| self.compare(*one, *other));
        }
        match merge {
            Merge::None => {}
            Merge::First => order.dedup_by(|later, kept| self.is_same(*later, *kept)),
            Merge::Last => order.dedup_by(|later, kept| {
                let same = self.is_same(*later, *kept);
                if same {
                    *kept = *later;
                }
                same
            }),
        }
        order
    }

    fn key(&self, row: usize) -> impl Iterator<Item = Option<&[u8]>> {
        let values = &self.keys[row * self.key_columns..(row + 1) * self.key_columns];
        values.iter().map(|range| Some(&self.data[range.clone()?]))
    }

    /// A total order, the same in every writer: by the bytes.
    fn compare(&self, one: usize, other: usize) -> Ordering {
        self.key(one).cmp(self.key(other))
    }

    /// Nulls are not equal.
    fn is_same(&self, one: usize, other: usize) -> bool {
        let mut pairs = self.key(one).zip(self.key(other));
        pairs.all(|(one, other)| one.is_some() && one == other)
    }

    /// A row for `COPY`.
    pub(crate) fn row_bytes(&self, row: usize) -> &[u8] {
        &self.data[self.rows[row].clone()]
    }

    /// The values of all columns, each as one array of the server's.
    pub(crate) fn arrays(&self, rows: &[usize], columns: &[PlanColumn]) -> Vec<Array> {
        let mut arrays: Vec<Array> = columns
            .iter()
            .map(|column| Array::new(rows.len(), &column.ty))
            .collect();
        for row in rows {
            let mut rest = &self.row_bytes(*row)[2..];
            for array in &mut arrays {
                let (length, behind) = rest.split_at(4);
                let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
                let (value, behind) = behind.split_at(usize::try_from(length).unwrap_or(0));
                array.push((length != NULL).then_some(value));
                rest = behind;
            }
        }
        arrays
    }

    /// The values of the key's columns, each as one array of the server's.
    pub(crate) fn key_arrays(&self, rows: &[usize], plan: &Plan) -> Vec<Array> {
        let array = |place: &usize| Array::new(rows.len(), &plan.columns[*place].ty);
        let mut arrays: Vec<Array> = plan.key.iter().map(array).collect();
        for row in rows {
            for (array, value) in arrays.iter_mut().zip(self.key(*row)) {
                array.push(value);
            }
        }
        arrays
    }
}

/// A value, or an array of values, that is encoded already.
#[derive(Debug)]
pub(crate) struct Array(BytesMut);

impl Array {
    fn new(length: usize, element: &Type) -> Self {
        let mut data = BytesMut::new();
        // One dimension, with nulls or without, from the index 1.
        data.put_i32(1);
        data.put_i32(1);
        data.put_u32(element.oid());
        // The protocol's limit of 1 GiB is below that.
        data.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
        data.put_i32(1);
        Self(data)
    }

    /// A single value.
    pub(crate) fn value(bytes: &[u8]) -> Self {
        Self(BytesMut::from(bytes))
    }

    fn push(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => {
                self.0.put_i32(value.len() as i32);
                self.0.extend_from_slice(value);
            }
            None => self.0.put_i32(NULL),
        }
    }
}

impl ToSql for Array {
    fn to_sql(&self, _: &Type, into: &mut BytesMut) -> Result<IsNull, AnyError> {
        into.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}
