//! Columns: where a row's values come from.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Result, Statement, ToSql};

/// Gets one value out of a row.
pub(crate) trait Column<T>: Send + Sync {
    /// Binds the row's value to the parameter at `place`, from 1.
    fn bind(&self, row: &T, statement: &mut Statement<'_>, place: usize) -> Result<()>;

    /// The row's value, to sort by. Null where it cannot be converted: binding it says so.
    fn key(&self, row: &T) -> Value;

    /// About how many bytes the value takes.
    fn weight(&self, row: &T) -> usize;
}

/// Adds a value to a hash of its key.
pub(crate) fn hash(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Integer(number) => number.hash(hasher),
        Value::Real(number) => number.to_bits().hash(hasher),
        Value::Text(text) => text.hash(hasher),
        Value::Blob(bytes) => bytes.hash(hasher),
    }
}

/// A value that the row holds.
pub(crate) struct Held<F>(pub(crate) F);

/// A value that is made from the row.
pub(crate) struct Computed<F>(pub(crate) F);

/// What a number takes at most, and what a computed value is taken to have.
const NUMBER: usize = 9;

impl<T, V, F> Column<T> for Held<F>
where
    V: ToSql + ?Sized + 'static,
    F: for<'a> Fn(&'a T) -> &'a V + Send + Sync,
{
    fn bind(&self, row: &T, statement: &mut Statement<'_>, place: usize) -> Result<()> {
        statement.raw_bind_parameter(place, (self.0)(row).to_sql()?)
    }

    fn key(&self, row: &T) -> Value {
        owned((self.0)(row).to_sql())
    }

    fn weight(&self, row: &T) -> usize {
        match (self.0)(row).to_sql() {
            Ok(ToSqlOutput::Borrowed(ValueRef::Text(bytes) | ValueRef::Blob(bytes))) => bytes.len(),
            Ok(ToSqlOutput::Owned(Value::Text(text))) => text.len(),
            Ok(ToSqlOutput::Owned(Value::Blob(bytes))) => bytes.len(),
            _ => NUMBER,
        }
    }
}

impl<T, V, F> Column<T> for Computed<F>
where
    V: ToSql,
    F: Fn(&T) -> V + Send + Sync,
{
    fn bind(&self, row: &T, statement: &mut Statement<'_>, place: usize) -> Result<()> {
        statement.raw_bind_parameter(place, (self.0)(row))
    }

    fn key(&self, row: &T) -> Value {
        owned((self.0)(row).to_sql())
    }

    fn weight(&self, _row: &T) -> usize {
        NUMBER
    }
}

fn owned(value: Result<ToSqlOutput<'_>>) -> Value {
    match value {
        Ok(ToSqlOutput::Borrowed(ValueRef::Integer(value))) => Value::Integer(value),
        Ok(ToSqlOutput::Borrowed(ValueRef::Real(value))) => Value::Real(value),
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(bytes))) => {
            Value::Text(String::from_utf8_lossy(bytes).into_owned())
        }
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(bytes))) => Value::Blob(bytes.to_vec()),
        Ok(ToSqlOutput::Owned(value)) => value,
        _ => Value::Null,
    }
}

/// The order in which SQLite keeps values in an index of the default collation.
pub(crate) fn compare(one: &Value, other: &Value) -> Ordering {
    use Value::{Blob, Integer, Null, Real, Text};
    match (one, other) {
        (Integer(one), Integer(other)) => one.cmp(other),
        (Real(one), Real(other)) => one.total_cmp(other),
        (Integer(one), Real(other)) => (*one as f64).total_cmp(other),
        (Real(one), Integer(other)) => one.total_cmp(&(*other as f64)),
        (Text(one), Text(other)) => one.cmp(other),
        (Blob(one), Blob(other)) => one.cmp(other),
        _ => {
            let class = |value: &Value| match value {
                Null => 0,
                Integer(_) | Real(_) => 1,
                Text(_) => 2,
                Blob(_) => 3,
            };
            class(one).cmp(&class(other))
        }
    }
}
