// Its example needs the feature.
#![cfg_attr(feature = "redis", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "redis"),
    doc = "Drains a log into a database. The features `redis` and `kafka` bring a source each."
)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod consumer;
mod delivery;
#[cfg(feature = "kafka")]
#[cfg_attr(docsrs, doc(cfg(feature = "kafka")))]
mod kafka_source;
mod ledger;
mod options;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
mod redis_source;
mod report;
mod source;

pub use load_aware_batcher;
#[cfg(feature = "kafka")]
#[cfg_attr(docsrs, doc(cfg(feature = "kafka")))]
pub use rdkafka;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use redis;

pub use self::consumer::Consumer;
pub use self::delivery::Delivery;
#[cfg(feature = "kafka")]
pub use self::kafka_source::{KafkaSource, RecordId};
pub use self::options::Options;
#[cfg(feature = "redis")]
pub use self::redis_source::{EntryId, RedisSource};
pub use self::report::{ConsumerReport, Snapshot};
pub use self::source::{Source, SourceError};
