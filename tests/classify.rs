//! The functions of `classify` return what the tables in its docs say, for each code.

use std::collections::HashSet;

use load_aware_batcher::ErrorClass;
use load_aware_batcher::ErrorClass::{
    InDoubt, Misconfigured, Permanent, Transient, Unavailable, Unclassified,
};
use load_aware_batcher::classify::{
    Connection, Point, Stage, Verdict, mysql, mysql_verdict, sqlite, sqlite_verdict, sqlstate,
    sqlstate_verdict,
};

const SOURCE: &str = include_str!("../src/classify.rs");

/// A code of the table, or `None`, with its class before and at the commit, and whether the
/// connection is kept.
type Line = (Option<String>, ErrorClass, ErrorClass, Connection);

/// The table below this heading.
fn table(heading: &str) -> Vec<Line> {
    let below = SOURCE
        .split(&format!("//! # {heading}"))
        .nth(1)
        .expect("the heading");
    let lines = below
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with("//! # "));
    let rows = lines.filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    // After the column titles and the line below them.
    rows.skip(2).flat_map(lines_of).collect()
}

fn lines_of(row: &str) -> Vec<Line> {
    let row = row.replace('`', "");
    let [codes_cell, _, statement, commit, connection] = row.split(" | ").collect::<Vec<_>>()[..]
    else {
        panic!("{row}")
    };
    let connection = match connection {
        "keep" => Connection::Keep,
        "drop" => Connection::Drop,
        _ => panic!("{connection:?} is neither keep nor drop"),
    };
    // `transient, 57014 in doubt`: a code that differs from the others.
    let (commit, differs) = commit.split_once(", ").unwrap_or((commit, ""));
    let at_commit = |code: &Option<String>| match (code, differs.split_once(' ')) {
        (Some(code), Some((other, class))) if code == other => class_of(class),
        _ => class_of(commit),
    };
    let line = |code: Option<String>| {
        (
            code.clone(),
            class_of(statement),
            at_commit(&code),
            connection,
        )
    };
    codes(codes_cell).into_iter().map(line).collect()
}

fn class_of(cell: &str) -> ErrorClass {
    match cell {
        "transient" => Transient,
        "permanent" => Permanent,
        "in doubt" => InDoubt,
        "unclassified" => Unclassified,
        "unavailable" => Unavailable,
        "misconfigured" => Misconfigured,
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
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || c.is_ascii_uppercase() || "x–".contains(c))
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
            // A whole class of SQLSTATEs: two codes that have no line of their own.
            None if word.contains('x') => {
                codes.extend(["00Z", "ZZZ"].map(|end| Some(word.replace("xxx", end))))
            }
            None => codes.push(Some(word.to_owned())),
        }
    }
    codes
}

fn check(heading: &str, least: usize, verdict: impl Fn(Option<&str>, Stage) -> Verdict) {
    let table = table(heading);
    assert!(table.len() >= least, "{}: {table:?}", table.len());
    let mut seen = HashSet::new();
    for (code, statement, commit, connection) in table {
        let at = |stage| verdict(code.as_deref(), stage);
        assert_eq!(at(Stage::Statement).class, statement, "{code:?}");
        assert_eq!(at(Stage::Commit).class, commit, "{code:?} at the commit");
        assert_eq!(at(Stage::Commit).connection, connection, "{code:?}");
        // The rule that the docs of `Stage::Connect` give.
        let before_rows = match statement {
            Transient | InDoubt => Unavailable,
            Permanent => Misconfigured,
            _ if heading == "SQLite"
                && code
                    .as_deref()
                    .is_some_and(|code| code.parse::<i32>() == Ok(1)) =>
            {
                Misconfigured
            }
            other => other,
        };
        assert_eq!(
            at(Stage::Connect).class,
            before_rows,
            "{code:?} before a row was sent"
        );
        assert!(seen.insert(code.clone()), "{code:?} is in two lines");
    }
}

#[test]
fn every_sqlstate_of_the_table_has_its_class_and_says_what_becomes_of_the_connection() {
    check("SQLSTATE", 69, sqlstate_verdict);
}

#[test]
fn every_code_of_mysql_and_mariadb_in_the_table_has_its_class_and_says_what_becomes_of_the_connection()
 {
    check("MySQL", 190, |code, stage| {
        mysql_verdict(code.map(|code| code.parse().unwrap()), stage)
    });
}

#[test]
fn every_code_of_sqlite_in_the_table_has_its_class_and_so_have_its_extended_ones() {
    for extension in [0, 1, 7] {
        check("SQLite", 22, |code, stage| {
            sqlite_verdict(
                code.map(|code| code.parse::<i32>().unwrap() | extension << 8),
                stage,
            )
        });
    }
}

#[test]
fn a_class_asked_for_alone_is_the_verdicts_and_the_old_name_of_the_stage_still_compiles() {
    assert_eq!(sqlstate(Some("23505"), Point::Statement), Permanent);
    assert_eq!(mysql(Some(1213), Point::Commit), Transient);
    assert_eq!(sqlite(Some(2067), Point::Statement), Permanent);
    assert_eq!(sqlstate(Some("x"), Stage::Statement), Unclassified);
    assert_eq!(
        sqlstate(Some("\u{e9}\u{e9}"), Stage::Statement),
        Unclassified
    );
}

#[test]
fn the_error_of_a_verdict_has_its_class_and_is_broken_only_where_the_connection_is_dropped() {
    let lost = sqlstate_verdict(None, Stage::Commit).error("connection reset by peer");
    assert_eq!((lost.class(), lost.is_handler_broken()), (InDoubt, true));
    let refused = sqlstate_verdict(Some("23505"), Stage::Commit).error("duplicate key");
    assert_eq!(
        (refused.class(), refused.is_handler_broken()),
        (Permanent, false)
    );
}

/// Scenario 46.
#[test]
fn a_constraint_or_a_serialization_failure_at_the_commit_is_definite() {
    for code in [
        "23502", "23503", "23505", "23514", "23P01", "40001", "40P01", "40002",
    ] {
        assert_ne!(sqlstate(Some(code), Stage::Commit), InDoubt, "{code}");
    }
    assert_ne!(mysql(Some(1213), Stage::Commit), InDoubt);
    assert_eq!(
        sqlite(Some(787), Stage::Commit),
        Permanent,
        "a deferred foreign key"
    );
}

/// PostgreSQL's class 42 (appendix A), and what stands for a name that does not exist. With bind
/// parameters no row causes one.
#[test]
fn a_typo_in_a_statement_is_misconfigured_in_every_database() {
    for code in [
        "42601", "42846", "42803", "42P20", "42P19", "42830", "42602", "42622", "42939", "42804",
        "42P18", "42P21", "42P22", "42809", "428C9", "42703", "42883", "42P01", "42P02", "42704",
        "42701", "42P04", "42723", "42P06", "42P07", "42712", "42710", "42702", "42725", "42P08",
        "42P09", "42P10", "42611", "42P11", "42P12", "42P13", "42P14", "42P15", "42P16", "42P17",
        "3D000", "3F000", "42S02", "42S22",
    ] {
        assert_eq!(
            sqlstate(Some(code), Stage::Statement),
            Misconfigured,
            "{code}"
        );
    }
    for code in [1046, 1049, 1054, 1064, 1146, 1305] {
        assert_eq!(mysql(Some(code), Stage::Statement), Misconfigured, "{code}");
    }
    // SQLite has one code for this and for what rows cause: only a statement that does not prepare
    // is known to be wrong.
    assert_eq!(sqlite(Some(1), Stage::Connect), Misconfigured);
    assert_eq!(sqlite(Some(1), Stage::Statement), Unclassified);
}

#[test]
fn what_row_level_security_or_a_session_can_cause_is_never_misconfigured() {
    for code in [
        "42501", "42000", "42P03", "42P05", "0A000", "26000", "55000",
    ] {
        assert_ne!(
            sqlstate(Some(code), Stage::Statement),
            Misconfigured,
            "{code}"
        );
    }
}

/// Scenario 40: 54000 and P0001 come from rows.
#[test]
fn what_rows_cause_is_permanent() {
    for code in [
        "54000", "54001", "P0001", "P0004", "P0003", "20000", "38000", "39004", "22P02", "23514",
        "44000",
    ] {
        assert_eq!(sqlstate(Some(code), Stage::Statement), Permanent, "{code}");
    }
    for code in [1300, 1365, 1526, 1644, 1713, 1369, 4025] {
        assert_eq!(mysql(Some(code), Stage::Statement), Permanent, "{code}");
    }
}

/// Scenario 43.
#[test]
fn a_server_that_turned_read_only_or_is_full_is_unavailable_and_loses_the_connection() {
    for code in ["25006", "57P03", "53300", "08001", "08004"] {
        let verdict = sqlstate_verdict(Some(code), Stage::Statement);
        assert_eq!(
            (verdict.class, verdict.connection),
            (Unavailable, Connection::Drop),
            "{code}"
        );
    }
    for code in [1290, 1792, 1836, 1040, 1203, 2002, 2003] {
        let verdict = mysql_verdict(Some(code), Stage::Statement);
        assert_eq!(
            (verdict.class, verdict.connection),
            (Unavailable, Connection::Drop),
            "{code}"
        );
    }
    // Lost in mid-statement: a row may have crashed the server.
    assert_eq!(sqlstate(None, Stage::Statement), Transient);
    assert_eq!(sqlstate(None, Stage::Connect), Unavailable);
}

/// Scenario 44.
#[test]
fn a_prepared_statement_that_is_gone_loses_the_connection_that_knew_it() {
    assert_eq!(
        sqlstate_verdict(Some("0A000"), Stage::Statement).connection,
        Connection::Drop
    );
    for verdict in [
        sqlstate_verdict(Some("26000"), Stage::Statement),
        mysql_verdict(Some(1243), Stage::Statement),
    ] {
        assert_eq!(
            (verdict.class, verdict.connection),
            (Transient, Connection::Drop)
        );
    }
}

/// Every error of PostgreSQL's appendix A, version 15, and 25P04 of version 17.
const APPENDIX_A: &str = "03000 08000 08003 08006 08001 08004 08007 08P01 09000 0A000 0B000 0F000 0F001 0L000 0LP01 0P000 0Z000 0Z002 \
    20000 21000 22000 2202E 22021 22008 22012 22005 2200B 22022 22015 2201E 22014 22016 2201F 2201G 22018 22007 \
    22019 2200D 22025 22P06 22010 22023 22013 2201B 2201W 2201X 2202H 2202G 22009 2200C 2200G 22004 22002 22003 \
    2200H 22026 22001 22011 22027 22024 2200F 22P01 22P02 22P03 22P04 22P05 2200L 2200M 2200N 2200S 2200T 22030 \
    22031 22032 22033 22034 22035 22036 22037 22038 22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G 23000 23001 \
    23502 23503 23505 23514 23P01 24000 25000 25001 25002 25008 25003 25004 25005 25006 25007 25P01 25P02 25P03 \
    26000 27000 28000 28P01 2B000 2BP01 2D000 2F000 2F005 2F002 2F003 2F004 34000 38000 38001 38002 38003 38004 \
    39000 39001 39004 39P01 39P02 39P03 3B000 3B001 3D000 3F000 40000 40002 40001 40003 40P01 42000 42601 42501 \
    42846 42803 42P20 42P19 42830 42602 42622 42939 42804 42P18 42P21 42P22 42809 428C9 42703 42883 42P01 42P02 \
    42704 42701 42P03 42P04 42723 42P05 42P06 42P07 42712 42710 42702 42725 42P08 42P09 42P10 42611 42P11 42P12 \
    42P13 42P14 42P15 42P16 42P17 44000 53000 53100 53200 53300 53400 54000 54001 54011 54023 55000 55006 55P02 \
    55P03 55P04 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 58P02 72000 F0000 F0001 HV000 HV005 \
    HV002 HV010 HV021 HV024 HV007 HV008 HV004 HV006 HV091 HV00B HV00C HV00D HV090 HV00A HV009 HV014 HV001 HV00P \
    HV00J HV00K HV00Q HV00R HV00L HV00M HV00N P0000 P0001 P0002 P0003 P0004 XX000 XX001 XX002 25P04";

#[test]
fn every_error_of_postgresqls_list_has_a_class_but_those_that_rows_and_statements_can_both_cause() {
    let unclassified: Vec<&str> = APPENDIX_A
        .split(' ')
        .filter(|code| sqlstate(Some(code), Stage::Statement) == Unclassified)
        .collect();
    // States of cursors, savepoints and transactions, roles, foreign servers, the server's own
    // faults: what a trigger or a routing by partition may meet for one row, and a statement for
    // all.
    let expected = "03000 0A000 0B000 0F000 0F001 0L000 0LP01 0P000 0Z000 0Z002 24000 25000 25001 25002 25008 25003 \
        25004 25005 25007 25P01 2B000 2BP01 2D000 34000 3B000 3B001 42000 42501 55000 55P02 55P04 57000 \
        F0000 F0001 HV000 HV005 HV002 HV010 HV021 HV024 HV007 HV008 HV004 HV006 HV091 HV00B HV00C HV00D \
        HV090 HV00A HV009 HV014 HV00P HV00J HV00K HV00Q HV00R HV00L HV00M XX000 XX001 XX002";
    assert_eq!(unclassified.join(" "), expected);
}
