//! A consumer group of a Kafka topic.

mod group;
mod letters;
mod record;
mod topic;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use self::group::Group;
use self::letters::Letters;
pub use self::record::RecordId;
use crate::ledger::Prefixes;
use crate::{Delivery, Source, SourceError};

/// Records a poll.
const POLL: usize = 500;
/// Without room for so long, the partitions are paused. Shorter lacks of room are the rule where the
/// database is the slower one, and a pause drops what librdkafka has read ahead.
const FULL: Duration = Duration::from_millis(200);
/// How long the members of a group may take to hear of a change. Until then a broker may refuse the
/// commit of a partition that is given back, and take it when it is repeated.
const CHANGE: Duration = Duration::from_secs(3);
/// How long an end, or a partition that is given back, waits for the brokers to take a commit.
const COMMIT: Duration = Duration::from_secs(10);

/// A member of a consumer group of a Kafka topic.
///
/// A record is an entry with the fields `key` and `value`, where it has them, and `header.NAME` for
/// each header. Its id is [`RecordId`]. The offset that is committed for a partition is the first one
/// that is not handled: everything below it is stored or buried. A consumer that is killed has
/// committed less than it stored, so records are delivered twice, and the row needs a key.
///
/// Dead letters go to the topic `TOPIC.GROUP.dead`, with key, value and headers of the record and the
/// headers `dead-id` and `dead-why`. A process that is killed between the letter and the commit
/// writes the letter again after its restart; `dead-id` is the same.
///
/// Kafka does not count deliveries. A record that ends its process is delivered again without end:
/// [`Options::delivery_limit`](crate::Options::delivery_limit) has no effect.
pub struct KafkaSource {
    config: ClientConfig,
    topic: Arc<str>,
    dead: String,
    commit_every: Duration,
    consumer: Option<BaseConsumer<Group>>,
    letters: Option<Letters>,
    prefixes: Prefixes<i32>,
    /// Read while nothing was to be read: of partitions that were about to be paused.
    ahead: VecDeque<Delivery<RecordId>>,
    full_since: Option<Instant>,
    committed_at: Instant,
    recalled_at: Option<Instant>,
}

/// What became of a commit.
#[derive(PartialEq)]
enum Commit {
    Done,
    /// The group is changing. The same commit may be taken in a moment.
    Later,
    /// This member has to join again, or is put out.
    Refused,
}

impl KafkaSource {
    /// `brokers` as `host:port,host:port`.
    ///
    /// ```
    /// # use load_aware_batcher_streams::KafkaSource;
    /// let source = KafkaSource::new("127.0.0.1:9092", "readings", "workers")
    ///     .set("security.protocol", "plaintext");
    /// # let _ = source;
    /// ```
    pub fn new(
        brokers: impl Into<String>,
        topic: impl Into<String>,
        group: impl Into<String>,
    ) -> Self {
        let (topic, group) = (topic.into(), group.into());
        let dead = format!("{topic}.{group}.dead");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        config.set("group.id", group);
        // A new member takes partitions from others without stopping them all.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        // A new group begins with the oldest record.
        config.set("auto.offset.reset", "earliest");
        Self {
            config,
            topic: topic.into(),
            dead,
            commit_every: Duration::from_secs(1),
            consumer: None,
            letters: None,
            prefixes: Prefixes::new(),
            ahead: VecDeque::new(),
            full_since: None,
            committed_at: Instant::now(),
            recalled_at: None,
        }
    }

    /// A setting of librdkafka, for the consumer and for the producer of dead letters. Without effect
    /// on `enable.auto.commit`, `enable.auto.offset.store`, `enable.idempotence` and `acks`, which
    /// the source needs as they are.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.set(name, value);
        self
    }

    /// Where dead letters go. Default: the topic `TOPIC.GROUP.dead`. It has to exist, unless the
    /// brokers create topics.
    pub fn dead_letters(mut self, topic: impl Into<String>) -> Self {
        self.dead = topic.into();
        self
    }

    /// How long after it is handled a record is committed at the latest. Default 1 s. What a killed
    /// process has stored within this time is delivered again.
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.commit_every = interval;
        self
    }

    fn consumer(&self) -> Result<&BaseConsumer<Group>, SourceError> {
        let consumer = self.consumer.as_ref();
        consumer.ok_or_else(|| SourceError::new("the source is not open"))
    }

    /// One record, if there is one within `wait`.
    fn next(&mut self, wait: Duration) -> Result<Option<Delivery<RecordId>>, SourceError> {
        let consumer = self.consumer()?;
        let polled = consumer.poll(wait);
        let found = match polled {
            Some(Ok(message)) => Some(record::delivery(&self.topic, &message)),
            Some(Err(error)) => return Err(explain(error)),
            None => None,
        };
        // Within the call the group may have decided something.
        let assigned = consumer.context().take_assigned();
        for partition in assigned {
            self.prefixes.forget(&partition);
        }
        Ok(found.filter(|found| !self.is_recalled(&found.id)))
    }

    fn resume(&mut self) -> Result<(), SourceError> {
        self.full_since = None;
        let consumer = self.consumer()?;
        if consumer.context().is_paused() {
            consumer.context().pause(false);
            let resumed = consumer.assignment().and_then(|all| consumer.resume(&all));
            resumed.map_err(explain)?;
        }
        Ok(())
    }

    fn pause(&self) -> Result<(), SourceError> {
        let consumer = self.consumer()?;
        if !consumer.context().is_paused() {
            consumer.context().pause(true);
            let paused = consumer.assignment().and_then(|all| consumer.pause(&all));
            paused.map_err(explain)?;
        }
        Ok(())
    }

    fn commit_if_due(&mut self) -> Result<(), SourceError> {
        if self.committed_at.elapsed() < self.commit_every {
            return Ok(());
        }
        self.committed_at = Instant::now();
        self.commit().map(drop)
    }

    fn commit(&mut self) -> Result<Commit, SourceError> {
        let points = self.prefixes.due();
        if points.is_empty() {
            return Ok(Commit::Done);
        }
        let mut list = TopicPartitionList::new();
        for (partition, point) in &points {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*point));
            added.map_err(explain)?;
        }
        match self.consumer()?.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                self.prefixes.committed(&points);
                Ok(Commit::Done)
            }
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress)) => {
                Ok(Commit::Later)
            }
            Err(KafkaError::ConsumerCommit(
                RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::UnknownMemberId,
            )) => Ok(Commit::Refused),
            Err(error) => Err(explain(error)),
        }
    }

    /// Waits, within the time for it, until the brokers have taken the last commit.
    fn commit_at_the_end(&mut self) -> Result<(), SourceError> {
        let begun = Instant::now();
        loop {
            let problem = match self.commit() {
                Ok(Commit::Done) => return Ok(()),
                Ok(_) => SourceError::new("Kafka took no last commit: the group is changing"),
                Err(error) => error,
            };
            if begun.elapsed() >= COMMIT {
                return Err(problem);
            }
            // The group changes within the poll. An error that lasts is one of the commit too.
            let _ = self.next(Duration::from_millis(100));
            if self.is_recalling() {
                let _ = self.give_back();
            }
        }
    }
}

fn explain(error: KafkaError) -> SourceError {
    SourceError::with_source(format!("Kafka: {error}"), error)
}

impl Source for KafkaSource {
    type Id = RecordId;

    fn open(&mut self) -> Result<(), SourceError> {
        let mut config = self.config.clone();
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        let consumer = config.create_with_context(Group::default());
        let consumer: BaseConsumer<Group> = consumer.map_err(|error| {
            SourceError::with_source(format!("the Kafka settings are wrong: {error}"), error)
        })?;
        topic::check(&self.topic, |timeout| {
            consumer.fetch_metadata(Some(&self.topic), timeout)
        })?;
        let mut config = ClientConfig::new();
        for (name, value) in self.config.config_map() {
            if name != "group.id" && name != "auto.offset.reset" {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        self.letters = Some(Letters::open(&config, &self.dead)?);
        consumer.subscribe(&[&self.topic]).map_err(explain)?;
        self.consumer = Some(consumer);
        Ok(())
    }

    fn poll(
        &mut self,
        room: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<RecordId>>, SourceError> {
        self.resume()?;
        self.commit_if_due()?;
        let room = room.min(POLL);
        let mut found: Vec<_> = self.ahead.drain(..room.min(self.ahead.len())).collect();
        while found.len() < room && !self.is_recalling() {
            let wait = if found.is_empty() {
                wait
            } else {
                Duration::ZERO
            };
            match self.next(wait) {
                Ok(Some(delivery)) => found.push(delivery),
                Ok(None) => break,
                Err(error) if found.is_empty() => return Err(error),
                // What was found is not to be lost; an error that lasts comes again.
                Err(_) => break,
            }
        }
        for delivery in &found {
            let RecordId {
                partition, offset, ..
            } = delivery.id;
            self.prefixes.delivered(&partition, offset);
        }
        Ok(found)
    }

    fn ack(&mut self, stored: &[RecordId]) -> Result<(), SourceError> {
        for id in stored {
            self.prefixes.handled(&id.partition, id.offset);
        }
        self.commit_if_due()
    }

    fn bury(&mut self, dead: &Delivery<RecordId>, why: &str) -> Result<(), SourceError> {
        let Some(letters) = &mut self.letters else {
            return Err(SourceError::new("the source is not open"));
        };
        letters.send(dead, why)?;
        self.prefixes.handled(&dead.id.partition, dead.id.offset);
        Ok(())
    }

    /// A member of the group needs no more than that librdkafka's own threads run.
    fn keep(&mut self, _: &[RecordId]) -> Result<(), SourceError> {
        Ok(())
    }

    fn alone(&mut self, _: &Delivery<RecordId>) -> Result<(), SourceError> {
        Ok(())
    }

    fn survived(&mut self, _: &RecordId) -> Result<(), SourceError> {
        Ok(())
    }

    /// The group expects a poll, with room or without.
    fn serve(&mut self) -> Result<(), SourceError> {
        self.commit_if_due()?;
        if self.full_since.get_or_insert_with(Instant::now).elapsed() < FULL {
            return Ok(());
        }
        self.pause()?;
        if !self.is_recalling() {
            let found = self.next(Duration::ZERO)?;
            self.ahead.extend(found);
        }
        Ok(())
    }

    fn is_recalling(&self) -> bool {
        let consumer = self.consumer.as_ref();
        consumer.is_some_and(|consumer| consumer.context().is_recalling())
    }

    fn is_recalled(&self, id: &RecordId) -> bool {
        let consumer = self.consumer.as_ref();
        consumer.is_some_and(|consumer| consumer.context().is_recalled(id.partition))
    }

    fn give_back(&mut self) -> Result<(), SourceError> {
        let Some(revoked) = self.consumer()?.context().revoked() else {
            return Ok(());
        };
        let since = *self.recalled_at.get_or_insert_with(Instant::now);
        // Without a commit the next owner stores again what is stored. That is better than a group
        // that waits for this member for ever.
        let waited = since.elapsed();
        if !revoked.lost && waited < COMMIT && self.commit()? == Commit::Later && waited < CHANGE {
            let message = "Kafka took no commit: the group is changing";
            return Err(SourceError::new(message));
        }
        let consumer = self.consumer()?;
        consumer
            .context()
            .give_up(consumer, &self.topic, &revoked)?;
        let is_gone = |partition: &i32| revoked.partitions.contains(partition);
        self.ahead.retain(|ahead| !is_gone(&ahead.id.partition));
        for partition in &revoked.partitions {
            self.prefixes.forget(partition);
        }
        self.recalled_at = None;
        Ok(())
    }

    fn close(&mut self) -> Result<(), SourceError> {
        let committed = match self.consumer {
            Some(_) => self.commit_at_the_end(),
            None => Ok(()),
        };
        self.leave();
        committed
    }
}

impl KafkaSource {
    /// Leaves the group.
    fn leave(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.context().close();
            if let Some(revoked) = consumer.context().revoked() {
                let context = Arc::clone(consumer.context());
                let _ = context.give_up(&consumer, &self.topic, &revoked);
            }
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.leave();
    }
}
