//! Writes lines `id,value,text`, or with `--log` the lines of a log, into an SQLite file
//! in batches sized by how contended it is.
//!
//! ```text
//! cargo run --release --example sqlite_ingest -- --url readings.db --create readings.csv
//! ```
//!
//! The handler is `ingest/sqlite_writer.rs`, the sensor `ingest/sqlite_load.rs`; what is common to
//! all databases is in `ingest/run.rs`.

#[path = "ingest/mod.rs"]
mod ingest;

use std::path::Path;
use std::process::ExitCode;

use ingest::dead_letters::DeadLetters;
use ingest::host_cpu::HostCpu;
use ingest::options::Options;
use ingest::run::{builder, give_up, ingest};
use ingest::sqlite_load::SqliteLoad;
use ingest::sqlite_writer::SqliteWriter;
use rusqlite::{Error, ErrorCode};

const PROGRAM: &str = "sqlite_ingest";

fn main() -> ExitCode {
    let options = Options::read(PROGRAM, "readings.db");
    if options.copy {
        return give_up(PROGRAM, &"--copy is for PostgreSQL");
    }
    let path = Path::new(&options.url);
    if options.url.is_empty() {
        return give_up(PROGRAM, &"--url is empty: it names the file");
    }
    if options.create {
        if let Err(problem) = SqliteWriter::create_tables(path, &options.table, options.once) {
            return give_up(PROGRAM, &explain(&problem, &options));
        }
    }
    let mut writer = SqliteWriter::new(path, &options.table, options.once);
    if let Err(problem) = writer.connect() {
        return give_up(PROGRAM, &explain(&problem, &options));
    }
    let dead_letters = match DeadLetters::open(&options.dead_letters) {
        Ok(file) => file,
        Err(problem) => {
            return give_up(
                PROGRAM,
                &format!("{}: {problem}", options.dead_letters.display()),
            );
        }
    };
    let load = SqliteLoad::new(writer.timeouts());
    let builder = builder(&options, &dead_letters);
    ingest(
        PROGRAM,
        &options,
        builder,
        &dead_letters,
        writer,
        vec![Box::new(HostCpu::new()), Box::new(load)],
    )
}

/// What to do about it, for the mistakes that are made most.
fn explain(problem: &Error, options: &Options) -> String {
    let advice = match problem.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => cannot_open(Path::new(&options.url)),
        Some(ErrorCode::NotADatabase) => format!("{} is no SQLite file", options.url),
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            format!("{} cannot be written", options.url)
        }
        Some(ErrorCode::DatabaseBusy) => format!("{} stayed locked", options.url),
        _ if problem.to_string().contains("no such table") => {
            format!("there is no table {}: --create makes it", options.table)
        }
        _ => "SQLite refused".to_owned(),
    };
    format!("{advice} ({problem})")
}

fn cannot_open(path: &Path) -> String {
    // Of a name alone the parent is empty: here.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => format!("there is no folder {}", folder.display()),
        None if path.is_dir() => format!("{} is a folder", path.display()),
        None if path.exists() => format!("{} cannot be opened", path.display()),
        None => format!("there is no file {}: --create makes it", path.display()),
    }
}
