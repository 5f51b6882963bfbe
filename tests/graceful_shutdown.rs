//! The end of a process whose batcher is in a static. The test runs the example's binary.
#![cfg(all(unix, not(any(loom, shuttle))))]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn example() -> Command {
    testkit::example::command("graceful_shutdown")
}

/// Scenario 56.
#[test]
fn a_static_batcher_that_is_shut_down_at_the_end_of_main_has_handled_all() {
    let output = example().args(["--rows", "1017"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    assert!(
        stdout.ends_with("end of main: 1017 rows stored, 0 failed, 0 unsent\n"),
        "{stdout}"
    );
}

#[test]
fn a_static_batcher_that_is_shut_down_by_a_signal_has_handled_all() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = example()
            .args(["--rows", "17", "--serve"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "17 rows accepted\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "signal: 17 rows stored, 0 failed, 0 unsent\n");
        assert!(child.wait().unwrap().success());
    }
}
