//! The loaders' programs.

use std::process::{Command, ExitStatus, Stdio};

use crate::database::Failure;

/// Whether the program starts at all.
pub fn installed(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Whether the program that wrote the rows has ended well.
pub fn ended(program: &str, status: ExitStatus) -> Result<bool, Failure> {
    if status.success() {
        Ok(true)
    } else {
        Err(format!("{program}: {status}").into())
    }
}
