//! Writes lines `id,value,text`, or with `--log` the lines of a log, into PostgreSQL
//! in batches sized by how loaded the server is.
//!
//! ```text
//! cargo run --release --example postgres_ingest -- --url postgres://me@localhost/shop --create readings.csv
//! ```
//!
//! The handler is `ingest/postgres_writer.rs`, the sensor `ingest/postgres_load.rs`; what is common
//! to all databases is in `ingest/run.rs`. Without `--once never` a server that is killed and comes
//! back costs no row and doubles none.

#[path = "ingest/mod.rs"]
mod ingest;

use std::error::Error as _;
use std::process::ExitCode;
use std::time::Duration;

use ingest::dead_letters::DeadLetters;
use ingest::host_cpu::HostCpu;
use ingest::options::Options;
use ingest::postgres_load::PostgresLoad;
use ingest::postgres_writer::{PostgresWriter, Way};
use ingest::run::{builder, give_up, ingest};
use postgres::{Config, Error, NoTls};

const PROGRAM: &str = "postgres_ingest";

fn main() -> ExitCode {
    let options = Options::read(PROGRAM, "postgres://postgres@localhost/postgres");
    let mut config: Config = match options.url.parse() {
        Ok(config) => config,
        Err(problem) => return give_up(PROGRAM, &format!("--url is {:?}: {problem}", options.url)),
    };
    config
        .connect_timeout(Duration::from_secs(5))
        .application_name(PROGRAM);
    if options.create {
        let created = config.connect(NoTls).and_then(|mut client| {
            PostgresWriter::create_tables(&mut client, &options.table, options.once)
        });
        if let Err(problem) = created {
            return give_up(PROGRAM, &explain(&problem, &options));
        }
    }
    let way = if options.copy { Way::Copy } else { Way::Insert };
    let mut writer = PostgresWriter::new(config.clone(), &options.table, options.once, way)
        .session("SET statement_timeout = '5s'; SET lock_timeout = '2s'");
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
    let load = PostgresLoad::new(config, writer.timeouts());
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
    // The driver keeps the reason one level down.
    let detail = match (problem.as_db_error(), problem.source()) {
        (Some(error), _) => error.message().to_owned(),
        (None, Some(reason)) => format!("{problem}: {reason}"),
        (None, None) => problem.to_string(),
    };
    let advice = match problem.code().map(|code| code.code()) {
        Some("42P01") => format!("there is no table {}: --create makes it", options.table),
        Some("42703") => format!(
            "the table {} has other columns than id, value and text",
            options.table
        ),
        Some("42501") => format!("this user may not write into {}", options.table),
        Some("28P01" | "28000") => {
            "the login was refused: check user and password in --url".to_owned()
        }
        Some("3D000") => "there is no such database: check --url".to_owned(),
        Some(code) => format!("the server said {code}"),
        None if detail.contains("password missing") => {
            "the server asks for a password: put it into --url".to_owned()
        }
        None if detail.contains("invalid configuration") => "--url says too little".to_owned(),
        None => "the server cannot be reached: check host and port in --url".to_owned(),
    };
    format!("{advice} ({detail})")
}
