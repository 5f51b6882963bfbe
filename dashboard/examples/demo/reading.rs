//! What the demo writes.

/// A row. Without a value it cannot be stored.
pub struct Reading {
    pub id: i64,
    pub value: Option<f64>,
}

impl Reading {
    /// One row in this many cannot be stored.
    const BAD: i64 = 100_000;

    pub fn numbered(id: i64) -> Self {
        let is_bad = id % Self::BAD == Self::BAD - 1;
        Self {
            id,
            value: (!is_bad).then_some(0.5),
        }
    }
}
