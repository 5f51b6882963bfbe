//! Whether a topic can be had.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;

use crate::SourceError;

/// How long the brokers may take to answer, and to create a topic.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks until the topic has partitions; a broker that creates topics does so when it is asked.
pub fn check(
    topic: &str,
    fetch: impl Fn(Duration) -> KafkaResult<Metadata>,
) -> Result<(), SourceError> {
    let begun = Instant::now();
    loop {
        let metadata = fetch(PATIENCE).map_err(|error| {
            SourceError::with_source(format!("Kafka does not answer: {error}"), error)
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if found.is_some_and(|found| found.error().is_none() && !found.partitions().is_empty()) {
            return Ok(());
        }
        // Two seconds: a topic that is being created is unknown for some tenths.
        if begun.elapsed() > PATIENCE / 5 {
            return Err(SourceError::new(format!("there is no topic {topic}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
