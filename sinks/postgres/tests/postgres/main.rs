//! The sink against a real PostgreSQL: every row is stored or reported, once.

#![cfg(unix)]

mod conflicts;
mod faults;
mod lanes;
mod outages;
mod refusals;
mod rows;
mod sessions;
mod settings;
mod tls;
mod values;
mod ways;
