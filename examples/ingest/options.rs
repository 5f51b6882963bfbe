//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use load_aware_batcher::{Concurrency, CostModel, Fixed, LoadThreshold, Policy};

/// The largest size that a program asks for by mistake: a batch's memory is allocated at once.
const FIXED_MAX: usize = 100_000;

/// More connections than a server takes by default.
const CONNECTIONS_MAX: usize = 100;

/// What was asked for.
pub struct Options {
    pub url: String,
    pub table: String,
    pub dedup: Dedup,
    pub sizing: Sizing,
    /// How many connections write at once.
    pub concurrency: Concurrency,
    /// Create the table if it is missing.
    pub create: bool,
    /// Every line is a row, whatever is in it.
    pub log: bool,
    pub dead_letters: PathBuf,
    /// `None` is standard input.
    pub input: Option<PathBuf>,
}

/// What keeps a row from being stored twice when the answer to a commit is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dedup {
    /// The rows' key.
    Key,
    /// A table of batch ids.
    BatchId,
    /// Nothing: what is in doubt becomes a dead letter.
    None,
}

/// How batches are sized.
#[derive(Clone, Copy)]
pub enum Sizing {
    Model,
    Threshold,
    Fixed(usize),
}

impl Options {
    /// The options, or `None` if the usage is asked for.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        url: &str,
    ) -> Result<Option<Self>, String> {
        let mut parser = lexopt::Parser::from_iter(arguments);
        Self::read(&mut parser, url).map_err(|problem| match problem {
            lexopt::Error::Custom(problem) => problem.to_string(),
            problem => format!("{problem} (try --help)"),
        })
    }

    fn read(parser: &mut lexopt::Parser, url: &str) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            url: url.to_owned(),
            table: "readings".to_owned(),
            dedup: Dedup::Key,
            sizing: Sizing::Model,
            concurrency: Concurrency::default(),
            create: false,
            log: false,
            dead_letters: PathBuf::from("dead-letters.tsv"),
            input: None,
        };
        let mut has_input = false;
        while let Some(argument) = parser.next()? {
            match argument {
                Long("url") => options.url = parser.value()?.string()?,
                Long("table") => options.table = table(parser.value()?.string()?)?,
                Long("dedup") => options.dedup = dedup(&parser.value()?.string()?)?,
                Long("policy") => options.sizing = sizing(&parser.value()?.string()?)?,
                Long("concurrency") => {
                    options.concurrency = concurrency(&parser.value()?.string()?)?;
                }
                Long("create") => options.create = true,
                Long("log") => options.log = true,
                Long("dead-letters") => options.dead_letters = parser.value()?.into(),
                Short('h') | Long("help") => return Ok(None),
                Value(file) if !has_input => {
                    has_input = true;
                    options.input = (file != "-").then(|| file.into());
                }
                Value(file) => return Err(format!("one file at most, not also {file:?}").into()),
                other => return Err(other.unexpected()),
            }
        }
        if options.url.is_empty() {
            return Err("--url is empty".into());
        }
        Ok(Some(options))
    }

    pub fn policy(&self) -> Box<dyn Policy> {
        match self.sizing {
            Sizing::Model => Box::new(CostModel::new()),
            Sizing::Threshold => Box::new(LoadThreshold::new()),
            Sizing::Fixed(rows) => Box::new(Fixed(rows)),
        }
    }

    /// Where the ids of batches go.
    pub fn batch_table(&self) -> String {
        format!("{}_batches", self.table)
    }

    /// What `--create` adds to the column `id`.
    pub fn primary_key(&self) -> &'static str {
        match self.dedup {
            Dedup::Key => "PRIMARY KEY",
            Dedup::BatchId | Dedup::None => "",
        }
    }
}

/// The name goes into `CREATE TABLE` as it is, so it must be a plain one.
fn table(name: String) -> Result<String, lexopt::Error> {
    let plain = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(name)
    } else {
        Err(format!("--table is {name:?}: must be of a-z, 0-9 and _").into())
    }
}

fn dedup(word: &str) -> Result<Dedup, lexopt::Error> {
    match word {
        "key" => Ok(Dedup::Key),
        "batch-id" => Ok(Dedup::BatchId),
        "none" => Ok(Dedup::None),
        _ => Err(format!("--dedup is {word:?}: must be key, batch-id or none").into()),
    }
}

fn sizing(word: &str) -> Result<Sizing, lexopt::Error> {
    let Some(rows) = word.strip_prefix("fixed:") else {
        return match word {
            "model" => Ok(Sizing::Model),
            "threshold" => Ok(Sizing::Threshold),
            _ => Err(format!("--policy is {word:?}: must be model, threshold or fixed:N").into()),
        };
    };
    match rows.parse() {
        Ok(rows) if (1..=FIXED_MAX).contains(&rows) => Ok(Sizing::Fixed(rows)),
        _ => Err(format!("--policy is {word:?}: N must be from 1 to {FIXED_MAX}").into()),
    }
}

fn concurrency(word: &str) -> Result<Concurrency, lexopt::Error> {
    let (fewest, most) = word.split_once('-').unwrap_or((word, word));
    match (fewest.parse(), most.parse()) {
        (Ok(fewest), Ok(most)) if (1..=most).contains(&fewest) && most <= CONNECTIONS_MAX => {
            Ok((fewest..=most).into())
        }
        _ => Err(format!(
            "--concurrency is {word:?}: must be N or FEWEST-MOST, from 1 to {CONNECTIONS_MAX}"
        )
        .into()),
    }
}

/// The help.
pub fn usage(program: &str, url: &str) -> String {
    format!(
        "Writes lines `id,value,text` from a file or standard input into a table, in batches.\n\
         A first line that says just that is a heading.\n\n\
         usage: {program} [options] [FILE]\n\n\
         --url URL             where to write [{url}]\n\
         --table NAME          into which table [readings]\n\
         --create              create the table if it is missing\n\
         --policy model        batches sized by what a call and a row cost (default)\n\
         --policy threshold    batches sized by the load of this host and of the database\n\
         --policy fixed:N      batches of N rows, 1 to {FIXED_MAX}\n\
         --concurrency N       N connections write at once, 1 to {CONNECTIONS_MAX} [1]\n\
         --concurrency 1-8     as many as bring more, at most 8\n\
         --dedup key           the key keeps a row from being stored twice (default)\n\
         --dedup batch-id      a table of batch ids does: for rows without a key\n\
         --dedup none          nothing does: rows in doubt become dead letters\n\
         --log                 every line is a row: its number is the id, its length the value\n\
         --dead-letters FILE   where lines go that cannot be stored [dead-letters.tsv]"
    )
}
