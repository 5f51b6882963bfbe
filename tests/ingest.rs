//! The ingest examples as users run them: from the lines of a file to the rows in the table, the
//! dead letters and the exit code.
#![cfg(all(unix, not(loom)))]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use rusqlite::Connection;
use tempfile::TempDir;
use testkit::servers::mariadb::Mariadb;
use testkit::servers::postgres::Postgres;

/// A program in its own folder, with its input, its dead letters and, for SQLite, its database.
struct Ingest {
    folder: TempDir,
    example: PathBuf,
    url: String,
}

impl Ingest {
    fn sqlite() -> Self {
        static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
        Self::of(&EXAMPLE, "sqlite_ingest", "db".to_owned())
    }

    fn of(example: &OnceLock<PathBuf>, name: &str, url: String) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            example: example
                .get_or_init(|| testkit::example::binary(name))
                .clone(),
            url,
        }
    }

    fn run(&self, input: &[u8], options: &str) -> Output {
        fs::write(self.folder.path().join("in"), input).unwrap();
        Command::new(&self.example)
            .args(["--url", &self.url, "--dead-letters", "dead", "in"])
            .args(options.split_whitespace())
            .current_dir(&self.folder)
            .output()
            .unwrap()
    }

    /// Runs it and asserts its exit code. Returns its output.
    #[track_caller]
    fn ends(&self, input: &[u8], options: &str, code: i32) -> String {
        let output = self.run(input, options);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options}: {said}");
        said
    }

    /// Asserts that it refuses with exit code 2 and one line that begins with `problem`.
    #[track_caller]
    fn refuses(&self, options: &str, problem: &str) {
        let name = self.example.file_name().unwrap().to_str().unwrap();
        // The databases quote names differently.
        let said = self.ends(b"", options, 2).replace('`', "\"");
        let line = said.strip_prefix(&format!("{name}: ")).unwrap();
        let line = line.strip_suffix('\n').unwrap();
        assert!(line.starts_with(problem), "{line:?} is not {problem:?}");
        assert!(!line.contains('\n'), "{line}");
    }

    fn dead(&self) -> String {
        fs::read_to_string(self.folder.path().join("dead")).unwrap()
    }

    fn rows(&self) -> Vec<(i64, f64, String)> {
        let connection = Connection::open(self.folder.path().join("db")).unwrap();
        let mut query = connection
            .prepare("SELECT id, value, text FROM readings ORDER BY rowid")
            .unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}

fn row(id: i64, value: f64, text: &str) -> (i64, f64, String) {
    (id, value, text.to_owned())
}

#[test]
fn a_line_becomes_a_row_or_a_dead_letter_with_its_problem() {
    for (line, expected) in [
        ("7,1.5,hello", Ok(row(7, 1.5, "hello"))),
        (" -7 , 2 ,a, b, and c", Ok(row(-7, 2.0, "a, b, and c"))),
        ("7,1.5,", Ok(row(7, 1.5, ""))),
        ("7", Err("1 columns where id,value,text are expected")),
        ("7,1.5", Err("2 columns where id,value,text are expected")),
        ("seven,1.5,x", Err("the id \"seven\" is no whole number")),
        (
            "99999999999999999999,1.5,x",
            Err("the id \"99999999999999999999\" is no whole number"),
        ),
        ("7,NaN,x", Err("the value \"NaN\" is no finite number")),
        ("7,1e999,x", Err("the value \"1e999\" is no finite number")),
        ("7,1.5,a\0b", Err("the text has a zero byte")),
    ] {
        let ingest = Ingest::sqlite();
        let code = i32::from(expected.is_err());
        ingest.ends(line.as_bytes(), "--create", code);
        match expected {
            Ok(row) => assert_eq!((ingest.rows(), &*ingest.dead()), (vec![row], "")),
            // The line is unchanged, so that it can be corrected and sent again.
            Err(reason) => assert_eq!(
                ingest.dead(),
                format!("malformed\tline 1: {reason}\t{line}\n")
            ),
        }
    }
}

#[test]
fn headings_empty_lines_and_ends_of_lines_are_no_rows_and_bad_lines_stop_nothing() {
    let ingest = Ingest::sqlite();
    ingest.ends(
        b"id,value,text\r\n1,2,a \r\n\n2,3,no end of line",
        "--create",
        0,
    );
    assert_eq!(
        ingest.rows(),
        [row(1, 2.0, "a "), row(2, 3.0, "no end of line")]
    );
    assert_eq!(ingest.dead(), "");

    let ingest = Ingest::sqlite();
    let said = ingest.ends(
        b"1,2,a\n\nx,1,b\n3,1,caf\xe9\nid,value,text\n4,1,c\n",
        "--create",
        1,
    );
    assert!(
        said.contains("6 lines read, 3 malformed\n3 dead letters in dead, 0 lost\n"),
        "{said}"
    );
    assert_eq!(ingest.rows(), [row(1, 2.0, "a"), row(4, 1.0, "c")]);
    let expected = "malformed\tline 3: the id \"x\" is no whole number\tx,1,b\n\
        malformed\tline 4: the line is no UTF-8\t3,1,caf\u{fffd}\n\
        malformed\tline 5: the id \"id\" is no whole number\tid,value,text\n";
    assert_eq!(ingest.dead(), expected);
    // A second run appends to the dead letters.
    ingest.ends(b"y", "", 1);
    assert!(ingest.dead().starts_with(expected) && ingest.dead().lines().count() == 4);
}

#[test]
fn a_row_that_the_table_refuses_is_a_dead_letter_and_the_others_are_stored() {
    let ingest = Ingest::sqlite();
    ingest.ends(b"", "--create", 0);
    let connection = Connection::open(ingest.folder.path().join("db")).unwrap();
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON readings WHEN NEW.id = 666
        BEGIN SELECT RAISE(ABORT, 'evil'); END";
    connection.execute_batch(trigger).unwrap();
    ingest.ends(b"1,2,a\n666,1,b\n3,1,c\n", "", 1);
    assert_eq!(ingest.rows(), [row(1, 2.0, "a"), row(3, 1.0, "c")]);
    assert_eq!(ingest.dead(), "failed\tevil\t666,1,b\n");
}

#[test]
fn the_lines_of_a_log_are_rows_as_they_are() {
    let ingest = Ingest::sqlite();
    ingest.ends(
        "id,value,text\n\na, \u{e9}\n".as_bytes(),
        "--create --log",
        0,
    );
    assert_eq!(
        ingest.rows(),
        [row(1, 13.0, "id,value,text"), row(3, 5.0, "a, \u{e9}")]
    );
}

#[test]
fn a_wrong_command_line_is_reported_in_one_line() {
    let ingest = Ingest::sqlite();
    for (options, problem) in [
        (
            "--policy fixed:0",
            "--policy is \"fixed:0\": N must be from 1 to 100000",
        ),
        (
            "--policy fast",
            "--policy is \"fast\": must be model, threshold or fixed:N",
        ),
        (
            "--dedup twice",
            "--dedup is \"twice\": must be key, batch-id or none",
        ),
        (
            "--table readings;drop",
            "--table is \"readings;drop\": must be of a-z, 0-9 and _",
        ),
        ("--url", "missing argument for option '--url'"),
        ("--url=", "--url is empty"),
        ("--nonsense", "invalid option '--nonsense'"),
        ("b.csv", "one file at most, not also \"b.csv\""),
    ] {
        ingest.refuses(options, problem);
    }
    let help = ingest.run(b"", "--help");
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for option in [
        "--policy fixed:N",
        "--dedup batch-id",
        "--dead-letters FILE",
    ] {
        assert!(help.contains(option), "{help}");
    }
}

/// Sends the same rows twice: with a key, with a table of batch ids, and with neither.
fn stores_what_each_way_keeps_once(ingest: &Ingest, count: impl Fn(&str) -> i64) {
    let rows: String = (0..2_000)
        .map(|id| format!("{id},{id}.5,reading\n"))
        .collect();
    for (way, policy, table, twice) in [
        ("key", "model", "keyed", 2_000),
        ("batch-id", "threshold", "by_batch", 4_000),
        ("none", "fixed:100", "by_nothing", 4_000),
    ] {
        let options = format!("--create --dedup {way} --policy {policy} --table {table}");
        for expected in [2_000, twice] {
            let said = ingest.ends(rows.as_bytes(), &options, 0);
            assert!(said.contains("2000 rows stored"), "{said}");
            assert_eq!(count(table), expected, "{way}");
        }
    }
    ingest.refuses(
        "--table no_such_table",
        "there is no table \"no_such_table\" (--create makes it)",
    );
    // Without a key the rows are stored twice.
    let said = ingest.ends(b"", "--table by_nothing", 2);
    assert!(said.contains("has no unique index on"), "{said}");
}

#[test]
fn sqlite_takes_rows_by_key_by_batch_id_and_without_and_names_what_is_wrong() {
    let ingest = Ingest::sqlite();
    stores_what_each_way_keeps_once(&ingest, |table| {
        let connection = Connection::open(ingest.folder.path().join("db")).unwrap();
        let query = format!("SELECT count(*) FROM {table}");
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    });
    let elsewhere = "cannot open the database \"no/such.db\": unable to open database file";
    ingest.refuses("--url no/such.db", elsewhere);
    fs::write(
        ingest.folder.path().join("text"),
        "no database at all, but long enough",
    )
    .unwrap();
    ingest.refuses(
        "--url text",
        "cannot open the database \"text\": file is not a database",
    );
    assert!(!ingest.folder.path().join("no").exists());
}

#[test]
fn postgres_takes_rows_by_key_by_batch_id_and_without_and_names_what_is_wrong() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (_, mut client) = server.database("ingest");
    let socket = server.socket();
    let (folder, port) = (socket.parent().unwrap(), socket.extension().unwrap());
    let (folder, port) = (folder.to_str().unwrap(), port.to_str().unwrap());
    let url = |database: &str| format!("host={folder} port={port} user=postgres dbname={database}");
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    let ingest = Ingest::of(&EXAMPLE, "postgres_ingest", url("ingest"));
    let client = std::cell::RefCell::new(&mut client);
    stores_what_each_way_keeps_once(&ingest, |table| {
        let query = format!("SELECT count(*) FROM {table}");
        client.borrow_mut().query_one(&query, &[]).unwrap().get(0)
    });
    ingest.refuses(
        "--url mysql://here",
        "cannot connect to the server: invalid connection string",
    );
    ingest.refuses(
        "--url postgres://localhost:1/x",
        "cannot connect to localhost:1: ",
    );
    let elsewhere = Ingest {
        url: url("no_such_database"),
        ..ingest
    };
    let said = elsewhere.ends(b"", "", 2);
    assert!(
        said.contains("database \"no_such_database\" does not exist\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn mariadb_takes_rows_by_key_by_batch_id_and_without_and_names_what_is_wrong() {
    use mysql::prelude::Queryable;
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (_, conn) = server.database("ingest");
    let socket = server.socket();
    let url = |database: &str| {
        format!(
            "mysql://root@localhost/{database}?socket={}",
            socket.display()
        )
    };
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    let ingest = Ingest::of(&EXAMPLE, "mariadb_ingest", url("ingest"));
    let conn = std::cell::RefCell::new(conn);
    stores_what_each_way_keeps_once(&ingest, |table| {
        let query = format!("SELECT count(*) FROM {table}");
        conn.borrow_mut().query_first(query).unwrap().unwrap()
    });
    ingest.refuses("--url postgres://here", "cannot connect to the server: ");
    ingest.refuses(
        "--url mysql://root@localhost:1/x",
        "cannot connect to localhost:1: ",
    );
    let elsewhere = Ingest {
        url: url("no_such_database"),
        ..ingest
    };
    let said = elsewhere.ends(b"", "", 2);
    assert!(
        said.contains("Unknown database 'no_such_database'\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
