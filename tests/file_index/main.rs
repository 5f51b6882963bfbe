//! The example that indexes files, as users run it: its binary runs on trees made here, and the
//! test reads its table over another connection.

#![cfg(all(unix, not(loom)))]

mod tree;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use rusqlite::Connection;
use rusqlite::types::Value;

use tree::{Tree, assert_one_line, ended, example, rows};

fn wild_tree() -> Tree {
    let tree = Tree::new(&[
        "plain.txt",
        ".hidden",
        ".git/config",
        ".gitignore",
        "node_modules/x.js",
        "a b/c'd\"e.rs",
        "%41",
        "100%",
        "новый/файл.тхт",
        "line\nbreak",
        "-dash",
        "no.dot.",
        ".ignore",
        "deep/er/and/deep/er/still.tar.gz",
    ]);
    tree.write(OsStr::new(".gitignore"), "*\n");
    tree.write(OsStr::new(".ignore"), "*.txt\n");
    tree.write(OsStr::new("empty"), "");
    for n in 0..700 {
        tree.write(OsStr::new(&format!("many/{}/{n}.dat", n % 7)), "x");
    }
    symlink("plain.txt", tree.root.join("link")).unwrap();
    symlink("many", tree.root.join("folder link")).unwrap();
    symlink("..", tree.root.join("loop")).unwrap();
    symlink("nowhere", tree.root.join("dangling")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(tree.root.join("pipe"))
            .status()
            .unwrap()
            .success()
    );
    tree
}

#[test]
fn every_file_has_exactly_one_row_however_often_and_with_whatever_options() {
    let tree = wild_tree();
    for options in [
        &[][..],
        &[],
        &["--threads", "8"],
        &["--policy", "fixed:1"],
        &["--policy", "fixed:1000", "--threads", "1"],
    ] {
        let (stdout, _) = tree.run(options, 0);
        tree.assert_indexed();
        assert!(
            stdout.contains("files seen   715\nrows written 715\nrows failed  0\n"),
            "{stdout}"
        );
        assert!(stdout.contains("batch size over time"), "{stdout}");
        assert!(
            !tree.folder.path().join("x.db-wal").exists(),
            "the one file is the whole database"
        );
        assert_eq!(
            rows(&tree.db, "PRAGMA journal_mode"),
            [[Value::Text("delete".into())]]
        );
    }
    fs::remove_file(&tree.db).unwrap();
    assert_eq!(
        tree.run(&["--threads", "8", "--quiet"], 0),
        (String::new(), String::new())
    );
    tree.assert_indexed();
}

#[test]
fn an_extension_is_stored_where_there_is_one() {
    let tree = wild_tree();
    tree.run(&[], 0);
    for (name, extension) in [
        ("plain.txt", Some("txt")),
        (".hidden", None),
        ("still.tar.gz", Some("gz")),
        ("-dash", None),
    ] {
        let found = rows(
            &tree.db,
            &format!("SELECT extension FROM files WHERE path LIKE '%/{name}'"),
        );
        assert_eq!(
            found,
            [[extension.map_or(Value::Null, |text| Value::Text(text.into()))]],
            "{name}"
        );
    }
}

#[test]
fn a_second_run_brings_the_table_up_to_date_and_leaves_other_trees_alone() {
    let tree = Tree::new(&[
        "keep",
        "change",
        "gone",
        "becomes a folder",
        "folder/a",
        "folder/b",
    ]);
    let neighbour = tree.folder.path().join("tree2");
    fs::create_dir(&neighbour).unwrap();
    fs::write(neighbour.join("theirs"), "").unwrap();
    let mut other = Command::new(example());
    ended(
        other
            .arg(&neighbour)
            .arg("--db")
            .arg(&tree.db)
            .output()
            .unwrap(),
        0,
    );
    tree.run(&[], 0);

    tree.write(OsStr::new("change"), "longer than before");
    tree.write(OsStr::new("new"), "");
    fs::remove_file(tree.root.join("gone")).unwrap();
    fs::remove_file(tree.root.join("becomes a folder")).unwrap();
    tree.write(OsStr::new("becomes a folder/inside"), "");
    // Through a link the same names can still be read, but they are not files of this tree any
    // more.
    fs::rename(
        tree.root.join("folder"),
        tree.folder.path().join("elsewhere"),
    )
    .unwrap();
    symlink("../elsewhere", tree.root.join("folder")).unwrap();
    let (stdout, _) = tree.run(&[], 0);
    assert!(stdout.contains("rows removed 4 "), "{stdout}");

    let theirs = rows(
        &tree.db,
        "SELECT path FROM files WHERE path LIKE '%/tree2/%'",
    );
    assert_eq!(theirs.len(), 1, "a name that only begins like DIR");
    Connection::open(&tree.db)
        .unwrap()
        .execute("DELETE FROM files WHERE path LIKE '%/tree2/%'", [])
        .unwrap();
    tree.assert_indexed();
}

#[test]
fn names_that_are_not_utf8_keep_every_byte_and_never_share_a_row() {
    let tree = Tree::new(&["a%FF", "a\u{fffd}", "a\\xff", "f.\u{e4}"]);
    for name in [
        &b"a\xff"[..],
        b"a\xfe",
        b"folder \xc3/inside.txt",
        b"f.\xe4",
    ] {
        tree.write(OsStr::from_bytes(name), "");
    }
    for _ in 0..2 {
        tree.run(&[], 0);
        tree.assert_indexed();
        let kinds = rows(
            &tree.db,
            "SELECT typeof(path), count(*) FROM files GROUP BY 1 ORDER BY 1",
        );
        let count = |kind: &str, count| vec![Value::Text(kind.into()), Value::Integer(count)];
        assert_eq!(kinds, [count("blob", 4), count("text", 4)]);
    }
    fs::remove_file(tree.root.join(OsStr::from_bytes(b"a\xff"))).unwrap();
    tree.run(&[], 0);
    tree.assert_indexed();
}

#[test]
fn hashes_are_stored_when_asked_for() {
    let tree = Tree::new(&["one", "two"]);
    tree.write(OsStr::new("large"), &"0123456789".repeat(100_000));
    tree.run(&["--hash"], 0);
    for row in rows(&tree.db, "SELECT path, blake3 FROM files") {
        let [Value::Text(path), Value::Text(hash)] = &row[..] else {
            panic!("{row:?}")
        };
        assert_eq!(
            *hash,
            blake3::hash(&fs::read(path).unwrap()).to_string(),
            "{path}"
        );
    }
    tree.run(&[], 0);
    assert_eq!(
        rows(&tree.db, "SELECT count(*) FROM files WHERE blake3 IS NULL"),
        [[Value::Integer(3)]]
    );
}

#[test]
fn a_database_inside_the_tree_has_a_row_and_its_journals_have_none() {
    let mut tree = Tree::new(&["a", "b"]);
    tree.db = tree.root.join("x.db");
    tree.write(OsStr::new("elsewhere/x.db-wal"), "a file like any other");
    for _ in 0..2 {
        tree.run(&[], 0);
        let paths = rows(&tree.db, "SELECT path FROM files ORDER BY path");
        let expected = ["a", "b", "elsewhere/x.db-wal", "x.db"].map(|name| tree.root.join(name));
        assert_eq!(
            paths,
            expected.map(|path| [Value::Text(path.into_os_string().into_string().unwrap())])
        );
    }
}

#[test]
fn each_problem_is_reported_in_one_line() {
    let tree = Tree::new(&["a"]);
    let folder = tree.folder.path();
    fs::write(
        folder.join("garbage"),
        "no database, but long enough to be taken for one ".repeat(100),
    )
    .unwrap();
    // One leaf page of the table, which a run over another tree does not touch.
    let other = wild_tree();
    other.run(&[], 0);
    let mut damaged = fs::read(&other.db).unwrap();
    damaged
        .chunks_mut(4_096)
        .find(|page| page[0] == 0x0d)
        .expect("a page that holds rows")
        .fill(0xa5);
    fs::write(folder.join("damaged"), damaged).unwrap();
    Connection::open(folder.join("foreign"))
        .unwrap()
        .execute("CREATE TABLE files(name)", [])
        .unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["nowhere", "--db", "made"], "nowhere: no such directory"),
        (
            &["two\nlines", "--db", "made"],
            "two\\nlines: no such directory",
        ),
        (&["garbage", "--db", "made"], "garbage: is not a directory"),
        (&["", "--db", "made"], "DIR is an empty path"),
        (
            &["tree", "--db", "nowhere/x.db"],
            "nowhere/x.db: the database cannot be opened or made",
        ),
        (&["tree", "--db", "tree"], "tree: is not a file"),
        (&["tree", "--db", "/dev/null"], "/dev/null: is not a file"),
        (
            &["tree", "--db", "garbage"],
            "garbage: is not a database of SQLite",
        ),
        (
            &["tree", "--db", "damaged"],
            "damaged: the database is corrupt",
        ),
        (
            &["tree", "--db", "foreign"],
            "foreign: its table `files` is not this program's",
        ),
        (&["tree", "--db", ""], "--db is an empty path"),
        (&["tree", "--db"], "missing argument for option '--db'"),
        (&["tree", "tree"], "unexpected argument \"tree\""),
        (&["--db", "made", "--threads", "0"], "--threads is \"0\""),
        (
            &["--db", "made", "--threads", "257"],
            "--threads is \"257\"",
        ),
        (
            &["--db", "made", "--threads", "many"],
            "--threads is \"many\"",
        ),
        (&["--db", "made", "--policy", "fixed:0"], "fixed:N is \"0\""),
        (
            &["--db", "made", "--policy", "fixed:99999999999999999999"],
            "fixed:N is",
        ),
        (
            &["--db", "made", "--policy", "sometimes"],
            "--policy is \"sometimes\"",
        ),
        (&["--db", "made", "--verbose"], "invalid option '--verbose'"),
        (
            &["--db", "made", "--quiet=yes"],
            "unexpected argument for option '--quiet'",
        ),
    ];
    for (arguments, about) in cases {
        assert_one_line(
            Command::new(example())
                .args(*arguments)
                .current_dir(folder)
                .output()
                .unwrap(),
            about,
        );
    }
    assert!(
        !folder.join("made").exists(),
        "no database is made for nothing"
    );
}

#[test]
fn a_locked_database_is_reported_soon() {
    let tree = Tree::new(&["a"]);
    tree.run(&[], 0);
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let other = Connection::open(&tree.db).unwrap();
        other.execute_batch(lock).unwrap();
        assert_one_line(
            tree.command(&[]).output().unwrap(),
            "another program has the database locked",
        );
    }
    tree.run(&[], 0);
}

#[test]
fn rows_that_the_table_refuses_are_counted_and_the_others_are_written() {
    let tree = wild_tree();
    tree.run(&[], 0);
    let trigger = "CREATE TRIGGER picky BEFORE INSERT ON files WHEN new.extension = 'dat' AND new.path LIKE '%/3/%' \
                   BEGIN SELECT RAISE(ABORT, 'no\ndata here'); END; DELETE FROM files";
    Connection::open(&tree.db)
        .unwrap()
        .execute_batch(trigger)
        .unwrap();
    let (stdout, _) = tree.run(&["--policy", "fixed:50"], 1);
    assert!(
        stdout.contains("rows written 615\nrows failed  100\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("100 rows failed: no\\ndata here\n"),
        "{stdout}"
    );
    assert_eq!(
        rows(&tree.db, "SELECT count(*) FROM files"),
        [[Value::Integer(615)]]
    );
}

#[test]
fn a_database_that_fails_during_the_run_ends_it() {
    let tree = wild_tree();
    tree.run(&[], 0);
    // No row is the cause: every write fails in the same way.
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON files BEGIN SELECT abs(-9223372036854775808); END; DELETE FROM files";
    Connection::open(&tree.db)
        .unwrap()
        .execute_batch(trigger)
        .unwrap();
    let output = tree.command(&["--quiet"]).output().unwrap();
    assert_one_line(
        output,
        "x.db: the database failed: integer overflow; 0 rows are written, ",
    );
    assert_eq!(
        rows(&tree.db, "SELECT count(*) FROM files"),
        [[Value::Integer(0)]]
    );
}

/// If the test may read everything (as root), the program runs as another user, from a copy that
/// this user may execute.
#[test]
fn what_cannot_be_read_is_listed_and_the_rest_is_indexed() {
    const NOBODY: u32 = 65_534;
    let tree = Tree::new(&["a", "closed/inside"]);
    for n in 0..12 {
        tree.write(OsStr::new(&format!("secret {n}")), "");
        fs::set_permissions(
            tree.root.join(format!("secret {n}")),
            PermissionsExt::from_mode(0o000),
        )
        .unwrap();
    }
    let closed = tree.root.join("closed");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    let mut command = tree.command(&["--hash"]);
    if fs::read(tree.root.join("secret 0")).is_ok() {
        if chown(&tree.folder, Some(NOBODY), Some(NOBODY)).is_err() {
            // Not with `eprintln!`, which the test runner captures.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED what_cannot_be_read: we may read everything and be nobody else"
            );
            return;
        }
        let copy = tree.folder.path().join("file_index");
        fs::copy(example(), &copy).unwrap();
        let mut as_nobody = Command::new(copy);
        as_nobody
            .args(command.get_args())
            .current_dir(&tree.folder)
            .uid(NOBODY)
            .gid(NOBODY);
        command = as_nobody;
    }
    let output = loop {
        match command.output() {
            // Another test that is starting a program has the copy open for writing until its child
            // executes that program.
            Err(busy) if busy.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.unwrap(),
        }
    };
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let (stdout, _) = ended(output, 0);
    assert!(
        stdout.contains("rows written 13\nrows failed  0\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("\n0 files vanished, 13 could not be read:\n"),
        "{stdout}"
    );
    assert_eq!(stdout.matches("Permission denied").count(), 10, "{stdout}");
    assert!(stdout.ends_with("  and 3 more\n"), "{stdout}");
    let hashed = rows(&tree.db, "SELECT count(*), count(blake3) FROM files");
    assert_eq!(
        hashed,
        [[Value::Integer(13), Value::Integer(1)]],
        "an unreadable file has its row"
    );
}

/// The walker reads the first of several endless files. The others, which it has listed, are
/// deleted meanwhile.
#[test]
#[cfg(target_os = "linux")]
fn files_that_vanish_are_counted_and_do_no_harm() {
    const FLEETING: usize = 10;
    let tree = Tree::new(&["stable/a", "stable/b"]);
    let folder = tree.root.join("fleeting");
    fs::create_dir(&folder).unwrap();
    let names: Vec<_> = (0..FLEETING).map(|n| folder.join(n.to_string())).collect();
    // A sparse file: a tebibyte that takes no room, and that is not read to its end.
    names
        .iter()
        .for_each(|name| fs::File::create(name).unwrap().set_len(1 << 40).unwrap());
    let mut command = tree.command(&["--hash", "--threads", "1"]);
    let mut program = EndedAnyhow(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let open = format!("/proc/{}/fd", program.0.id());
    let held = loop {
        assert!(
            program.0.try_wait().unwrap().is_none(),
            "it hashes until it is let go"
        );
        let links = fs::read_dir(&open)
            .unwrap()
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        match links.into_iter().find(|file| names.contains(file)) {
            Some(held) => break held,
            None => std::thread::yield_now(),
        }
    };
    names
        .iter()
        .filter(|name| **name != held)
        .for_each(|name| fs::remove_file(name).unwrap());
    fs::File::options()
        .write(true)
        .open(&held)
        .unwrap()
        .set_len(0)
        .unwrap();
    let (stdout, _) = ended(program.output(), 0);
    assert!(
        stdout.contains(&format!(
            "\n{} files vanished, 0 could not be read:\n",
            FLEETING - 1
        )),
        "{stdout}"
    );
    assert!(
        stdout.contains("rows written 3\nrows failed  0\n"),
        "{stdout}"
    );
    tree.run(&[], 0);
    tree.assert_indexed();
}

/// A program that must not outlive a test that fails.
struct EndedAnyhow(Child);

impl EndedAnyhow {
    /// Its output until its end, which is short.
    fn output(mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut stderr)
            .unwrap();
        Output {
            status: self.0.wait().unwrap(),
            stdout,
            stderr,
        }
    }
}

impl Drop for EndedAnyhow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ctrl_c_commits_what_was_added_and_says_so() {
    let tree = Tree::new(&[]);
    (0..300).for_each(|n| tree.write(OsStr::new(&n.to_string()), ""));
    // A sparse file, so large that its hash takes longer than the test.
    fs::File::create(tree.root.join("endless"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let mut command = tree.command(&["--hash", "--threads", "2"]);
    let mut child = EndedAnyhow(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(child.0.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        lines.any(|line| line.contains(" 300 rows, ")),
        "it tells how far it is once a second"
    );
    // The shell's own `kill`, since not every system has a program of that name.
    assert!(
        Command::new("sh")
            .args(["-c", &format!("kill -INT {}", child.0.id())])
            .status()
            .unwrap()
            .success()
    );
    let said: Vec<_> = lines.collect();
    assert_eq!(child.0.wait().unwrap().code(), Some(130), "{said:?}");
    assert_eq!(
        said.last().unwrap(),
        "file_index: interrupted; all 300 rows added so far are committed"
    );
    assert_eq!(
        rows(&tree.db, "SELECT count(*) FROM files"),
        [[Value::Integer(300)]]
    );
}

#[test]
fn the_usage_names_every_option() {
    let (stdout, _) = ended(Command::new(example()).arg("--help").output().unwrap(), 0);
    for option in [
        "DIR",
        "--db",
        "--threads",
        "--policy model",
        "--policy threshold",
        "--policy fixed:N",
        "--hash",
        "--quiet",
    ] {
        assert!(stdout.contains(&format!("\n  {option} ")), "{option}");
    }
}
