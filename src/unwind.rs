//! What is left of the user's code that panicked: its message, and the values whose drop may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops values one by one, in order, and returns how many panicked: two that panic in one drop of
/// the whole vector would abort the process.
pub(crate) fn drop_each<D>(values: &mut Vec<D>) -> u64 {
    let mut panics = 0;
    let mut rest = values.drain(..);
    while rest.len() > 0 {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| rest.by_ref().for_each(drop))) {
            drop(message(panic));
            panics += 1;
        }
    }
    panics
}

/// A panic's message. The payload may panic when dropped: then what it throws is leaked.
pub(crate) fn message(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    text
}
