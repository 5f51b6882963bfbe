#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod column;
mod connection;
mod doubts;
mod encoded;
mod failure;
mod load;
mod name;
mod on_conflict;
mod plan;
mod sink;
mod statements;
mod table;
mod transaction;
mod trial;
mod writer;

pub use load_aware_batcher;
pub use postgres;

pub use self::on_conflict::OnConflict;
pub use self::sink::Postgres;
pub use self::writer::Writer;
