//! The whole line at work: walks a directory and writes one row for each regular file into a table
//! of SQLite, in batches sized by the load of this host and of the database.
//!
//! ```text
//! cargo run --release --example file_index -- DIR --db files.db
//! ```
//!
//! Walker threads add rows (`walk`), the handler writes each batch in one transaction and tells the
//! load (`writer`, `store`), this file puts them together and watches.
//!
//! # What is in the table
//! One row for each file that `find DIR -type f` prints, under the same name: relative if DIR is,
//! so give an absolute DIR if the table is to mean something elsewhere. Names that are not UTF-8
//! are BLOBs of their bytes, all others TEXT. A second run brings the table up to date: rows are
//! written again, and rows under DIR whose files are gone are removed (not after an interruption or
//! a failure). The database may lie under DIR: its file has a row, as of the moment it was seen,
//! its journals have none.
//!
//! # How it ends
//! | exit code | |
//! | --- | --- |
//! | 0 | every file that could be read has its row; what vanished or could not be read is listed |
//! | 1 | the table refused rows, by a trigger or a constraint of somebody's; the others are written |
//! | 2 | DIR, the database or the command line is at fault: one line on stderr says how |
//! | 130 | interrupted (Ctrl-C): what was added is committed; a second Ctrl-C does not wait for that |

mod chart;
mod options;
mod progress;
mod row;
mod store;
mod summary;
mod walk;
mod writer;

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_aware_batcher::{Batcher, Failed, Fixed, FlushError, LoadThreshold, Retry};

use options::{Options, Sizing, USAGE};
use progress::{Progress, TICK};
use row::Row;
use store::Store;
use summary::{Failures, Summary};
use walk::{Findings, Walker};
use writer::{CpuMeter, Writer};

const REFUSED: u8 = 1;
const AT_FAULT: u8 = 2;
const INTERRUPTED: u8 = 130;

/// How many rows wait for the handler before walkers do.
const QUEUE_CAPACITY: usize = 4_000;
/// How long the last batches may take. A lock on the database is waited for in seconds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the main thread waits for.
pub enum Event {
    /// Every walker has ended.
    Walked,
    /// Ctrl-C.
    Interrupted,
    /// A batch failed for good, and not for its rows: the database is broken, full, or locked for
    /// long.
    Failed(String),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            say(&mut stderr(), &format!("file_index: {problem}\n"));
            ExitCode::from(AT_FAULT)
        }
    }
}

/// A reader that has gone away is no error.
fn say(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

fn run() -> Result<u8, String> {
    let Some(options) = Options::parse(std::env::args_os())? else {
        say(&mut stdout(), USAGE);
        return Ok(0);
    };
    // Before the database is made.
    walk::check(&options.dir)?;
    let store = Store::open(&options.db, &options.dir)?;
    let journals = store
        .journals()
        .map_err(|error| format!("{}: {error}", row::shown(&options.db)))?
        .into();
    let store = Arc::new(Mutex::new(store));
    let findings = Arc::new(Findings::default());
    let failures = Arc::new(Mutex::new(Failures::default()));
    let (sender, events) = channel();
    listen_for_interrupt(sender.clone())?;

    let mut progress = Progress::new(options.quiet);
    let writer = Writer {
        store: Arc::clone(&store),
        findings: Arc::clone(&findings),
        cpu: CpuMeter::new(),
    };
    let batcher = start(
        options.policy,
        writer,
        on_failed(Arc::clone(&failures), options.db.clone(), sender.clone()),
    )?;
    let walker = Walker {
        producer: batcher.producer(),
        findings: Arc::clone(&findings),
        hash: options.hash,
        journals,
    };
    let walk = walk::begin(&options.dir, options.threads, walker, sender)
        .map_err(|error| format!("no thread: {error}"))?;

    let mut end = watch(&batcher, &events, &mut progress);
    if let Event::Failed(_) = end {
        store::give_up_on_locks();
    }
    // Refuses the walkers from now on, writes what they have added.
    let report = batcher.shutdown(CLOSE_TIMEOUT);
    progress.end();
    // The last batches may have failed meanwhile.
    if let Some(failed) = events
        .try_iter()
        .find(|event| matches!(event, Event::Failed(_)))
    {
        end = failed;
    }
    let stats = batcher.stats();
    if let Event::Failed(problem) = end {
        let lost = stats.added - stats.handled;
        return Err(format!(
            "{problem}; {} rows are written, {lost} that were read are not",
            stats.handled
        ));
    }
    if report.timed_out {
        return Err(format!(
            "the database does not answer; {} rows are written",
            stats.handled
        ));
    }
    let mut removed = 0;
    if let Event::Walked = end {
        walk.join().map_err(|_| "a walker panicked".to_owned())?;
        let complete = findings.complete() && stats.failed == 0;
        removed = store
            .lock()
            .expect("nothing panics under it")
            .remove_gone(complete)?;
    }
    store.lock().expect("nothing panics under it").finish()?;
    // The handler is gone with the flusher's thread, so this is the last owner: it closes the
    // connection.
    drop(store);

    let failures = failures.lock().expect("nothing panics under it");
    let summary = Summary {
        findings: &findings,
        failures: &failures,
        stats: &stats,
        decisions: &batcher.decisions(),
        sizes: &progress.sizes,
        elapsed: progress.elapsed(),
        removed,
    };
    if options.quiet {
        say(&mut stderr(), &summary.troubles());
    } else {
        say(&mut stdout(), &(summary.figures() + &summary.troubles()));
    }
    if let Event::Interrupted = end {
        say(
            &mut stderr(),
            &format!(
                "file_index: interrupted; all {} rows added so far are committed\n",
                stats.handled
            ),
        );
        return Ok(INTERRUPTED);
    }
    Ok(if stats.failed > 0 { REFUSED } else { 0 })
}

fn listen_for_interrupt(sender: Sender<Event>) -> Result<(), String> {
    let again = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if again.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        // If nobody listens it is over anyway.
        let _ = sender.send(Event::Interrupted);
    })
    .map_err(|error| format!("Ctrl-C cannot be listened for: {error}"))
}

fn start(
    policy: Sizing,
    writer: Writer,
    on_failed: impl FnMut(Failed<Row>) + Send + 'static,
) -> Result<Batcher<Row>, String> {
    let builder = Batcher::builder()
        .linger(Duration::from_millis(100))
        .load_check_interval(Duration::from_millis(100))
        // An upsert may be repeated, so even a commit in doubt is tried again; rows at fault are
        // rejected by name, so nothing needs to be searched for.
        .idempotent(true)
        // A database that stays away ends the run: nobody is to wait a minute for that.
        .retry(Retry::attempts(5).bisect(false))
        .on_failed(on_failed)
        .thread_name("writer");
    let builder = match policy {
        Sizing::Fixed(rows) => builder.max_batch_size(rows).policy(Fixed(rows)),
        Sizing::Model => builder
            .max_batch_size(QUEUE_CAPACITY / 2)
            .queue_capacity(QUEUE_CAPACITY),
        Sizing::Threshold => builder
            // Each commit waits for the disk once. From 50 the size took too long to grow:
            // it goes by load, not by rows a second, and walkers alone keep a small host busy.
            .initial_batch_size(500)
            .min_batch_size(50)
            .max_batch_size(QUEUE_CAPACITY / 2)
            .queue_capacity(QUEUE_CAPACITY)
            // Walkers are fast: only a full queue is full load.
            .policy(LoadThreshold::new().queue_scale(QUEUE_CAPACITY as f64)),
    };
    builder.spawn(writer).map_err(|error| error.to_string())
}

/// Counts rows that the table refused; any other failure is the database's, and ends the run.
fn on_failed(
    failures: Arc<Mutex<Failures>>,
    db: PathBuf,
    sender: Sender<Event>,
) -> impl FnMut(Failed<Row>) + Send + 'static {
    let mut reported = false;
    move |failed| match failed.error.source().downcast_ref::<rusqlite::Error>() {
        Some(error) if store::is_refusal(error) => failures
            .lock()
            .expect("nothing panics under it")
            .note(&failed),
        // Once: the rows of a batch fail together.
        _ if reported => {}
        error => {
            reported = true;
            let problem = error.map_or_else(
                || failed.error.to_string(),
                |error| store::describe(&db, error),
            );
            let _ = sender.send(Event::Failed(problem));
        }
    }
}

/// Shows how it goes until every row has its outcome, or something comes in between. Returns what
/// ended it.
fn watch(batcher: &Batcher<Row>, events: &Receiver<Event>, progress: &mut Progress) -> Event {
    let mut walked = false;
    loop {
        // The walk is over: only the rows in the queue are waited for.
        let wait = if walked { Duration::ZERO } else { TICK };
        match events.recv_timeout(wait) {
            Ok(Event::Walked) => walked = true,
            Ok(event) => return event,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                unreachable!("the hook on failed rows holds a sender")
            }
        }
        progress.tick(&batcher.stats());
        // Not the close, which would cut the retries of a batch short. Rows that fail have been
        // reported.
        if walked && batcher.flush(TICK) != Err(FlushError::Timeout) {
            return events.try_iter().next().unwrap_or(Event::Walked);
        }
    }
}
