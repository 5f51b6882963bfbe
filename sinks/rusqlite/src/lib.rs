#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod busy;
mod column;
mod doubts;
mod failure;
mod name;
mod on_conflict;
mod plan;
mod sqlite;
mod table;
mod writer;

pub use load_aware_batcher;
pub use rusqlite;

pub use self::on_conflict::OnConflict;
pub use self::sqlite::Sqlite;
pub use self::writer::Writer;
