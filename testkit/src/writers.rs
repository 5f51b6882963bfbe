//! Handlers written by hand, one a database, for one table with the columns `id`, `value`, `text`.
//!
//! The companion crates in `sinks/` are what users get. These writers stand for a handler of one's
//! own: benches/storm measures policies with them, and the tests hold the recipe of the
//! documentation with them. The recipe: a new connection after a broken one, each error classified
//! by code and stage.

mod dedup;
pub mod mariadb;
pub mod mariadb_load;
pub mod postgres;
pub mod postgres_load;
mod row;
mod signals;
pub mod sqlite;
pub mod sqlite_load;

pub use dedup::Dedup;
pub use row::Row;
pub use signals::{DEADLOCKS, SIGNALS, TIMEOUTS, share};
