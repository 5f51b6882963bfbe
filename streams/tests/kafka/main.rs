//! Consumers of a topic of librdkafka's mock cluster, which runs in this process: a broker's answers,
//! a group and its rebalances, and no disk. No broker is killed here, nothing is replicated, and what
//! is in the mock is gone with the process.
#![cfg(all(unix, feature = "kafka"))]

mod books;
mod child;
mod groups;
mod setup;
