//! What a consumer has done.

/// The books of a [`Consumer`](crate::Consumer) at one moment.
///
/// `read == acknowledged + buried + in_hand + left` holds in every snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Entries that the source delivered, each counted once while it is in hand.
    pub read: u64,
    /// Entries that are stored and acknowledged.
    pub acknowledged: u64,
    /// Entries that failed as permanent and are among the dead letters.
    pub buried: u64,
    /// Entries that are neither: submitted, or about to be submitted, acknowledged or buried.
    pub in_hand: u64,
    /// Entries that were in hand at the end, or when the log gave them to another consumer. The log
    /// delivers them again.
    pub left: u64,
    /// How often an entry was submitted again after an outage, a transient failure or a doubt.
    pub resubmitted: u64,
    /// How often the source did not answer or refused.
    pub source_errors: u64,
    /// Why nothing is read at present: the batcher retries or has stalled, the source does not
    /// answer, or the log wants entries back. `None` while entries are read.
    pub waiting_for: Option<String>,
}

/// How a [`Consumer`](crate::Consumer) ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerReport {
    /// The last state of the books; nothing is in hand any more.
    pub books: Snapshot,
    /// Whether everything that was read is stored or buried, and the log knows it.
    pub is_clean: bool,
}
