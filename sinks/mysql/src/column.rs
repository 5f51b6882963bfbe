//! Columns: where a row's values come from, and their order.

use std::cmp::Ordering;

use mysql::Value;

/// Gets one value out of a row.
pub(crate) trait Column<T>: Send + Sync {
    fn value(&self, row: &T) -> Value;

    /// About how many bytes the value takes.
    fn weight(&self, row: &T) -> usize;
}

/// A value that the row holds.
pub(crate) struct Held<F>(pub(crate) F);

/// A value that is made from the row.
pub(crate) struct Computed<F>(pub(crate) F);

/// What a value takes beside its bytes: a length, a type, a bit for null.
const OVERHEAD: usize = 12;

impl<T, V, F> Column<T> for Held<F>
where
    V: ?Sized + 'static,
    F: for<'a> Fn(&'a T) -> &'a V + Send + Sync,
    for<'a> Value: From<&'a V>,
{
    fn value(&self, row: &T) -> Value {
        Value::from((self.0)(row))
    }

    fn weight(&self, row: &T) -> usize {
        size(&self.value(row))
    }
}

impl<T, V, F> Column<T> for Computed<F>
where
    V: Into<Value>,
    F: Fn(&T) -> V + Send + Sync,
{
    fn value(&self, row: &T) -> Value {
        (self.0)(row).into()
    }

    fn weight(&self, _row: &T) -> usize {
        OVERHEAD
    }
}

/// What a value takes in a packet, at most.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len() + OVERHEAD,
        _ => OVERHEAD + 4,
    }
}

/// A total order, the same in every writer. Numbers and times are in their own order, texts by
/// their bytes.
pub(crate) fn compare(one: &Value, other: &Value) -> Ordering {
    use Value::{Bytes, Date, Double, Float, Int, NULL, Time, UInt};
    match (one, other) {
        (Int(one), Int(other)) => one.cmp(other),
        (UInt(one), UInt(other)) => one.cmp(other),
        (Int(one), UInt(other)) => i128::from(*one).cmp(&i128::from(*other)),
        (UInt(one), Int(other)) => i128::from(*one).cmp(&i128::from(*other)),
        (Bytes(one), Bytes(other)) => one.cmp(other),
        (Float(one), Float(other)) => one.total_cmp(other),
        (Double(one), Double(other)) => one.total_cmp(other),
        // No floating point inside: the derived order is total.
        (Date(..), Date(..)) => one.partial_cmp(other).unwrap_or(Ordering::Equal),
        (Time(negative, d1, h1, m1, s1, u1), Time(other_negative, d2, h2, m2, s2, u2)) => {
            let length = (d1, h1, m1, s1, u1).cmp(&(d2, h2, m2, s2, u2));
            let length = if *negative { length.reverse() } else { length };
            other_negative.cmp(negative).then(length)
        }
        _ => {
            let class = |value: &Value| match value {
                NULL => 0,
                Int(_) | UInt(_) => 1,
                Float(_) => 2,
                Double(_) => 3,
                Date(..) => 4,
                Time(..) => 5,
                Bytes(_) => 6,
            };
            class(one).cmp(&class(other))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_a_total_order() {
        let minus = Value::Time(true, 1, 0, 0, 0, 0);
        let longer = Value::Time(true, 2, 0, 0, 0, 0);
        let plus = Value::Time(false, 0, 0, 0, 1, 0);
        let ascending = [
            Value::NULL,
            Value::Int(-1),
            Value::UInt(0),
            Value::Int(1),
            Value::UInt(u64::MAX),
            Value::Double(-0.5),
            Value::Double(f64::NAN),
            Value::Date(2026, 1, 1, 0, 0, 0, 0),
            Value::Date(2026, 1, 2, 0, 0, 0, 0),
            longer,
            minus,
            plus,
            Value::Bytes(b"a".to_vec()),
            Value::Bytes(b"b".to_vec()),
        ];
        for (i, one) in ascending.iter().enumerate() {
            for (j, other) in ascending.iter().enumerate() {
                assert_eq!(compare(one, other), i.cmp(&j), "{one:?} {other:?}");
            }
        }
    }
}
