//! What the three examples do alike: read lines, add rows, show progress, close, say what became of
//! the rows.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, Builder, Handler, Producer};

use super::dead_letters::DeadLetters;
use super::monitor::{Monitor, SIGNALS, Sensor};
use super::once::Once;
use super::options::Options;
use super::rows::{Malformed, Row};

/// How long the last rows may take.
const CLOSE: Duration = Duration::from_secs(60);
/// What many CSV files begin with.
const HEADING: &[u8] = b"id,value,text";

/// Ends the program with one line that says what is wrong.
pub fn give_up(program: &str, problem: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{program}: {problem}");
    ExitCode::from(2)
}

/// A builder with all that does not depend on the database.
pub fn builder(options: &Options, dead_letters: &DeadLetters) -> Builder<Row> {
    let on_failed = dead_letters.clone();
    let builder = Batcher::builder()
        .max_batch_size(5_000)
        .linger(Duration::from_millis(100))
        .load_check_interval(Duration::from_millis(500))
        .policy(options.sizing.policy())
        .on_failed(move |failed| on_failed.failed(&failed));
    options
        .once
        .settle(SIGNALS.iter().fold(builder, |builder, (name, weight)| {
            builder.custom_signal(name, *weight)
        }))
}

/// What the reading thread reports at its end.
struct Read {
    lines: u64,
    malformed: u64,
    problem: Option<io::Error>,
}

/// Reads, writes, reports. Succeeds only if every line became a row.
pub fn ingest<H: Handler<Row> + Send + 'static>(
    program: &str,
    options: &Options,
    builder: Builder<Row>,
    dead_letters: &DeadLetters,
    handler: H,
    sensors: Vec<Box<dyn Sensor>>,
) -> ExitCode {
    let input = match open(options.input.as_deref()) {
        Ok(input) => input,
        Err(problem) => return give_up(program, &problem),
    };
    let batcher = match builder.spawn(handler) {
        Ok(batcher) => Arc::new(batcher),
        Err(problem) => return give_up(program, &problem),
    };
    let monitor = Monitor::start(&batcher, sensors, Duration::from_millis(200));
    let (sender, events) = mpsc::channel();
    let on_interrupt = sender.clone();
    if let Err(problem) = ctrlc::set_handler(move || drop(on_interrupt.send(None))) {
        eprintln!("{program}: Ctrl-C will lose rows: {problem}");
    }
    let (producer, letters, log) = (batcher.producer(), dead_letters.clone(), options.log);
    std::thread::spawn(move || drop(sender.send(Some(read(input, log, &producer, &letters)))));

    let begun = Instant::now();
    let read = loop {
        match events.recv_timeout(Duration::from_millis(500)) {
            Err(RecvTimeoutError::Timeout) => show(&batcher, begun),
            Ok(read) => break read,
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    // Refuses the reading thread, if it still reads, and hands over what was accepted.
    let report = batcher.shutdown(CLOSE);
    drop(monitor);
    for item in &report.unsent {
        dead_letters.write("unsent", &"the program ended first", item);
    }
    show(&batcher, begun);
    let (written, lost) = dead_letters.counts();
    let took = begun.elapsed().as_secs_f64();
    let stored = if options.once == Once::Key {
        "stored or there already"
    } else {
        "stored"
    };
    eprintln!(
        "\n{} rows {stored}, in {took:.1} s, {:.0} a second",
        report.handled,
        report.handled as f64 / took
    );
    if let Some(Read {
        lines,
        malformed,
        problem,
    }) = &read
    {
        eprintln!("{lines} lines read, {malformed} malformed");
        if let Some(problem) = problem {
            eprintln!("reading ended early: {problem}");
        }
    } else {
        eprintln!("interrupted");
    }
    if written + lost > 0 {
        eprintln!(
            "{written} dead letters in {}, {lost} lost",
            options.dead_letters.display()
        );
    }
    if report.abandoned > 0 {
        eprintln!(
            "{} rows were still being written when the time was up: in doubt",
            report.abandoned
        );
    }
    let all = matches!(&read, Some(Read { problem: None, .. }))
        && written + lost == 0
        && report.abandoned == 0;
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn open(path: Option<&Path>) -> Result<Box<dyn BufRead + Send>, String> {
    match path {
        None => Ok(Box::new(BufReader::new(io::stdin()))),
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(BufReader::new(file))),
            Err(problem) => Err(format!("{}: {problem}", path.display())),
        },
    }
}

fn read(
    mut input: Box<dyn BufRead + Send>,
    log: bool,
    producer: &Producer<Row>,
    dead_letters: &DeadLetters,
) -> Read {
    let mut read = Read {
        lines: 0,
        malformed: 0,
        problem: None,
    };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match input.read_until(b'\n', &mut bytes) {
            Ok(0) => return read,
            Ok(_) => read.lines += 1,
            Err(problem) => {
                return Read {
                    problem: Some(problem),
                    ..read
                };
            }
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || (read.lines == 1 && !log && line == HEADING) {
            continue;
        }
        let row = match std::str::from_utf8(line) {
            Ok(line) if log => Row::of_log(read.lines, line),
            Ok(line) => Row::parse(line),
            // One bad line, not the end.
            Err(_) => Err(Malformed::NotUtf8),
        };
        match row {
            // Waits while the queue is full; refused only when the program is ending.
            Ok(row) => match producer.add(row) {
                Ok(()) => {}
                Err(refused) => {
                    dead_letters.write("unsent", &"the program ended first", &refused.into_inner());
                    return read;
                }
            },
            Err(problem) => {
                read.malformed += 1;
                let line = String::from_utf8_lossy(line);
                dead_letters.write(
                    "malformed",
                    &format!("line {}: {problem}", read.lines),
                    &line,
                );
            }
        }
    }
}

fn show(batcher: &Batcher<Row>, begun: Instant) {
    let stats = batcher.stats();
    let load = stats
        .average_load
        .map_or("-".to_owned(), |load| format!("{load:.2}"));
    let line = format!(
        "{:7.1} s  {:>9} stored  {:>6} pending  {:>5} failed  batch {:>5}  load {load}  call p50 {:.1?} p99 {:.1?}",
        begun.elapsed().as_secs_f64(),
        stats.handled,
        stats.pending,
        stats.failed,
        stats.batch_size,
        stats.service_time.p50,
        stats.service_time.p99,
    );
    let mut out = io::stderr();
    // One line that changes, on a terminal.
    let _ = if out.is_terminal() {
        write!(out, "\r\x1b[2K{line}")
    } else {
        writeln!(out, "{line}")
    };
}
