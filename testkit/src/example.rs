//! The binary of an example, up to date: `cargo test` has built it, `cargo test --test NAME` has
//! not.

use std::path::PathBuf;
use std::process::Command;

pub fn command(name: &str) -> Command {
    Command::new(binary(name))
}

pub fn binary(name: &str) -> PathBuf {
    binary_of("load-aware-batcher", name)
}

/// The same for another package of the workspace.
pub fn binary_of(package: &str, name: &str) -> PathBuf {
    // This is `target/<profile>/deps/<test>-<hash>`.
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        profile => profile,
    };
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--quiet",
            "--package",
            package,
            "--example",
            name,
            "--profile",
            profile,
            "--target-dir",
        ]);
        build
            .arg(folder.parent().unwrap())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        assert!(build.status().unwrap().success(), "the example builds");
    }
    folder.join("examples").join(name)
}
