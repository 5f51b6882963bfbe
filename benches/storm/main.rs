//! Real databases under real neighbours: which way of sizing batches holds in calm, in a storm and after it.
//!
//! ```text
//! cargo bench --bench storm -- --quick            # under three minutes
//! cargo bench --bench storm -- --rounds 5         # all of it
//! cargo bench --bench storm -- --backend postgres --storm cpu --law fixed:1000,threshold --rounds 5
//! ```
//!
//! Every law runs in turn through warm-up, calm, storm, after, on a table emptied before, and so over several rounds; what is
//! printed are medians over the rounds. Closed loop: rows are added as fast as they are taken. Open loop (`--rate`): so many a
//! second whatever happens, and the times count from when a row was due.

#[path = "../../examples/ingest/mod.rs"]
mod ingest;
#[path = "../../tests/support/servers/mod.rs"]
mod servers;

mod backend;
mod chart;
mod laws;
mod mariadb;
mod measure;
mod neighbours;
mod postgres;
mod run;
mod sqlite;
mod tables;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use backend::Backend;
use laws::Law;
use neighbours::Storm;
use run::{Plan, Run};

/// What to run.
struct Options {
    backends: Vec<String>,
    storms: Vec<Storm>,
    laws: Vec<Law>,
    rounds: usize,
    plan: Plan,
    /// Only the storms that tell most of each database.
    quick: bool,
    check: bool,
    csv: Option<PathBuf>,
    svg: Option<PathBuf>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Options {
    fn full() -> Self {
        let names = "fixed:1,fixed:20,fixed:50,fixed:100,fixed:500,fixed:1000,fixed:5000,threshold,model";
        Self {
            backends: ["postgres", "mariadb", "sqlite"].map(str::to_owned).to_vec(),
            storms: vec![Storm::Cpu, Storm::Locks, Storm::Fsync],
            laws: names.split(',').map(|name| name.parse().expect("a law")).collect(),
            rounds: 5,
            plan: Plan { warm_up: 2 * SECOND, calm: 4 * SECOND, storm: 5 * SECOND, after: 4 * SECOND, rate: None },
            quick: false,
            check: false,
            csv: None,
            svg: None,
        }
    }

    /// Fewer sizes, fewer storms, one round of short phases.
    fn quick(self) -> Self {
        let laws = self.laws.into_iter().filter(|law| !matches!(law, Law::Fixed(1 | 20 | 50 | 500))).collect();
        let plan = Plan {
            warm_up: SECOND,
            calm: SECOND * 3 / 2,
            storm: 2 * SECOND,
            after: SECOND * 3 / 2,
            rate: self.plan.rate,
        };
        Self { laws, rounds: 1, plan, quick: true, ..self }
    }

    fn wants(&self, backend: &str, storm: Storm) -> bool {
        let tells_most = match storm {
            Storm::Cpu => backend != "sqlite",
            Storm::Locks => backend != "mariadb",
            Storm::Fsync => false,
        };
        self.storms.contains(&storm) && (tells_most || !self.quick)
    }

    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::full();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let list = |value: String| value.split(',').map(str::to_owned).collect::<Vec<_>>();
            match &*word {
                // What cargo adds.
                "--bench" => {}
                "--quick" => options = options.quick(),
                "--check" => options.check = true,
                "--backend" => options.backends = list(value()?),
                "--storm" => {
                    options.storms = list(value()?).iter().map(|name| name.parse()).collect::<Result<_, _>>()?
                }
                "--law" => options.laws = list(value()?).iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
                "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
                "--rate" => options.plan.rate = Some(value()?.parse().map_err(|_| "--rate needs rows a second")?),
                "--csv" => options.csv = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("storm: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut runs: Vec<Run> = Vec::new();
    for name in &options.backends {
        let Some(mut backend) = open(name) else { continue };
        for storm in options.storms.iter().filter(|storm| options.wants(name, **storm)) {
            for round in 0..options.rounds {
                for law in &options.laws {
                    let run = run::run(&mut *backend, *storm, *law, round, &options.plan);
                    eprintln!("{}", tables::line(&run));
                    runs.push(run);
                }
            }
        }
    }
    tables::print(&runs);
    let mut ok = true;
    if let Some(path) = &options.csv {
        ok &= saved(path, &tables::csv(&runs));
    }
    if let Some(path) = &options.svg {
        ok &= saved(path, &chart::svg(&runs, &options.plan));
    }
    if options.check {
        let verdict = targets::check(&runs);
        verdict.known.iter().for_each(|limit| println!("known limit: {limit}"));
        verdict.missed.iter().for_each(|target| println!("MISSED {target}"));
        ok &= verdict.missed.is_empty();
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn saved(path: &PathBuf, text: &str) -> bool {
    let result = std::fs::write(path, text);
    if let Err(problem) = &result {
        eprintln!("storm: {}: {problem}", path.display());
    }
    result.is_ok()
}

fn open(name: &str) -> Option<Box<dyn Backend>> {
    match name {
        "postgres" => postgres::open(),
        "mariadb" => mariadb::open(),
        "sqlite" => Some(sqlite::open()),
        _ => {
            eprintln!("storm: there is no backend {name}");
            None
        }
    }
}
