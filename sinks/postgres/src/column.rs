//! Columns: where a row's values come from.

use std::any::type_name;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash};

use bytes::BytesMut;
use postgres::types::{IsNull, ToSql, Type};

use crate::connection::AnyError;

/// Gets one value out of a row.
pub(crate) trait Column<T>: Send + Sync {
    /// Whether values can be written to a column of this type.
    fn accepts(&self, column: &Type) -> bool;

    /// The name of the values' type.
    fn rust_type(&self) -> String;

    /// Adds the row's value as the server reads it.
    fn encode(&self, row: &T, column: &Type, into: &mut BytesMut) -> Result<IsNull, AnyError>;

    /// About how many bytes the value takes.
    fn weight(&self, row: &T, column: &Type) -> usize;

    /// Adds the row's value to a hash of its key.
    fn hash(&self, row: &T, column: &Type, hasher: &mut DefaultHasher) {
        with_scratch(|scratch| {
            // A value that cannot be encoded is refused later, with its column's name.
            let _ = self.encode(row, column, scratch);
            scratch.as_ref().hash(hasher);
        });
    }
}

/// A value that the row holds.
pub(crate) struct Held<F>(pub(crate) F);

/// A value that is made from the row.
pub(crate) struct Computed<F>(pub(crate) F);

/// What a number takes at most, and what a computed value is taken to have.
const NUMBER: usize = 12;
/// The length before each value.
const LENGTH: usize = 4;

impl<T, V, F> Column<T> for Held<F>
where
    V: ?Sized + 'static,
    F: for<'a> Fn(&'a T) -> &'a V + Send + Sync,
    for<'a> &'a V: ToSql,
{
    fn accepts(&self, column: &Type) -> bool {
        <&V as ToSql>::accepts(column)
    }

    fn rust_type(&self) -> String {
        short(type_name::<V>())
    }

    fn encode(&self, row: &T, column: &Type, into: &mut BytesMut) -> Result<IsNull, AnyError> {
        (self.0)(row).to_sql(column, into)
    }

    fn weight(&self, row: &T, column: &Type) -> usize {
        if is_small(column) {
            return NUMBER;
        }
        with_scratch(|scratch| {
            // A value that cannot be encoded is refused later, with its column's name.
            let _ = self.encode(row, column, scratch);
            scratch.len() + LENGTH
        })
    }
}

impl<T, V, F> Column<T> for Computed<F>
where
    V: ToSql,
    F: Fn(&T) -> V + Send + Sync,
{
    fn accepts(&self, column: &Type) -> bool {
        V::accepts(column)
    }

    fn rust_type(&self) -> String {
        short(type_name::<V>())
    }

    fn encode(&self, row: &T, column: &Type, into: &mut BytesMut) -> Result<IsNull, AnyError> {
        (self.0)(row).to_sql(column, into)
    }

    fn weight(&self, _row: &T, _column: &Type) -> usize {
        NUMBER
    }
}

/// Lends an empty buffer of this thread's.
fn with_scratch<R>(work: impl FnOnce(&mut BytesMut) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<BytesMut> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        work(scratch)
    })
}

/// Whether all values of this type take a few bytes.
fn is_small(column: &Type) -> bool {
    [
        Type::BOOL,
        Type::CHAR,
        Type::INT2,
        Type::INT4,
        Type::INT8,
        Type::OID,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::DATE,
        Type::TIME,
        Type::TIMESTAMP,
        Type::TIMESTAMPTZ,
    ]
    .contains(column)
}

/// A type's name without the modules in it.
fn short(name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    for letter in name.chars() {
        match letter {
            ':' => word.clear(),
            letter if letter.is_alphanumeric() || letter == '_' => word.push(letter),
            letter => {
                short.push_str(&word);
                word.clear();
                short.push(letter);
            }
        }
    }
    short + &word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_without_their_modules() {
        assert_eq!(short("i64"), "i64");
        assert_eq!(
            short(type_name::<Option<Vec<String>>>()),
            "Option<Vec<String>>"
        );
        assert_eq!(short(type_name::<&[std::time::Duration]>()), "&[Duration]");
    }
}
