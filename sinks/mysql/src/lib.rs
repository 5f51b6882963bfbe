#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bulk;
mod chunk;
mod column;
mod connection;
mod doubts;
mod failure;
mod load;
mod name;
mod on_conflict;
mod plan;
mod sink;
mod statement;
mod table;
mod writer;

pub use load_aware_batcher;
pub use mysql;

pub use self::connection::Connection;
pub use self::on_conflict::OnConflict;
pub use self::sink::Mysql;
pub use self::writer::Writer;
