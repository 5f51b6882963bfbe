//! Where the two planes meet: the flusher reports samples and reads the setpoint, the controller
//! takes the samples and publishes the setpoint. Neither names the other.

pub(crate) mod call_permits;
pub(crate) mod published;
pub(crate) mod reporter;
pub(crate) mod ring;
