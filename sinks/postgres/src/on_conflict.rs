//! What becomes of a row whose key is in the table already.

/// What becomes of a row whose key is in the table already, or earlier in its batch.
///
/// The key is that of [`Postgres::key`](crate::Postgres::key), by default the table's primary key.
/// A row that another unique index refuses fails in every mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnConflict {
    /// The row fails alone and is reported; the rest of its batch is stored. The default.
    #[default]
    Fail,
    /// The stored row stays. Of two rows with one key in a batch the first is stored.
    Ignore,
    /// These columns of the stored row take the new values. Of two rows with one key in a batch the
    /// last is written and the first counts as handled.
    Update(Vec<String>),
    /// All columns that were named, but the key, take the new values. Of two rows with one key in a
    /// batch the last is written and the first counts as handled.
    Replace,
}

impl OnConflict {
    /// [`Update`](Self::Update) of these columns.
    ///
    /// ```
    /// use load_aware_batcher_postgres::OnConflict;
    ///
    /// let mode = OnConflict::update(["value"]);
    /// assert_eq!(mode, OnConflict::Update(vec!["value".to_owned()]));
    /// ```
    pub fn update<N: Into<String>>(columns: impl IntoIterator<Item = N>) -> Self {
        Self::Update(columns.into_iter().map(Into::into).collect())
    }
}
