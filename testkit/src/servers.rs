//! Real servers for tests and benches: each in a temporary folder, on a socket of its own, as
//! another user than root, stopped by its own pid.
//!
//! Where a server is not installed its tests say so on standard error and pass; with
//! `REQUIRE_SERVERS=1` they fail. What the machine does not permit, such as to mount, is skipped
//! all the same: no package brings that.

pub mod mariadb;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;

use std::io::Write;

/// What to do where a server cannot be had.
pub fn skip<T>(why: &str) -> Option<T> {
    assert!(
        std::env::var_os("REQUIRE_SERVERS").is_none_or(|value| value != "1"),
        "REQUIRE_SERVERS=1, but {why}"
    );
    not_permitted(why)
}

/// What to do where the machine does not let a test have what it needs.
pub fn not_permitted<T>(why: &str) -> Option<T> {
    // Not by eprintln: the test runner would keep it to itself.
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    None
}
