//! The topic of dead letters.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::record::{RecordId, headers};
use super::topic::check;
use crate::{Delivery, SourceError};

/// How long one call waits for the broker's answer. The next call goes on waiting for the same one.
const ANSWER: Duration = Duration::from_secs(5);

/// The broker's answer to one record.
#[derive(Default)]
struct Answer(Mutex<Option<Result<(), String>>>);

impl Answer {
    fn taken(&self) -> Option<Result<(), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Answers;

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = Arc<Answer>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Arc<Answer>) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.to_string()),
        };
        *answer.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }
}

pub struct Letters {
    producer: BaseProducer<Answers>,
    topic: String,
    /// The record that was sent last and has no answer yet.
    sent: Option<(RecordId, Arc<Answer>)>,
}

impl Letters {
    /// The topic exists, or the brokers create it.
    pub fn open(config: &ClientConfig, topic: &str) -> Result<Self, SourceError> {
        let producer = config.create_with_context(Answers).map_err(|error| {
            SourceError::with_source(format!("the Kafka settings are wrong: {error}"), error)
        });
        let producer: BaseProducer<Answers> = producer?;
        check(topic, |timeout| {
            producer.client().fetch_metadata(Some(topic), timeout)
        })?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            sent: None,
        })
    }

    /// Returns when the brokers have the letter.
    pub fn send(&mut self, dead: &Delivery<RecordId>, why: &str) -> Result<(), SourceError> {
        let sent = self.sent.take().filter(|(id, _)| *id == dead.id);
        let answer = match sent {
            Some((_, answer)) => answer,
            None => self.produce(dead, why)?,
        };
        let begun = Instant::now();
        loop {
            match answer.taken() {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => {
                    let topic = &self.topic;
                    let message = format!("the topic {topic} took no dead letter: {error}");
                    return Err(SourceError::new(message));
                }
                None if begun.elapsed() > ANSWER => {
                    self.sent = Some((dead.id.clone(), answer));
                    return Err(SourceError::new(
                        "Kafka has not answered to a dead letter yet",
                    ));
                }
                None => {
                    self.producer.poll(Duration::from_millis(10));
                }
            }
        }
    }

    fn produce(&self, dead: &Delivery<RecordId>, why: &str) -> Result<Arc<Answer>, SourceError> {
        let answer = Arc::<Answer>::default();
        let mut record = BaseRecord::with_opaque_to(&self.topic, Arc::clone(&answer));
        record = record.headers(headers(dead, why));
        if let Some(key) = dead.field("key") {
            record = record.key(key);
        }
        if let Some(value) = dead.field("value") {
            record = record.payload(value);
        }
        self.producer.send(record).map_err(|(error, _)| {
            SourceError::with_source(format!("Kafka takes no dead letter: {error}"), error)
        })?;
        Ok(answer)
    }
}
