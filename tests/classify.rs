//! The tables in the docs of `classify` are what its functions say, code by code.

use load_aware_batcher::ErrorClass;
use load_aware_batcher::classify::{Point, mysql, sqlite, sqlstate};

const SOURCE: &str = include_str!("../src/classify.rs");

/// A code of the table, or none, with its class before and at the commit.
type Line = (Option<String>, ErrorClass, ErrorClass);

/// The table below this heading.
fn table(heading: &str) -> Vec<Line> {
    let below = SOURCE.split(&format!("//! # {heading}")).nth(1).expect("the heading");
    let lines = below.lines().skip(1).take_while(|line| !line.starts_with("//! # "));
    let rows = lines.filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    // Behind the column titles and the line below them.
    rows.skip(2).flat_map(lines_of).collect()
}

fn lines_of(row: &str) -> Vec<Line> {
    let row = row.replace('`', "");
    let [codes_cell, _, statement, commit] = row.split(" | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
    // `transient, 57014 in doubt`: a code that differs from the others.
    let (commit, differs) = commit.split_once(", ").unwrap_or((commit, ""));
    let at_commit = |code: &Option<String>| match (code, differs.split_once(' ')) {
        (Some(code), Some((other, class))) if code == other => class_of(class),
        _ => class_of(commit),
    };
    codes(codes_cell).into_iter().map(|code| (code.clone(), class_of(statement), at_commit(&code))).collect()
}

fn class_of(cell: &str) -> ErrorClass {
    match cell {
        "transient" => ErrorClass::Transient,
        "permanent" => ErrorClass::Permanent,
        "in doubt" => ErrorClass::InDoubt,
        "unclassified" => ErrorClass::Unclassified,
        _ => panic!("{cell:?} is no class"),
    }
}

fn codes(cell: &str) -> Vec<Option<String>> {
    let mut codes = Vec::new();
    if cell.contains("no code") {
        codes.push(None);
    }
    let is_code = |word: &&str| {
        word.contains(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase() || "x–".contains(c))
    };
    for word in cell.split([' ', ',', ':']).filter(is_code) {
        match word.split_once('–') {
            // They differ in their last two digits.
            Some((first, last)) => {
                let (stem, from) = first.split_at(first.len() - 2);
                let to = &last[last.len() - 2..];
                let numbers = from.parse::<u8>().unwrap()..=to.parse().unwrap();
                codes.extend(numbers.map(|number| Some(format!("{stem}{number:02}"))));
            }
            // A whole class of SQLSTATEs: its first, and one that nobody has.
            None if word.contains('x') => codes.extend(["000", "ZZZ"].map(|end| Some(word.replace("xxx", end)))),
            None => codes.push(Some(word.to_owned())),
        }
    }
    codes
}

fn check(heading: &str, least: usize, class: impl Fn(Option<&str>, Point) -> ErrorClass) {
    let table = table(heading);
    assert!(table.len() >= least, "{table:?}");
    for (code, statement, commit) in table {
        assert_eq!(class(code.as_deref(), Point::Statement), statement, "{code:?}");
        assert_eq!(class(code.as_deref(), Point::Commit), commit, "{code:?} at the commit");
    }
}

#[test]
fn every_sqlstate_of_the_table_has_its_class() {
    check("SQLSTATE", 30, sqlstate);
}

#[test]
fn every_code_of_mysql_and_mariadb_in_the_table_has_its_class() {
    check("MySQL", 69, |code, point| mysql(code.map(|code| code.parse().unwrap()), point));
}

#[test]
fn every_code_of_sqlite_in_the_table_has_its_class_and_so_have_its_extended_ones() {
    for extension in [0, 1, 7] {
        check("SQLite", 17, |code, point| {
            sqlite(code.map(|code| code.parse::<i32>().unwrap() | extension << 8), point)
        });
    }
}
