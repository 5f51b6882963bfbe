//! The sinks compared with each database's own bulk loader, and with statements written by hand.
//!
//! ```text
//! cargo run --release --manifest-path benches/loaders/Cargo.toml -- --quick --check
//! cargo run --release --manifest-path benches/loaders/Cargo.toml
//! ```
//!
//! Each round writes the same rows into a new table in four ways: with the loader's program from a
//! CSV file, with the sink and its defaults, with `INSERT`s of 1 000 rows, and row by row in one
//! transaction. The last one writes a tenth of the rows. All but the loader make their rows while
//! they write. The servers run in temporary folders. The figures are medians over the rounds.

mod database;
mod mariadb;
mod options;
mod postgres;
mod program;
mod rounds;
mod row;
mod sqlite;
mod table;
mod usage;

use std::process::ExitCode;

use database::{Database, Failure, Key, Rows};
use options::{Name, Options, USAGE};
use table::{HEAD, Section};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1).collect()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("loaders: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("loaders: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything. True if no sink misses its target.
fn run(options: &Options) -> Result<bool, Failure> {
    let folder = tempfile::tempdir()?;
    let csv = folder.path().join("rows.csv");
    row::write_csv(&csv, options.rows)?;
    let rows = Rows {
        count: options.rows,
        csv: &csv,
    };
    let mut sections = Vec::new();
    for name in &options.databases {
        let Some(mut database) = start(*name)? else {
            continue;
        };
        for key in [Key::Primary, Key::None] {
            eprintln!("{}, {key}", database.name());
            let runs = rounds::measure(database.as_mut(), key, rows, options.rounds)?;
            sections.push(Section {
                database: database.name(),
                loader: database.loader(),
                key,
                target: database.target(key),
                rows: options.rows,
                runs,
            });
        }
    }
    println!("{HEAD}");
    for line in sections.iter().flat_map(Section::lines) {
        println!("{line}");
    }
    if !options.check {
        return Ok(true);
    }
    println!();
    let mut all_kept = true;
    for (text, kept) in sections.iter().map(Section::judgement) {
        println!("{text}");
        all_kept &= kept;
    }
    Ok(all_kept)
}

/// `None` where there is no server.
fn start(name: Name) -> Result<Option<Box<dyn Database>>, Failure> {
    fn boxed(database: impl Database + 'static) -> Box<dyn Database> {
        Box::new(database)
    }
    Ok(match name {
        Name::Postgres => postgres::Postgres::start().map(boxed),
        Name::Mariadb => mariadb::Mariadb::start().map(boxed),
        Name::Sqlite => Some(boxed(sqlite::Sqlite::start()?)),
    })
}
