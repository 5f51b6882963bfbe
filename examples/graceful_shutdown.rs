//! A batcher in a `static`, closed at the end of `main` and from a signal handler's thread.
//!
//! A static is never dropped: what waits in it at the return of `main` or at `std::process::exit`
//! is lost, and nothing reports that. So both ways out call `shutdown(&self)`. The first caller
//! gets the lists of the report; the other one waits too, and gets the counts.
//!
//! `cargo run --example graceful_shutdown -- --rows 1000` stores that many rows and ends. With
//! `--serve` it goes on until it is interrupted (Ctrl-C, or `kill -TERM`).

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use load_aware_batcher::{Batch, Batcher, BuildError, CloseReport, LoadFeedback};

/// Shorter than the grace that a supervisor gives before it kills: 10 s for Docker, 30 s for
/// Kubernetes.
const GRACE: Duration = Duration::from_secs(8);

static BATCHER: OnceLock<Batcher<u64>> = OnceLock::new();

fn start() -> Result<Batcher<u64>, BuildError> {
    // Long lingers show best what a missing shutdown would lose.
    Batcher::builder()
        .linger(Duration::from_secs(3_600))
        .spawn(|batch: &mut Batch<u64>| {
            std::thread::sleep(Duration::from_millis(1)); // in the place of a database
            assert!(!batch.is_empty());
            Ok(LoadFeedback::new())
        })
}

/// Closes the batcher, wherever it is called from, and reports what became of the rows.
fn shut_down(batcher: &Batcher<u64>, by: &str) -> ExitCode {
    let report: CloseReport<u64> = batcher.shutdown(GRACE);
    println!(
        "{by}: {} rows stored, {} failed, {} unsent",
        report.handled, report.failed_total, report.unsent_total
    );
    // The lists are the place to save what was not stored: a file, a dead-letter queue.
    for row in &report.unsent {
        eprintln!("not stored: {row}");
    }
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut rows = 1_000;
    let mut serve = false;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("rows") => rows = arguments.value()?.to_string_lossy().parse()?,
            lexopt::Arg::Long("serve") => serve = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let built = start()?;
    let batcher = BATCHER.get_or_init(|| built);

    // `ctrlc` runs this on a thread of its own, where locks and waits are allowed. In a real signal
    // handler they are not. Its feature `termination` adds SIGTERM and SIGHUP to SIGINT.
    ctrlc::set_handler(move || {
        let code = shut_down(batcher, "signal");
        std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 });
    })?;

    for row in 0..rows {
        if let Err(refused) = batcher.add(row) {
            // The signal came first: this row was not accepted, and comes back in the error.
            eprintln!("{refused}: row {} comes back", refused.into_inner());
            break;
        }
    }
    println!("{rows} rows accepted");
    if serve {
        loop {
            std::thread::park();
        }
    }
    Ok(shut_down(batcher, "end of main"))
}
