//! The command line of the examples.

use std::path::PathBuf;
use std::str::FromStr;

use load_aware_batcher::{CostModel, Fixed, LoadThreshold, Policy};

use super::once::Once;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub url: String,
    pub table: String,
    pub sizing: Sizing,
    pub once: Once,
    /// Create the table if it is missing.
    pub create: bool,
    /// PostgreSQL: COPY instead of INSERT.
    pub copy: bool,
    /// Every line is a row, whatever is in it.
    pub log: bool,
    pub dead_letters: PathBuf,
    /// `None` is standard input.
    pub input: Option<PathBuf>,
}

/// How batches are sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    Fixed(usize),
    Threshold,
    Model,
}

impl Sizing {
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Fixed(items) => Box::new(Fixed(items)),
            Self::Threshold => Box::new(LoadThreshold::new()),
            Self::Model => Box::new(CostModel::new()),
        }
    }
}

impl FromStr for Sizing {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if let Some(items) = word.strip_prefix("fixed:") {
            return match items.parse() {
                Ok(items) if items > 0 => Ok(Self::Fixed(items)),
                _ => Err(format!("--batch is {word:?}: fixed:N needs a size from 1")),
            };
        }
        match word {
            "threshold" => Ok(Self::Threshold),
            "model" => Ok(Self::Model),
            _ => Err(format!(
                "--batch is {word:?}: must be fixed:N, threshold or model"
            )),
        }
    }
}

impl Options {
    /// Reads the command line; ends the program with what is wrong with it, or with the help.
    pub fn read(program: &str, url: &str) -> Self {
        match Self::parse(std::env::args().skip(1), url) {
            Ok(Some(options)) => options,
            Ok(None) => {
                println!("{}", help(program, url));
                std::process::exit(0);
            }
            Err(problem) => {
                eprintln!("{program}: {problem}\n\n{}", help(program, url));
                std::process::exit(2);
            }
        }
    }

    /// `Ok(None)` asks for the help.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn parse(
        mut words: impl Iterator<Item = String>,
        url: &str,
    ) -> Result<Option<Self>, String> {
        let mut options = Self {
            url: url.to_owned(),
            table: "readings".to_owned(),
            sizing: Sizing::Model,
            once: Once::Key,
            create: false,
            copy: false,
            log: false,
            dead_letters: PathBuf::from("dead-letters.tsv"),
            input: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &*word {
                "--help" | "-h" => return Ok(None),
                "--url" => options.url = value()?,
                "--table" => options.table = table(value()?)?,
                "--batch" => options.sizing = value()?.parse()?,
                "--once" => options.once = value()?.parse()?,
                "--dead-letters" => options.dead_letters = value()?.into(),
                "--create" => options.create = true,
                "--copy" => options.copy = true,
                "--log" => options.log = true,
                "-" => options.input = None,
                _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
                _ if options.input.is_none() => options.input = Some(word.into()),
                _ => return Err(format!("one file at most, not also {word}")),
            }
        }
        Ok(Some(options))
    }
}

/// A table's name goes into statements as it is, so it must be a plain one.
fn table(name: String) -> Result<String, String> {
    let plain = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(name)
    } else {
        Err(format!("--table is {name:?}: must be of a-z, 0-9 and _"))
    }
}

fn help(program: &str, url: &str) -> String {
    format!(
        "Writes lines `id,value,text` from a file or standard input into a table, in batches.\n\
         A first line that says just that is a heading.\n\n\
         usage: {program} [options] [FILE]\n\n\
         --url URL             where to write [{url}]\n\
         --table NAME          into which table [readings]\n\
         --create              create the table if it is missing\n\
         --batch WAY           fixed:N, threshold or model [model]\n\
         --once WAY            what keeps rows from being stored twice: key, batch or never [key]\n\
         --copy                COPY instead of INSERT (PostgreSQL only)\n\
         --log                 every line is a row: its number is the id, its length the value\n\
         --dead-letters FILE   where lines go that cannot be stored [dead-letters.tsv]"
    )
}
