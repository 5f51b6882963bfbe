//! The command line.

use std::time::Duration;

use crate::cells::{Cell, NARROW, Situation, WIDE};
use crate::run::Span;

/// What to run.
pub struct Options {
    pub backends: Vec<Name>,
    pub cells: Vec<Cell>,
    pub plan: Plan,
    pub check: bool,
}

/// How long, and which sizes.
pub struct Plan {
    /// The grid's sizes for a bound of the size.
    pub sizes: fn(usize) -> &'static [usize],
    pub fixed: Span,
    pub one: Span,
    pub range: Span,
    pub best: Span,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Postgres,
    Mariadb,
}

pub const USAGE: &str =
    "usage: cargo run --release --manifest-path benches/parallel/Cargo.toml -- [options]

    --quick          under four minutes: five cells a database, one or two sizes
    --check          judge the model by its targets; exit code 1 if one is missed
    --backend NAME   postgres or mariadb alone
    --cell N         one of the cells alone, from 1";

impl Options {
    fn full() -> Self {
        let situations = [
            Situation::Loopback,
            Situation::Delay(1),
            Situation::Delay(10),
            Situation::SlowCommit,
            Situation::SecondIndex,
        ];
        let cells = situations.into_iter().flat_map(|situation| {
            [WIDE, NARROW].map(|max_batch_size| Cell {
                situation,
                max_batch_size,
            })
        });
        Self {
            backends: vec![Name::Postgres, Name::Mariadb],
            cells: cells.collect(),
            plan: Plan {
                sizes: |max| match max {
                    NARROW => &[100, NARROW],
                    _ => &[100, NARROW, 5_000, WIDE],
                },
                fixed: span(2_500, 2_000),
                one: span(10_000, 4_000),
                range: span(20_000, 8_000),
                best: span(5_000, 4_000),
            },
            check: false,
        }
    }

    fn quick() -> Self {
        let cells = [
            (Situation::Loopback, WIDE),
            (Situation::Delay(1), WIDE),
            (Situation::Delay(10), WIDE),
            (Situation::Delay(10), NARROW),
            (Situation::SlowCommit, NARROW),
        ];
        let cells = cells.map(|(situation, max_batch_size)| Cell {
            situation,
            max_batch_size,
        });
        Self {
            cells: cells.to_vec(),
            plan: Plan {
                sizes: |max| match max {
                    NARROW => &[NARROW],
                    _ => &[5_000, WIDE],
                },
                fixed: span(550, 400),
                one: span(1_800, 800),
                // A little more than the time within which 0.9 of the best rate must be reached.
                range: span(10_500, 3_000),
                best: span(1_500, 1_200),
            },
            ..Self::full()
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
                "--quick" => {}
                "--check" => options.check = true,
                "--backend" => {
                    options.backends = vec![match &*value()? {
                        "postgres" => Name::Postgres,
                        "mariadb" => Name::Mariadb,
                        name => return Err(format!("there is no backend {name:?}")),
                    }];
                }
                "--cell" => {
                    let number = value()?;
                    let place = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    let cell = place.and_then(|place| options.cells.get(place).copied());
                    let last = options.cells.len();
                    options.cells = vec![cell.ok_or_else(|| {
                        format!("--cell is {number:?}: must be from 1 to {last}")
                    })?];
                }
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(Some(options))
    }
}

fn span(total_ms: u64, counted_ms: u64) -> Span {
    Span {
        total: Duration::from_millis(total_ms),
        counted: Duration::from_millis(counted_ms),
    }
}
