//! The sink against a real PostgreSQL: every row is stored or reported, once.

#![cfg(unix)]

mod conflicts;
mod rows;
mod values;
