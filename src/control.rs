//! The control plane: take the samples, ask the policy, publish the setpoint.

pub(crate) mod controller;
pub(crate) mod limits;
