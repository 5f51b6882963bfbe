//! What the three ingest examples share, and the tests and the bench use too.
//!
//! To write into one database, copy `rows.rs` (your own row) and that database's writer and sensor;
//! each is a file of its own. They are no features of the crate: it would have to follow every
//! release of three drivers, and force their versions on you.
#![allow(dead_code, reason = "no example uses all of it")]

pub mod dead_letters;
pub mod host_cpu;
pub mod mariadb_load;
pub mod mariadb_writer;
pub mod monitor;
pub mod once;
pub mod options;
pub mod postgres_load;
pub mod postgres_writer;
pub mod rows;
pub mod run;
pub mod sqlite_load;
pub mod sqlite_writer;
