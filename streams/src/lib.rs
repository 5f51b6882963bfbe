// Its example needs the feature.
#![cfg_attr(feature = "redis", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "redis"),
    doc = "Drains a log with acknowledgements into a database. The feature `redis` brings a source."
)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod consumer;
mod delivery;
mod ledger;
mod options;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
mod redis_source;
mod report;
mod source;

pub use load_aware_batcher;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use redis;

pub use self::consumer::Consumer;
pub use self::delivery::Delivery;
pub use self::options::Options;
#[cfg(feature = "redis")]
pub use self::redis_source::{EntryId, RedisSource};
pub use self::report::{ConsumerReport, Snapshot};
pub use self::source::{Source, SourceError};
