//! The rows that the writers store.

/// One reading. Its id is its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: i64,
    pub value: f64,
    pub text: String,
}

impl Row {
    /// The row with this id. Its value and its text follow from it.
    pub fn of(id: i64) -> Self {
        Self {
            id,
            value: id as f64 / 4.0,
            text: format!("reading number {id}"),
        }
    }
}
