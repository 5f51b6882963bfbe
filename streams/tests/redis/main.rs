//! Consumers of a real Redis stream into a real PostgreSQL, killed at any moment.
#![cfg(all(unix, feature = "redis"))]

mod books;
mod child;
mod kills;
mod setup;
