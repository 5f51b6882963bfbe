//! The command line.

use lexopt::prelude::{Long, Short, ValueExt};

/// Which database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Postgres,
    Mariadb,
    Sqlite,
}

/// What to run.
pub struct Options {
    pub databases: Vec<Name>,
    pub rows: usize,
    pub rounds: usize,
    pub check: bool,
}

pub const USAGE: &str =
    "usage: cargo run --release --manifest-path benches/loaders/Cargo.toml -- [options]

    --quick          300 000 rows and three rounds; otherwise 2 000 000 rows and five rounds
    --check          exit code 1 if a sink is slower than is promised of it
    --backend LIST   of postgres, mariadb, sqlite
    --rows N         a multiple of 10 000
    --rounds N       how often each way runs";

impl Options {
    /// `None` if the usage was asked for.
    pub fn parse(arguments: Vec<String>) -> Result<Option<Self>, String> {
        let (mut rows, mut rounds, mut check, mut quick) = (None, None, false, false);
        let mut databases = vec![Name::Postgres, Name::Mariadb, Name::Sqlite];
        let mut parser = lexopt::Parser::from_args(arguments);
        let text = |error: lexopt::Error| error.to_string();
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                Long("quick") => quick = true,
                Long("check") => check = true,
                Long("rows") => {
                    let value: usize = parser.value().and_then(|v| v.parse()).map_err(text)?;
                    // Each way writes whole statements, the slowest a tenth of the rows.
                    if value == 0 || value % 10_000 != 0 {
                        return Err(format!("--rows {value} is not a multiple of 10 000"));
                    }
                    rows = Some(value);
                }
                Long("rounds") => {
                    let value: usize = parser.value().and_then(|v| v.parse()).map_err(text)?;
                    if value == 0 {
                        return Err("--rounds 0 measures nothing".to_owned());
                    }
                    rounds = Some(value);
                }
                Long("backend") => {
                    let list = parser.value().and_then(|v| v.string()).map_err(text)?;
                    databases = list.split(',').map(name).collect::<Result<_, _>>()?;
                }
                Long("help") | Short('h') => return Ok(None),
                other => return Err(text(other.unexpected())),
            }
        }
        let (all_rows, all_rounds) = if quick { (300_000, 3) } else { (2_000_000, 5) };
        Ok(Some(Self {
            databases,
            rows: rows.unwrap_or(all_rows),
            rounds: rounds.unwrap_or(all_rounds),
            check,
        }))
    }
}

fn name(text: &str) -> Result<Name, String> {
    match text {
        "postgres" => Ok(Name::Postgres),
        "mariadb" => Ok(Name::Mariadb),
        "sqlite" => Ok(Name::Sqlite),
        other => Err(format!(
            "--backend {other} is none of postgres, mariadb, sqlite"
        )),
    }
}
