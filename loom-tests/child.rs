//! Mutants run in a process of their own: a deadlock that a checker finds ends in a panic amid the
//! model's own drops, which aborts the process.

use std::process::Command;

use crate::sync::make_mistake;

/// Runs a model with a mistake in the protocol, in a child; it must fail there.
pub(crate) fn must_fail(mistake: &'static str, model: impl FnOnce()) {
    const CHILD: &str = "MODEL_WITH_A_MISTAKE";
    if std::env::var_os(CHILD).is_some() {
        make_mistake(Some(mistake));
        model();
        return;
    }
    let test = std::thread::current()
        .name()
        .expect("libtest names a test's thread after it")
        .to_owned();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&child.stdout).contains("running 1 test"),
        "the child did not run {test}"
    );
    assert!(
        !child.status.success(),
        "the model does not notice: {mistake}"
    );
}
