//! The exposition of a batcher at work: well formed, conserving, with an answer to each question that
//! docs/observability.md names, and with every metric seen in the state that it is for.

mod names;
mod questions;
mod scrape;
mod states;
