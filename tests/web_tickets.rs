//! The example of a web server that answers from tickets. The test runs its binary, and reads its
//! table over another connection.
#![cfg(all(unix, not(any(loom, shuttle))))]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
    db: PathBuf,
    _folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("notes.db");
        let mut command = testkit::example::command("web_tickets");
        let mut child = command
            .arg(&db)
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .trim_end()
            .strip_prefix("listening on ")
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            stdout,
            address,
            db,
            _folder: folder,
        }
    }

    /// Its output from now on, and whether it ended with success.
    fn ended(&mut self) -> (String, bool) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of the answer.
fn post(address: SocketAddr, note: &str) -> io::Result<u16> {
    let mut connection = TcpStream::connect(address)?;
    write!(
        connection,
        "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{note}",
        note.len()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other("no answer"))
}

/// How often each note is in the table.
fn stored(db: &Path) -> HashMap<String, i64> {
    let connection = Connection::open(db).unwrap();
    let mut select = connection
        .prepare("SELECT text, count(*) FROM notes GROUP BY text")
        .unwrap();
    let rows = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

/// How often this note is in the table.
fn times_stored(db: &Path, note: &str) -> i64 {
    let connection = Connection::open(db).unwrap();
    let select = "SELECT count(*) FROM notes WHERE text = ?";
    connection
        .query_row(select, [note], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_note_that_is_answered_200_is_stored_once() {
    let mut server = Server::start();
    let (address, db) = (server.address, server.db.as_path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for note in (0..25).map(|n| format!("{thread}/{n}")) {
                    assert_eq!(post(address, &note).unwrap(), 200);
                    assert_eq!(times_stored(db, &note), 1, "it is stored when that comes");
                }
            });
        }
    });
    let notes = stored(&server.db);
    assert_eq!(notes.len(), 200);
    assert!(notes.values().all(|times| *times == 1), "{notes:?}");
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert_eq!(
        server.ended(),
        ("200 notes stored, 0 failed, 0 unsent\n".to_owned(), true)
    );
}

#[test]
fn a_signal_loses_no_note_that_was_answered_200() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start();
        let address = server.address;
        let (answered, answers) = mpsc::channel();
        let mut notes = Vec::new();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let answered = answered.clone();
                // Until the server refuses or is gone.
                scope.spawn(move || {
                    let notes = (0..).map(|n| format!("{thread}/{n}"));
                    for note in notes
                        .take_while(|note| post(address, note).is_ok_and(|status| status == 200))
                    {
                        answered.send(note).unwrap();
                    }
                });
            }
            drop(answered);
            notes.extend(answers.iter().take(100));
            kill_process(Pid::from_child(&server.child), signal).unwrap();
            notes.extend(answers);
        });
        let (said, well) = server.ended();
        assert!(well && said.ends_with(" 0 failed, 0 unsent\n"), "{said}");
        let stored = stored(&server.db);
        assert!(notes.len() >= 100);
        assert!(
            notes.iter().all(|note| stored.get(note) == Some(&1)),
            "{} answered, {stored:?}",
            notes.len()
        );
    }
}

#[test]
fn the_server_has_its_numbers_under_metrics() {
    let mut server = Server::start();
    assert_eq!(post(server.address, "a note").unwrap(), 200);
    let mut connection = TcpStream::connect(server.address).unwrap();
    write!(connection, "GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let handled = "batcher_items_total{batcher=\"notes\",outcome=\"handled\"} 1";
    assert!(answer.lines().any(|line| line == handled), "{answer}");
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert!(server.ended().1);
}
