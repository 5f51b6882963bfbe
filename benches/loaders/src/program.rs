//! The loaders' programs.

use std::process::{Command, Stdio};

/// Whether the program starts at all.
pub fn installed(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}
