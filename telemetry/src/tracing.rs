//! For `tracing`: a span around each call, and events where something changes. Feature `tracing`.
//!
//! All are of the target `load_aware_batcher`. Nothing is traced once an item.

mod logged;
mod traced;

pub use logged::Logged;
pub use traced::Traced;

use load_aware_batcher::{ErrorClass, Trigger};

const TARGET: &str = "load_aware_batcher";

/// The names of classes in the metric `batcher_calls_total`.
fn error_type(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Transient => "transient",
        ErrorClass::Permanent => "permanent",
        ErrorClass::InDoubt => "in_doubt",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Misconfigured => "misconfigured",
        _ => "unclassified",
    }
}

/// The names of triggers in the metric `batcher_batches_total`.
fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Size => "size",
        Trigger::Linger => "linger",
        Trigger::Wait => "wait",
        Trigger::Flush => "flush",
        Trigger::Close => "close",
        Trigger::Retry => "retry",
        _ => "other",
    }
}
