//! What a consumer group decides about this consumer's partitions.
//!
//! # Protocol
//! librdkafka calls `rebalance` within a poll, on the consumer's own thread. Partitions that are
//! assigned are taken at once. Partitions that are revoked stay assigned until the source calls
//! `give_up`: until then the group waits, so that what is in hand can be stored and committed first.
//! Partitions that are lost belong to another consumer already, so nothing is committed for them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::SourceError;

/// Partitions that the group wants back.
#[derive(Clone, Debug)]
pub struct Revoked {
    pub partitions: Vec<i32>,
    /// They are another consumer's already.
    pub lost: bool,
}

#[derive(Default)]
struct State {
    /// Assigned since the source asked last.
    assigned: Vec<i32>,
    revoked: Option<Revoked>,
    is_paused: bool,
    is_closing: bool,
}

/// The context of the consumer.
#[derive(Default)]
pub struct Group(Mutex<State>);

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions that were assigned since the last call.
    pub fn take_assigned(&self) -> Vec<i32> {
        std::mem::take(&mut self.state().assigned)
    }

    pub fn revoked(&self) -> Option<Revoked> {
        self.state().revoked.clone()
    }

    pub fn is_recalling(&self) -> bool {
        self.state().revoked.is_some()
    }

    pub fn is_recalled(&self, partition: i32) -> bool {
        let state = self.state();
        let revoked = state.revoked.as_ref();
        revoked.is_some_and(|revoked| revoked.partitions.contains(&partition))
    }

    pub fn is_paused(&self) -> bool {
        self.state().is_paused
    }

    /// Whether partitions that are assigned from now on are paused too.
    pub fn pause(&self, pauses: bool) {
        self.state().is_paused = pauses;
    }

    /// From now on what is revoked is given up at once.
    pub fn close(&self) {
        self.state().is_closing = true;
    }

    /// Lets the group give the revoked partitions to others.
    pub fn give_up(
        &self,
        consumer: &BaseConsumer<Self>,
        topic: &str,
        revoked: &Revoked,
    ) -> Result<(), SourceError> {
        let mut partitions = TopicPartitionList::new();
        for partition in &revoked.partitions {
            partitions.add_partition(topic, *partition);
        }
        if !revoked.lost {
            unassign(consumer, &partitions)?;
        }
        self.state().revoked = None;
        Ok(())
    }
}

fn unassign(
    consumer: &BaseConsumer<Group>,
    partitions: &TopicPartitionList,
) -> Result<(), SourceError> {
    let unassigned = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    };
    unassigned.map_err(|error| SourceError::with_source(format!("Kafka: {error}"), error))
}

impl ClientContext for Group {}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers = partitions.elements();
        let numbers = numbers.iter().map(|element| element.partition()).collect();
        // The calls below fail only if the consumer is at its end.
        if matches!(what, RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
            let _ = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
                _ => consumer.assign(partitions),
            };
            if self.is_paused() {
                let _ = consumer.pause(partitions);
            }
            self.state().assigned.extend::<Vec<i32>>(numbers);
            return;
        }
        let lost = consumer.assignment_lost();
        let is_closing = self.state().is_closing;
        if lost || is_closing {
            let _ = unassign(consumer, partitions);
        }
        if !is_closing {
            self.state().revoked = Some(Revoked {
                partitions: numbers,
                lost,
            });
        }
    }
}
