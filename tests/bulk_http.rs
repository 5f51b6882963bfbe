//! The example that sends documents to a bulk endpoint: its binary runs, and the test reads what
//! the endpoint has stored.
#![cfg(all(unix, not(any(loom, shuttle))))]

use std::fs;

/// Scenario 52.
#[test]
fn each_document_is_stored_once_however_the_endpoint_refuses_and_a_bad_one_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stored.txt");
    let output = testkit::example::command("bulk_http")
        .arg(&path)
        .arg("20000")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let stored = fs::read_to_string(&path).unwrap();
    let mut stored: Vec<u64> = stored.lines().map(|id| id.parse().unwrap()).collect();
    stored.sort_unstable();
    let good: Vec<u64> = (1..=20_000).filter(|id| id % 1_000 != 0).collect();
    assert_eq!(stored, good);
    assert!(
        stdout.starts_with("19980 stored, 20 refused, 0 unsent\n1000 documents and "),
        "{stdout}"
    );
    assert!(!stdout.contains(" and 0 requests"), "{stdout}");
}
