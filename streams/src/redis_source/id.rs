//! The id of a stream's entry.

use std::fmt;
use std::str::FromStr;

/// The id of an entry of a Redis stream: milliseconds and a sequence number.
///
/// ```
/// # use load_aware_batcher_streams::EntryId;
/// let id: EntryId = "1700000000000-3".parse().unwrap();
/// assert_eq!((id.ms, id.seq), (1_700_000_000_000, 3));
/// assert_eq!(id.to_string(), "1700000000000-3");
/// assert!("17".parse::<EntryId>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The first part, usually milliseconds since 1970.
    pub ms: u64,
    /// The second part.
    pub seq: u64,
}

impl EntryId {
    /// The smallest id above this one.
    pub(super) fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self {
                ms: self.ms.saturating_add(1),
                seq: 0,
            },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(ms, seq)| {
            Some(Self {
                ms: ms.parse().ok()?,
                seq: seq.parse().ok()?,
            })
        });
        parts.ok_or_else(|| format!("{text:?} is no id of a stream's entry"))
    }
}
