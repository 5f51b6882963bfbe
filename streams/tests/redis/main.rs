//! Consumers of real Redis streams, on one server or in a cluster, into a real database, killed at any
//! moment.
#![cfg(all(unix, feature = "redis"))]

mod books;
mod child;
mod cluster;
mod kills;
mod lossy;
mod setup;
