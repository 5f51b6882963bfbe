//! What the ingest examples share: lines, options, dead letters, the monitor.
#![cfg(not(loom))]

#[path = "../examples/ingest/mod.rs"]
mod ingest;

use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ingest::dead_letters::DeadLetters;
use ingest::monitor::{Monitor, Sensor};
use ingest::once::Once;
use ingest::options::{Options, Sizing};
use ingest::rows::{Malformed, Row};
use ingest::run;
use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback, LoadThreshold, Retry};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_line_is_a_row_or_says_what_is_wrong_with_it() {
    let row = |id, value, text: &str| {
        Ok(Row {
            id,
            value,
            text: text.to_owned(),
        })
    };
    for (line, expected) in [
        ("7,1.5,hello", row(7, 1.5, "hello")),
        (" -7 , 2 ,a, b, and c", row(-7, 2.0, "a, b, and c")),
        ("7,1.5,", row(7, 1.5, "")),
        ("", Err(Malformed::Columns(1))),
        ("7,1.5", Err(Malformed::Columns(2))),
        ("seven,1.5,x", Err(Malformed::Id("seven".to_owned()))),
        (
            "99999999999999999999,1.5,x",
            Err(Malformed::Id("99999999999999999999".to_owned())),
        ),
        ("7,NaN,x", Err(Malformed::Value("NaN".to_owned()))),
        ("7,1e999,x", Err(Malformed::Value("1e999".to_owned()))),
        ("7,1.5,a\0b", Err(Malformed::ZeroByte)),
    ] {
        assert_eq!(Row::parse(line), expected, "{line:?}");
    }
    assert_eq!(Row::of_log(3, "a, \u{e9}"), row(3, 5.0, "a, \u{e9}"));
    assert_eq!(Row::of_log(3, "a\0b"), Err(Malformed::ZeroByte));
    let line = "7,1.5,a, b";
    assert_eq!(
        Row::parse(line).unwrap().to_string(),
        line,
        "a dead letter can be sent again"
    );
}

#[test]
fn a_command_line_is_understood_or_says_what_is_wrong_with_it() {
    let parse =
        |line: &str| Options::parse(line.split_whitespace().map(str::to_owned), "somewhere");
    let options = parse("--batch fixed:7 --once never --table t_1 --create in.csv")
        .unwrap()
        .unwrap();
    assert_eq!(
        (options.sizing, options.once),
        (Sizing::Fixed(7), Once::Never)
    );
    assert_eq!(
        (&*options.table, &*options.url, options.create),
        ("t_1", "somewhere", true)
    );
    assert_eq!(options.input.as_ref().unwrap().to_str(), Some("in.csv"));
    assert!(parse("--log").unwrap().unwrap().log && !options.log);
    assert_eq!(
        parse("--batch model").unwrap().unwrap().sizing,
        Sizing::Model
    );
    assert!(parse("--help").unwrap().is_none());
    for (line, problem) in [
        (
            "--batch fixed:0",
            "--batch is \"fixed:0\": fixed:N needs a size from 1",
        ),
        (
            "--once twice",
            "--once is \"twice\": must be key, batch or never",
        ),
        (
            "--table readings;drop",
            "--table is \"readings;drop\": must be of a-z, 0-9 and _",
        ),
        ("--url", "--url needs a value"),
        ("--nonsense", "unknown option --nonsense"),
        ("a.csv b.csv", "one file at most, not also b.csv"),
    ] {
        assert_eq!(parse(line).unwrap_err(), problem);
    }
}

/// What became of a file: the rows, the dead letters, the exit code.
fn ingested(bytes: &[u8], more: &str) -> (Vec<Row>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("in"), bytes).unwrap();
    let files = ["--dead-letters".to_owned(), path("dead"), path("in")];
    let options = Options::parse(more.split_whitespace().map(str::to_owned).chain(files), "")
        .unwrap()
        .unwrap();
    let letters = DeadLetters::open(&options.dead_letters).unwrap();
    let (tell, rows) = mpsc::channel();
    let handler = move |batch: &mut Batch<Row>| {
        if batch.iter().any(|row| row.id == 666) {
            return Err(BatchError::permanent("evil"));
        }
        batch.iter().try_for_each(|row| tell.send(row.clone()))?;
        Ok(LoadFeedback::new())
    };
    let code = run::ingest(
        "test",
        &options,
        run::builder(&options, &letters),
        &letters,
        handler,
        Vec::new(),
    );
    (
        rows.iter().collect(),
        std::fs::read_to_string(&options.dead_letters).unwrap(),
        format!("{code:?}"),
    )
}

#[test]
fn every_line_of_a_file_becomes_a_row_or_a_dead_letter_with_its_number_and_the_exit_code_says_which()
 {
    let row = |id, value, text: &str| Row {
        id,
        value,
        text: text.to_owned(),
    };
    let [success, failure] = [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}"));
    let (rows, dead, code) = ingested(b"id,value,text\r\n1,2,a \r\n\n2,3,no end of line", "");
    assert_eq!(
        (rows, &*dead, code),
        (
            vec![row(1, 2.0, "a "), row(2, 3.0, "no end of line")],
            "",
            success.clone()
        )
    );
    let (rows, dead, code) = ingested(b"1,2,a\n\nx,1,b\n3,1,caf\xe9\nid,value,text\n4,1,c\n", "");
    assert_eq!(
        (rows, code),
        (vec![row(1, 2.0, "a"), row(4, 1.0, "c")], failure.clone())
    );
    let expected = "malformed\tline 3: the id \"x\" is no whole number\tx,1,b\n\
        malformed\tline 4: the line is no UTF-8\t3,1,caf\u{fffd}\n\
        malformed\tline 5: the id \"id\" is no whole number\tid,value,text\n";
    assert_eq!(dead, expected);
    // A row that the backend refuses.
    let (rows, dead, code) = ingested(b"1,2,a\n666,1,b\n", "");
    assert_eq!(
        (rows, &*dead, code),
        (vec![row(1, 2.0, "a")], "failed\tevil\t666,1,b\n", failure)
    );
    // A log: its lines are rows as they are.
    let (rows, dead, code) = ingested(b"id,value,text\n\nc,d\n", "--log");
    assert_eq!(
        (rows, &*dead, code),
        (
            vec![row(1, 13.0, "id,value,text"), row(3, 3.0, "c,d")],
            "",
            success
        )
    );
}

#[test]
fn dead_letters_tell_kind_reason_and_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.tsv");
    let letters = DeadLetters::open(&path).unwrap();
    let hook = letters.clone();
    let batcher = Batcher::builder()
        .initial_batch_size(1)
        .retry(Retry::none())
        .on_failed(move |failed| hook.failed(&failed))
        .spawn(|batch: &mut Batch<Row>| {
            Err(match batch[0].id {
                1 => BatchError::permanent("refused\tby\nthe table"),
                _ => BatchError::in_doubt("no answer"),
            })
        })
        .unwrap();
    for id in [1, 2] {
        batcher
            .add(Row {
                id,
                value: 0.5,
                text: "x".to_owned(),
            })
            .unwrap();
    }
    assert!(batcher.flush(LONG).is_err());
    letters.write("malformed", &"no number", &"a,b,c");
    let text = std::fs::read_to_string(&path).unwrap();
    let expected = "failed\trefused by the table\t1,0.5,x\nin-doubt\tno answer\t2,0.5,x\nmalformed\tno number\ta,b,c\n";
    assert_eq!(text, expected);
    assert_eq!(letters.counts(), (3, 0));
    // A second run adds to it.
    DeadLetters::open(&path)
        .unwrap()
        .write("unsent", &"ended", &"4,1,y");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        format!("{expected}unsent\tended\t4,1,y\n")
    );
}

struct Told {
    asked: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Sensor for Told {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        let _ = self.asked.send(());
        let _ = self.go_on.recv();
        feedback.db_locks(50)
    }
}

#[test]
fn a_monitor_reports_what_its_sensors_see_and_one_that_hangs_keeps_nothing_alive() {
    let (asked, seen) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let (reported, closed) = mpsc::channel();
    let batcher = Batcher::builder()
        .initial_batch_size(100)
        .policy(LoadThreshold::new())
        .load_check_interval(Duration::from_millis(1))
        .on_close(move |report| reported.send(report.is_clean()).unwrap())
        .spawn(|_: &mut Batch<Row>| Ok(LoadFeedback::new()))
        .unwrap();
    let batcher = Arc::new(batcher);
    let monitor = Monitor::start(
        &batcher,
        vec![Box::new(Told { asked, go_on: wait })],
        Duration::from_millis(1),
    );
    seen.recv_timeout(LONG).unwrap();
    go_on.send(()).unwrap();
    // Fifty waiting locks, and nothing else is known: the batches shrink.
    let begun = std::time::Instant::now();
    while batcher.stats().batch_size == 100 {
        assert!(begun.elapsed() < LONG);
        std::thread::yield_now();
    }
    // The sensor hangs in its second sample; dropping the last owner closes all the same.
    seen.recv_timeout(LONG).unwrap();
    drop(batcher);
    assert_eq!(closed.recv_timeout(LONG), Ok(true));
    drop((monitor, go_on));
}
