//! The one door to concurrency: everything that a model checker has to see comes through here.
//!
//! Two sets of the same names: `native`, thin over std, crossbeam, arc-swap and atomic_float, and
//! `modelled`, over loom for `cfg(all(test, loom))` or over shuttle for `cfg(all(test, shuttle))`.
//! No other module names those crates or `std::sync::atomic` and `std::thread`.

#[cfg(not(all(test, any(loom, shuttle))))]
mod native;
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use native::*;

#[cfg(all(test, any(loom, shuttle)))]
mod modelled;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use modelled::*;
