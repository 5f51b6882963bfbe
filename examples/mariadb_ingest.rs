//! Writes lines `id,value,text`, or with `--log` the lines of a log, into MariaDB or MySQL
//! in batches sized by how loaded the server is.
//!
//! ```text
//! cargo run --release --example mariadb_ingest -- --url mysql://me@localhost/shop --create readings.csv
//! ```
//!
//! The handler is `ingest/mariadb_writer.rs`, the sensor `ingest/mariadb_load.rs`; what is common
//! to all databases is in `ingest/run.rs`.

#[path = "ingest/mod.rs"]
mod ingest;

use std::process::ExitCode;
use std::time::Duration;

use ingest::dead_letters::DeadLetters;
use ingest::host_cpu::HostCpu;
use ingest::mariadb_load::MariadbLoad;
use ingest::mariadb_writer::MariadbWriter;
use ingest::options::Options;
use ingest::run::{builder, give_up, ingest};
use mysql::{Conn, Error, Opts};

const PROGRAM: &str = "mariadb_ingest";

fn main() -> ExitCode {
    let options = Options::read(PROGRAM, "mysql://root@localhost/test");
    let opts = match Opts::from_url(&options.url) {
        Ok(opts) => opts,
        Err(problem) => return give_up(PROGRAM, &format!("--url is {:?}: {problem}", options.url)),
    };
    if options.copy {
        return give_up(PROGRAM, &"--copy is for PostgreSQL");
    }
    if options.create {
        let created = Conn::new(opts.clone()).and_then(|mut conn| {
            MariadbWriter::create_tables(&mut conn, &options.table, options.once)
        });
        if let Err(problem) = created {
            return give_up(PROGRAM, &explain(&problem, &options));
        }
    }
    let session = [
        "SET innodb_lock_wait_timeout = 2",
        "SET max_statement_time = 5",
    ];
    let patience = Duration::from_secs(10);
    let mut writer = MariadbWriter::new(
        opts.clone(),
        &options.table,
        options.once,
        &session,
        patience,
    );
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
    let load = MariadbLoad::new(opts, writer.timeouts());
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
    let advice = match problem {
        Error::MySqlError(refused) => match refused.code {
            1146 => format!("there is no table {}: --create makes it", options.table),
            1054 => format!(
                "the table {} has other columns than id, value and text",
                options.table
            ),
            1142 => format!("this user may not write into {}", options.table),
            1045 | 1698 => "the login was refused: check user and password in --url".to_owned(),
            1044 => {
                "there is no such database, or this user may not use it: check --url".to_owned()
            }
            1046 => "--url names no database".to_owned(),
            1049 => "there is no such database: check --url".to_owned(),
            code => format!("the server said {code}"),
        },
        _ => "the server cannot be reached: check host and port in --url".to_owned(),
    };
    format!("{advice} ({problem})")
}
