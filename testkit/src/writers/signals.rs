//! The custom signals that the sensors of the writers report.

/// Deadlocks since the last sample, ten or more as 1.
pub const DEADLOCKS: &str = "deadlocks";
/// Statements that ran into a timeout since the last sample, ten or more as 1.
pub const TIMEOUTS: &str = "timeouts";
/// Both with their weights, for the builder.
pub const SIGNALS: [(&str, f64); 2] = [(DEADLOCKS, 0.1), (TIMEOUTS, 0.2)];

/// A number of events since the last sample, as a share.
pub fn share(events: u64) -> f64 {
    (events as f64 / 10.0).min(1.0)
}
