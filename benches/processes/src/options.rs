//! The command line.

use std::time::Duration;

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// The numbers of processes.
    pub processes: Vec<usize>,
    pub plan: Plan,
    pub check: bool,
}

/// How long and how often.
#[derive(Debug)]
pub struct Plan {
    pub rounds: usize,
    /// The grid of fixed sizes.
    pub sizes: &'static [usize],
    pub fixed: Span,
    pub default: Span,
    /// How long the others are at work before one more process joins.
    pub before_joining: Duration,
    /// From its start to the end of its run.
    pub joining: Duration,
}

/// How long a run lasts.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The first part, which does not count: processes learn.
    pub lead: Duration,
    pub counted: Duration,
}

pub const USAGE: &str =
    "usage: cargo run --release --manifest-path benches/processes/Cargo.toml -- [options]

    --quick            under four minutes: three rounds of short runs
    --check            judge the default policy by its targets; exit code 1 if one is missed
    --processes LIST   numbers of processes, each from 1 to 16; 1,2,4,8
    --rounds N         at least 2: the best fixed size of a round is chosen by the others";

/// Each process has two connections, and the server has 64.
const PROCESSES_MAX: usize = 16;

impl Options {
    fn full() -> Self {
        Self {
            processes: vec![1, 2, 4, 8],
            plan: Plan {
                rounds: 5,
                sizes: &[200, 1_000, 5_000, 20_000],
                fixed: span(1_000, 4_000),
                default: span(10_000, 4_000),
                before_joining: Duration::from_secs(8),
                joining: Duration::from_secs(30),
            },
            check: false,
        }
    }

    fn quick() -> Self {
        Self {
            plan: Plan {
                rounds: 3,
                sizes: &[1_000, 5_000, 20_000],
                fixed: span(400, 1_200),
                default: span(3_500, 1_500),
                before_joining: Duration::from_secs(3),
                joining: Duration::from_secs(9),
            },
            ..Self::full()
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
                "--quick" => {}
                "--check" => options.check = true,
                "--processes" => {
                    let list = value()?;
                    let number = |text: &str| {
                        let number = text.parse::<usize>().ok();
                        number
                            .filter(|number| (1..=PROCESSES_MAX).contains(number))
                            .ok_or_else(|| {
                                format!(
                                    "--processes has {text:?}: must be from 1 to {PROCESSES_MAX}"
                                )
                            })
                    };
                    options.processes = list.split(',').map(number).collect::<Result<_, _>>()?;
                }
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse::<usize>().ok().filter(|rounds| *rounds >= 2);
                    options.plan.rounds = rounds
                        .ok_or_else(|| format!("--rounds is {text:?}: must be at least 2"))?;
                }
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(Some(options))
    }
}

fn span(lead_ms: u64, counted_ms: u64) -> Span {
    Span {
        lead: Duration::from_millis(lead_ms),
        counted: Duration::from_millis(counted_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn quick_changes_the_plan_wherever_it_stands_and_keeps_what_is_said_beside_it() {
        for line in ["--quick --rounds 7 --check", "--check --rounds 7 --quick"] {
            let options = parse(line).unwrap().unwrap();
            assert_eq!(options.plan.rounds, 7, "{line}");
            assert_eq!(options.plan.sizes, Options::quick().plan.sizes, "{line}");
            assert!(options.check, "{line}");
        }
        let options = parse("").unwrap().unwrap();
        assert_eq!(options.plan.sizes, Options::full().plan.sizes);
        assert_eq!(options.processes, [1, 2, 4, 8]);
        assert!(!options.check);
    }

    #[test]
    fn numbers_of_processes_come_as_a_list() {
        let options = parse("--processes 3,16").unwrap().unwrap();
        assert_eq!(options.processes, [3, 16]);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_option_and_its_value() {
        for (line, part) in [
            ("--processes", "--processes needs a value"),
            ("--processes 1,0", "\"0\""),
            ("--processes 17", "\"17\""),
            ("--processes 2,", "\"\""),
            ("--rounds 1", "\"1\""),
            ("--rounds many", "\"many\""),
            ("--fast", "unknown option --fast"),
        ] {
            let problem = parse(line).unwrap_err();
            assert!(problem.contains(part), "{line}: {problem}");
        }
        assert!(parse("--quick --help").unwrap().is_none());
    }
}
