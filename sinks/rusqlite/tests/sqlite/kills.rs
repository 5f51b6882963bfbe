//! A process that writes is killed again and again: what it acknowledged is stored, once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use load_aware_batcher_rusqlite::{OnConflict, Sqlite};
use testkit::courses::{CloseOnPanic, Random, kills};

use crate::rows::{File, KEYED, LONG, builder, columns, reading};

/// Not a test of its own: the process that the next one kills. Writes the rows from the first that
/// was not acknowledged on, and prints each row's id when its ticket says handled.
#[test]
fn child_of_the_kill_test() {
    let Some(path) = std::env::var_os("KILLED_SINKS_FILE") else {
        return;
    };
    let [first, end] = ["KILLED_SINKS_FIRST", "KILLED_SINKS_END"]
        .map(|name| std::env::var(name).unwrap().parse::<i64>().unwrap());
    let sink = columns(Sqlite::open(Path::new(&path))).on_conflict(OnConflict::Ignore);
    let batcher = builder(200).sink(sink).unwrap();
    std::thread::scope(|scope| {
        let _close = CloseOnPanic(&batcher);
        let (tickets, submitted) = mpsc::sync_channel(2_000);
        let producer = batcher.producer();
        scope.spawn(move || {
            for id in first..end {
                let Ok(ticket) = producer.submit(reading(id)) else {
                    return;
                };
                if tickets.send((id, ticket)).is_err() {
                    return;
                }
            }
        });
        // Past the test runner, which would keep it to itself, and has begun a line.
        let mut out = std::io::stdout();
        writeln!(out).unwrap();
        for (id, ticket) in submitted {
            assert!(ticket.wait().is_handled());
            writeln!(out, "handled {id}").unwrap();
        }
    });
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn a_writer_killed_fifty_times_has_stored_every_row_it_acknowledged_and_none_twice() {
    let mut random = Random::from_clock();
    for wal in [false, true] {
        let file = File::new(KEYED);
        if wal {
            file.open()
                .pragma_update(None, "journal_mode", "WAL")
                .unwrap();
        }
        let mut acknowledged = -1;
        for kill in 0..kills().div_ceil(2) {
            let mut child = start_child(&file, acknowledged + 1, i64::MAX);
            // The child says something first, so that each kill hits it at work.
            let after = 1 + random.below(1_500);
            let mut heard = 0;
            for id in handled_by(&mut child) {
                acknowledged = id;
                heard += 1;
                if heard == after {
                    child.kill().unwrap();
                }
            }
            let ended = child.wait().unwrap();
            assert!(heard >= after, "the child failed: {ended}");
            let query = "SELECT count(*) FROM readings WHERE id <= ?1";
            let there = file
                .open()
                .query_row(query, [acknowledged], |row| row.get(0));
            assert_eq!(there, Ok(acknowledged + 1), "after kill {kill}");
        }
        // The last one is left alone, and goes beyond all that any other has stored.
        let end = file.counts().0 + 1_000;
        let mut child = start_child(&file, acknowledged + 1, end);
        assert_eq!(handled_by(&mut child).last(), Some(end - 1));
        assert!(child.wait().unwrap().success());
        assert_eq!(file.counts(), (end, end));
    }
}

/// The ids that a child says are handled, until it ends.
fn handled_by(child: &mut Child) -> impl Iterator<Item = i64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("handled ")?.parse().ok())
}

fn start_child(file: &File, first: i64, end: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kills::child_of_the_kill_test", "--exact"])
        .args(["--nocapture", "--test-threads=1"])
        .env("KILLED_SINKS_FILE", file.path())
        .env("KILLED_SINKS_FIRST", first.to_string())
        .env("KILLED_SINKS_END", end.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
