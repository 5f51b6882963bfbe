//! The sink against real SQLite files: every row is stored or reported, once.

#![cfg(unix)]

mod conflicts;
mod faults;
mod kills;
mod refusals;
mod rows;
mod values;
