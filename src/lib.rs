//! placeholder
#![forbid(unsafe_code)]
mod doorbell;
mod error;
mod feedback;
mod policy;
mod setpoint;
mod sync;
pub use error::*;
pub use feedback::*;
pub use policy::*;
pub use setpoint::{Probe, Setpoint};
