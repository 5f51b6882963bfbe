//! What the three ingest examples share: they read lines, add rows, show progress, close, and say
//! what became of the rows. Only the sink differs.

mod dead_letters;
mod host_cpu;
mod options;
mod progress;
mod reading;
mod row;

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batcher, CloseReport, FlushError, Sink};

use self::dead_letters::DeadLetters;
use self::host_cpu::HostCpu;
pub use self::options::{Dedup, Options};
use self::progress::{Progress, TICK};
use self::reading::{Read, read};
pub use self::row::Row;

/// How long the last rows may take.
const CLOSE: Duration = Duration::from_secs(60);
/// The command line, the server or the table is at fault.
const AT_FAULT: u8 = 2;

/// A problem that is said in one line.
pub type Problem = Box<dyn Error + Send + Sync>;

/// Runs the program `program`, which writes to `url` where the command line names none. `sink`
/// makes the writer that the options ask for.
pub fn main<S: Sink<Row> + 'static>(
    program: &str,
    url: &str,
    sink: impl FnOnce(&Options) -> Result<S, Problem>,
) -> ExitCode {
    let options = match Options::parse(std::env::args_os(), url) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::usage(program, url));
            return ExitCode::SUCCESS;
        }
        Err(problem) => return give_up(program, &problem),
    };
    match ingest(program, &options, sink) {
        Ok(code) => code,
        Err(problem) => give_up(program, &said(&*problem, &options)),
    }
}

fn give_up(program: &str, problem: &str) -> ExitCode {
    eprintln!("{program}: {problem}");
    ExitCode::from(AT_FAULT)
}

/// The problem in one line, and what to do about the most frequent one.
fn said(problem: &(dyn Error + 'static), options: &Options) -> String {
    let mut line = problem.to_string();
    // A driver may keep the reason one level down.
    let mut source = problem.source();
    while let Some(reason) = source {
        if !line.contains(&reason.to_string()) {
            line = format!("{line}: {reason}");
        }
        source = reason.source();
    }
    if line.starts_with("there is no table") && !options.create {
        line.push_str(" (--create makes it)");
    }
    line.replace('\n', " ")
}

/// Succeeds only if every line became a row.
fn ingest<S: Sink<Row> + 'static>(
    program: &str,
    options: &Options,
    sink: impl FnOnce(&Options) -> Result<S, Problem>,
) -> Result<ExitCode, Problem> {
    let input = reading::open(options.input.as_deref())?;
    let dead_letters = DeadLetters::open(&options.dead_letters)
        .map_err(|problem| format!("{}: {problem}", options.dead_letters.display()))?;
    let on_failed = dead_letters.clone();
    let batcher = Batcher::builder()
        .policy(options.policy())
        .concurrency(options.concurrency)
        .sensor(Duration::from_millis(500), HostCpu::new())
        .on_failed(move |failed| on_failed.failed(&failed))
        .sink(sink(options)?)?;

    let (sender, events) = mpsc::channel();
    let interrupted = sender.clone();
    ctrlc::set_handler(move || drop(interrupted.send(None)))?;
    let (producer, letters, log) = (batcher.producer(), dead_letters.clone(), options.log);
    std::thread::spawn(move || drop(sender.send(Some(read(input, log, &producer, &letters)))));

    let begun = Instant::now();
    let mut progress = Progress::new(program);
    let read = loop {
        match events.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => progress.tick(&batcher.stats()),
            Ok(read) => break read,
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    // The rows that were read are waited for, unless Ctrl-C ends that.
    while read.is_some()
        && batcher.flush(TICK) == Err(FlushError::Timeout)
        && events.try_recv().is_err()
    {
        progress.tick(&batcher.stats());
    }
    // Refuses the reading thread, if it still reads, and hands over what was accepted.
    let report = batcher.shutdown(CLOSE);
    for row in &report.unsent {
        dead_letters.write("unsent", &"the program ended first", row);
    }
    progress.end();
    let all = say(options, &report, read.as_ref(), &dead_letters, begun);
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What became of the lines. Returns whether each of them became a row.
fn say(
    options: &Options,
    report: &CloseReport<Row>,
    read: Option<&Read>,
    dead_letters: &DeadLetters,
    begun: Instant,
) -> bool {
    let seconds = begun.elapsed().as_secs_f64();
    let rows = report.handled;
    let stored = match options.dedup {
        Dedup::Key => "stored or there already",
        Dedup::BatchId | Dedup::None => "stored",
    };
    let rate = rows as f64 / seconds.max(1e-3);
    eprintln!("{rows} rows {stored}, in {seconds:.1} s, {rate:.0} a second");
    match read {
        Some(read) => {
            eprintln!("{} lines read, {} malformed", read.lines, read.malformed);
            if let Some(problem) = &read.problem {
                eprintln!("reading ended early: {problem}");
            }
        }
        None => eprintln!("interrupted"),
    }
    let (written, lost) = dead_letters.counts();
    if written + lost > 0 {
        let file = options.dead_letters.display();
        eprintln!("{written} dead letters in {file}, {lost} lost");
    }
    if report.abandoned > 0 {
        let rows = report.abandoned;
        eprintln!("{rows} rows were still being written when the time was up: in doubt");
    }
    read.is_some_and(|read| read.problem.is_none()) && written + lost + report.abandoned == 0
}
