//! The tables of errors in the companion crates' READMEs.

use std::fs;
use std::path::{Path, PathBuf};

/// The names of the tests in the last column of a README's table of errors.
fn named(readme: &str) -> Vec<&str> {
    let table = readme
        .lines()
        .skip_while(|line| !line.starts_with("| errors |"));
    table
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .flat_map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert_eq!(cells.len(), 3, "{row}");
            let tests: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
            assert!(!tests.is_empty(), "no test is named: {row}");
            tests
        })
        .collect()
}

/// The folder with the modules of a companion crate's tests.
fn folder_of_tests(sink: &Path) -> PathBuf {
    let mut folders = fs::read_dir(sink.join("tests")).expect("a folder of tests");
    folders
        .next()
        .expect("one target")
        .expect("readable")
        .path()
}

#[test]
fn every_test_that_a_table_of_errors_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for sink in ["mysql", "postgres", "rusqlite"] {
        let sink = root.join("sinks").join(sink);
        let readme = fs::read_to_string(sink.join("README.md")).expect("a README");
        let names = named(&readme);
        assert!(names.len() > 10, "{}: {names:?}", sink.display());
        for name in names {
            // A name without a function stands for a whole file of the core's tests.
            let (file, head) = match name.split_once("::") {
                Some((module, test)) => (
                    folder_of_tests(&sink).join(module),
                    format!("#[test]\nfn {test}()"),
                ),
                None => (root.join("tests").join(name), "#[test]".to_owned()),
            };
            let text = fs::read_to_string(file.with_extension("rs")).unwrap_or_default();
            let is_there = text.contains(&head);
            assert!(is_there, "{}: {name} is not there", sink.display());
        }
    }
}
