//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::candidates::Candidate;
use crate::competitors::Storm;
use crate::run::Plan;

/// What to run.
pub struct Options {
    pub backends: Vec<Name>,
    /// `None` is all of them, or with `--quick` one for each database.
    storms: Option<Vec<Storm>>,
    pub candidates: Vec<Candidate>,
    pub rounds: usize,
    pub plan: Plan,
    pub check: bool,
    pub csv: Option<PathBuf>,
    pub svg: Option<PathBuf>,
    quick: bool,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Postgres,
    Mariadb,
    Sqlite,
}

pub const USAGE: &str = "usage: cargo run --release --manifest-path benches/storm/Cargo.toml -- [options]

    --quick          under three minutes: one storm for each database, two fixed sizes, and the model
    --check          compare the policies with their targets; exit code 1 if one is missed
    --backend LIST   of postgres, mariadb, sqlite
    --storm LIST     kinds of competing load, of cpu, locks, fsync
    --policy LIST    of fixed:N, threshold, model
    --rounds N       how often each policy runs
    --rate N         an open loop: N rows a second are due, taken or not
    --csv FILE       every run's figures
    --svg FILE       throughput and batch size over each policy's own time, of the last round";

impl Options {
    fn full() -> Self {
        let sizes = [1, 20, 50, 100, 500, 1_000, 5_000].map(Candidate::Fixed);
        Self {
            backends: vec![Name::Postgres, Name::Mariadb, Name::Sqlite],
            storms: None,
            candidates: sizes
                .into_iter()
                .chain([Candidate::Threshold, Candidate::Model])
                .collect(),
            rounds: 5,
            plan: plan(2_000, 4_000, 5_000, 4_000, 8),
            check: false,
            csv: None,
            svg: None,
            quick: false,
        }
    }

    /// The two sizes that were the best in every phase of every storm. Several rounds instead of
    /// long phases: the medians are judged, and with three rounds there are two others to choose
    /// the best size by. Without `LoadThreshold`, which grows for longer than such a run lasts.
    fn quick() -> Self {
        let candidates = vec![
            Candidate::Fixed(1_000),
            Candidate::Fixed(5_000),
            Candidate::Model,
        ];
        Self {
            candidates,
            rounds: 3,
            plan: plan(400, 900, 1_500, 1_300, 3),
            quick: true,
            ..Self::full()
        }
    }

    pub fn storms(&self, backend: Name) -> Vec<Storm> {
        match (&self.storms, backend) {
            (Some(storms), _) => storms.clone(),
            (None, _) if !self.quick => vec![Storm::Cpu, Storm::Locks, Storm::Fsync],
            (None, Name::Postgres | Name::Mariadb) => vec![Storm::Cpu],
            (None, Name::Sqlite) => vec![Storm::Locks],
        }
    }

    /// `Ok(None)` asks for the help.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn parse(words: Vec<String>) -> Result<Option<Self>, String> {
        // First, wherever it stands: the other options change what it sets.
        let mut options = if words.iter().any(|word| word == "--quick") {
            Self::quick()
        } else {
            Self::full()
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &*word {
                "--help" | "-h" => return Ok(None),
                // Cargo adds the first, and the second was handled above.
                "--bench" | "--quick" => {}
                "--check" => options.check = true,
                "--backend" => options.backends = list(&value()?)?,
                "--storm" => options.storms = Some(list(&value()?)?),
                "--policy" | "--law" => options.candidates = list(&value()?)?,
                "--rounds" => options.rounds = number(&word, &value()?)?,
                "--rate" => options.plan.rate = Some(number(&word, &value()?)? as f64),
                "--csv" => options.csv = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        if options.check && options.plan.rate.is_some() {
            return Err("--check judges the closed loop: leave out --rate".to_owned());
        }
        Ok(Some(options))
    }
}

fn plan(warm_up: u64, before: u64, storm: u64, after: u64, turns: u32) -> Plan {
    let [warm_up, before, storm, after] =
        [warm_up, before, storm, after].map(Duration::from_millis);
    Plan {
        warm_up,
        before,
        storm,
        after,
        turns,
        rate: None,
    }
}

/// A comma-separated list without repetitions. A candidate that ran twice in a round would have two
/// runs of one round.
fn list<T: FromStr<Err = String> + PartialEq>(words: &str) -> Result<Vec<T>, String> {
    let mut list = Vec::new();
    for word in words.split(',') {
        let item = word.parse()?;
        if list.contains(&item) {
            return Err(format!("{word} is given twice"));
        }
        list.push(item);
    }
    Ok(list)
}

fn number(option: &str, word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!(
            "{option} is {word:?}: must be a whole number from 1"
        )),
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "postgres" => Ok(Self::Postgres),
            "mariadb" => Ok(Self::Mariadb),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(format!(
                "there is no backend {name:?}: must be postgres, mariadb or sqlite"
            )),
        }
    }
}
