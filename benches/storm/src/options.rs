//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::laws::Law;
use crate::neighbours::Storm;
use crate::run::Plan;

/// What to run.
pub struct Options {
    pub backends: Vec<Name>,
    /// `None`: all, or in a quick bench one for each database.
    storms: Option<Vec<Storm>>,
    pub laws: Vec<Law>,
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

    --quick          under three minutes: one storm a database, two fixed sizes beside the law that learns
    --check          judge the laws by what is promised of them; exit code 1 if a promise is not kept
    --backend LIST   of postgres, mariadb, sqlite
    --storm LIST     of cpu, locks, fsync
    --law LIST       of fixed:N, threshold, model
    --rounds N       how often each law runs
    --rate N         an open loop: so many rows a second are due, taken or not
    --csv FILE       every run's figures
    --svg FILE       throughput and batch size over each law's own time, of the last round";

impl Options {
    fn full() -> Self {
        let sizes = [1, 20, 50, 100, 500, 1_000, 5_000].map(Law::Fixed);
        Self {
            backends: vec![Name::Postgres, Name::Mariadb, Name::Sqlite],
            storms: None,
            laws: sizes
                .into_iter()
                .chain([Law::Threshold, Law::Model])
                .collect(),
            rounds: 5,
            plan: plan(2_000, 4_000, 5_000, 4_000, 8),
            check: false,
            csv: None,
            svg: None,
            quick: false,
        }
    }

    /// The two sizes that were the best in every phase of every storm, and rounds instead of long
    /// phases: what is judged are medians, and with three rounds there are two others to choose the
    /// best size by. Not the threshold law: it grows for longer than such a run lasts.
    fn quick() -> Self {
        let laws = vec![Law::Fixed(1_000), Law::Fixed(5_000), Law::Model];
        Self {
            laws,
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
        // First, wherever it stands: the others change what it sets.
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
                // What cargo adds, and what was looked for above.
                "--bench" | "--quick" => {}
                "--check" => options.check = true,
                "--backend" => options.backends = list(&value()?)?,
                "--storm" => options.storms = Some(list(&value()?)?),
                "--law" => options.laws = list(&value()?)?,
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

fn plan(warm_up: u64, calm: u64, storm: u64, after: u64, turns: u32) -> Plan {
    let [warm_up, calm, storm, after] = [warm_up, calm, storm, after].map(Duration::from_millis);
    Plan {
        warm_up,
        calm,
        storm,
        after,
        turns,
        rate: None,
    }
}

/// A comma-separated list without repetitions: a law that ran twice in a round would be two runs of
/// one round.
fn list<T: FromStr<Err = String> + PartialEq>(words: &str) -> Result<Vec<T>, String> {
    let mut list = Vec::new();
    for word in words.split(',') {
        let item = word.parse()?;
        if list.contains(&item) {
            return Err(format!("{word} is there twice"));
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
