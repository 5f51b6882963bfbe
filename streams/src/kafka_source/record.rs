//! A record of a topic, as an entry of a log.

use std::fmt;
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use crate::Delivery;

/// Before the name of a header in [`Delivery::fields`].
const HEADER: &str = "header.";

/// The place of a record: topic, partition and offset. The three together are a key for its row.
///
/// ```
/// # use load_aware_batcher_streams::RecordId;
/// let id = RecordId { topic: "readings".into(), partition: 3, offset: 17 };
/// assert_eq!(id.to_string(), "readings/3/17");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
    /// The offset in the partition, from 0.
    pub offset: i64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

pub fn delivery(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Delivery<RecordId> {
    let mut fields = Vec::new();
    let parts = [("key", message.key()), ("value", message.payload())];
    for (name, bytes) in parts {
        fields.extend(bytes.map(|bytes| (name.to_owned(), bytes.to_vec())));
    }
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let value = header.value.unwrap_or_default();
        fields.push((format!("{HEADER}{}", header.key), value.to_vec()));
    }
    Delivery {
        id: RecordId {
            topic: Arc::clone(topic),
            partition: message.partition(),
            offset: message.offset(),
        },
        fields,
        // Kafka counts neither.
        times: 1,
        deaths: 0,
    }
}

/// The headers of a dead letter: where it comes from, why, and those that it had.
pub fn headers(dead: &Delivery<RecordId>, why: &str) -> OwnedHeaders {
    let id = dead.id.to_string();
    let mut headers = OwnedHeaders::new();
    for (key, value) in [("dead-id", id.as_str()), ("dead-why", why)] {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    for (name, value) in &dead.fields {
        if let Some(key) = name.strip_prefix(HEADER) {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
    }
    headers
}
