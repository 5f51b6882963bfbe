//! What keeps a row from being stored twice when the answer to a commit is lost.

use std::str::FromStr;
use std::time::Duration;

use load_aware_batcher::{Builder, Retry};

/// The three ways, with what each asks of the table and of the builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// Rows have a key and what is there already is left alone: a batch may be sent again, whole or
    /// in parts.
    Key,
    /// A table of batch ids, written in the same transaction: what may have been applied may be
    /// sent again as a whole only, so bisection is off and one bad row fails its whole batch.
    BatchTable,
    /// Nothing: what is in doubt fails, is reported as such, and is never sent again.
    Never,
}

impl Once {
    /// Tells the builder: how often to try, whether to search for bad rows, whether sending twice
    /// does no harm.
    pub fn settle<T: Send + 'static>(self, builder: Builder<T>) -> Builder<T> {
        // Long enough for a server that restarts; in halves, since the most frequent failure under
        // load is a call that took too long for a time-out.
        let retry = Retry::attempts(30)
            .split_on_retry(true)
            .backoff(Duration::from_millis(20), Duration::from_secs(2))
            .total_limit(Duration::from_secs(120));
        match self {
            Self::Key => builder.retry(retry).idempotent(true),
            Self::BatchTable => builder.retry(retry.bisect(false)).idempotent(true),
            Self::Never => builder.retry(retry).idempotent(false),
        }
    }
}

impl FromStr for Once {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "key" => Ok(Self::Key),
            "batch" => Ok(Self::BatchTable),
            "never" => Ok(Self::Never),
            _ => Err(format!("--once is {word:?}: must be key, batch or never")),
        }
    }
}
