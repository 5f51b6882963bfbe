//! The command line: what it may say and what is wrong with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread::available_parallelism;

use lexopt::prelude::*;

pub const USAGE: &str = "\
Walks DIR and writes one row for each regular file under it into a table of SQLite.

usage: file_index [DIR] [--db FILE] [--threads N] [--policy model|threshold|fixed:N] [--hash] [--quiet]

  DIR                  the directory to walk; default `.`
  --db FILE            the database; default `file_index.db`
  --threads N          walker threads, 1 to 256; default one for each core
  --policy model       batches sized by what a call and a row cost (default)
  --policy threshold   batches sized by the load of this host and of the database
  --policy fixed:N     batches of N rows, 1 to 100000
  --hash               read every file and store its BLAKE3 hash
  --quiet              say only what went wrong
";

const THREADS_MAX: usize = 256;
/// The queue's memory is allocated at the start: a size is not a way to ask for all of it.
const FIXED_MAX: usize = 100_000;

pub struct Options {
    pub dir: PathBuf,
    pub db: PathBuf,
    pub threads: usize,
    pub policy: Sizing,
    pub hash: bool,
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizing {
    Model,
    Threshold,
    Fixed(usize),
}

impl Options {
    /// The options, or `None` if the usage is asked for.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, String> {
        Self::read(&mut lexopt::Parser::from_iter(arguments)).map_err(|problem| match problem {
            lexopt::Error::Custom(problem) => problem.to_string(),
            problem => format!("{problem} (try --help)"),
        })
    }

    fn read(parser: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let (mut dir, mut db) = (None, PathBuf::from("file_index.db"));
        let (mut threads, mut policy, mut hash, mut quiet) = (None, Sizing::Model, false, false);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("db") => db = parser.value()?.into(),
                Long("threads") => {
                    threads = Some(count("--threads", &parser.value()?, THREADS_MAX)?)
                }
                Long("policy") => policy = sizing(&parser.value()?)?,
                Long("hash") => hash = true,
                Long("quiet") => quiet = true,
                Short('h') | Long("help") => return Ok(None),
                Value(value) if dir.is_none() => dir = Some(PathBuf::from(value)),
                other => return Err(other.unexpected()),
            }
        }
        let dir = dir.unwrap_or_else(|| ".".into());
        for (name, path) in [("DIR", &dir), ("--db", &db)] {
            if path.as_os_str().is_empty() {
                return Err(format!("{name} is an empty path").into());
            }
        }
        let threads = threads.unwrap_or_else(|| {
            available_parallelism()
                .map_or(2, usize::from)
                .min(THREADS_MAX)
        });
        Ok(Some(Self {
            dir,
            db,
            threads,
            policy,
            hash,
            quiet,
        }))
    }
}

fn count(name: &str, value: &OsString, max: usize) -> Result<usize, lexopt::Error> {
    let parsed = value
        .to_str()
        .and_then(|text| text.parse().ok())
        .filter(|count| (1..=max).contains(count));
    parsed.ok_or_else(|| {
        format!("{name} is {value:?}: must be a whole number from 1 to {max}").into()
    })
}

fn sizing(value: &OsString) -> Result<Sizing, lexopt::Error> {
    let text = value.to_string_lossy();
    match text.strip_prefix("fixed:") {
        Some(rows) => count("--policy fixed:N", &rows.into(), FIXED_MAX).map(Sizing::Fixed),
        None if text == "model" => Ok(Sizing::Model),
        None if text == "threshold" => Ok(Sizing::Threshold),
        None => {
            Err(format!("--policy is {value:?}: must be `model`, `threshold` or `fixed:N`").into())
        }
    }
}
