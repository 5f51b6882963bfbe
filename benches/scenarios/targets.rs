//! The scenarios: what each is, which figures its table shows, and what `CostModel` has to reach.

use crate::candidates::Candidate;
use crate::competing;
use crate::random::t8;
use crate::refusing;
use crate::runs::{self, Figures, quantile};

/// The figures of every policy and seed of one scenario.
pub struct Table {
    pub rows: Vec<(Candidate, Vec<Figures>)>,
}

impl Table {
    fn column(&self, candidate: Candidate, column: usize) -> Vec<f64> {
        let seeds = self
            .rows
            .iter()
            .find(|(of, _)| *of == candidate)
            .map_or(&[][..], |(_, seeds)| seeds);
        seeds.iter().map(|figures| figures[column]).collect()
    }

    pub fn mean(&self, candidate: Candidate, column: usize) -> f64 {
        let values = self.column(candidate, column);
        values.iter().sum::<f64>() / values.len() as f64
    }

    pub fn quantile(&self, candidate: Candidate, column: usize, share: f64) -> f64 {
        quantile(&mut self.column(candidate, column), share)
    }

    fn share_under(&self, candidate: Candidate, column: usize, limit: f64) -> f64 {
        let values = self.column(candidate, column);
        values.iter().filter(|value| **value < limit).count() as f64 / values.len() as f64
    }
}

/// What the table shows of a column.
#[derive(Clone, Copy)]
pub enum Show {
    Mean(&'static str),
    Quantile(&'static str, f64),
    ShareUnder(&'static str, f64),
}

pub struct Column(pub usize, pub Show);

impl Column {
    pub fn title(&self) -> &'static str {
        match self.1 {
            Show::Mean(title) | Show::Quantile(title, _) | Show::ShareUnder(title, _) => title,
        }
    }

    pub fn value(&self, table: &Table, candidate: Candidate) -> f64 {
        match self.1 {
            Show::Mean(_) => table.mean(candidate, self.0),
            Show::Quantile(_, share) => table.quantile(candidate, self.0, share),
            Show::ShareUnder(_, limit) => table.share_under(candidate, self.0, limit),
        }
    }
}

/// A figure, the limit it is held to, and what it is.
pub struct Target {
    pub stretch: bool,
    pub value: f64,
    pub at_least: bool,
    pub limit: f64,
    pub what: &'static str,
}

fn least(value: f64, limit: f64, what: &'static str) -> Target {
    Target {
        stretch: false,
        value,
        at_least: true,
        limit,
        what,
    }
}

fn most(value: f64, limit: f64, what: &'static str) -> Target {
    Target {
        stretch: false,
        value,
        at_least: false,
        limit,
        what,
    }
}

fn stretch(target: Target) -> Target {
    Target {
        stretch: true,
        ..target
    }
}

impl Target {
    pub fn is_met(&self) -> bool {
        if self.at_least {
            self.value >= self.limit
        } else {
            self.value <= self.limit
        }
    }
}

pub struct Scenario {
    pub id: &'static str,
    pub title: &'static str,
    pub columns: Vec<Column>,
    /// How many seeds run for each seed requested: T8 draws 15 backends.
    pub per_seed: u64,
    pub run: fn(Candidate, u64) -> Figures,
    pub targets: fn(&Table) -> Vec<Target>,
}

fn means(titles: &[&'static str]) -> Vec<Column> {
    titles
        .iter()
        .enumerate()
        .map(|(place, title)| Column(place, Show::Mean(title)))
        .collect()
}

fn p90(titles: &[&'static str]) -> Vec<Column> {
    titles
        .iter()
        .enumerate()
        .map(|(place, title)| Column(place, Show::Quantile(title, 0.9)))
        .collect()
}

const MODEL: Candidate = Candidate::CostModel;
const STEADY: [&str; 3] = ["of oracle", "lost", "spread"];
const PHASES: [&str; 5] = ["before", "during", "after", "s to 90 %", "calls failed"];
const SPIKE: [&str; 3] = ["items lost", "s to 90 %", "of oracle"];

const EDGE: [&str; 2] = ["first 5 s", "after 5 s"];

/// The target where there is an edge to be found.
fn edge(table: &Table) -> Vec<Target> {
    vec![least(table.mean(MODEL, 1), 0.95, "of the oracle after 5 s")]
}

/// The targets for a database under competing load.
fn phases(table: &Table) -> Vec<Target> {
    vec![
        least(table.mean(MODEL, 0), 0.95, "of the oracle before the load"),
        least(table.mean(MODEL, 1), 0.90, "of the oracle during the load"),
        least(table.mean(MODEL, 2), 0.90, "of the oracle after the load"),
        most(table.mean(MODEL, 3), 2.0, "seconds back to 90 %"),
        most(
            table.mean(MODEL, 4),
            0.05,
            "of its calls failed during the load",
        ),
    ]
}

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |id, title, columns, run, targets| Scenario {
        id,
        title,
        columns,
        per_seed: 1,
        run,
        targets,
    };
    vec![
        scenario(
            "T1",
            "steady, nothing configured",
            means(&STEADY),
            runs::t1,
            |table| {
                vec![
                    least(table.mean(MODEL, 0), 0.95, "of the oracle"),
                    most(table.mean(MODEL, 1), 0.01, "of the items lost"),
                    most(
                        table.mean(MODEL, 2),
                        0.5,
                        "spread of the size, (p95-p5)/p50",
                    ),
                    stretch(least(table.mean(MODEL, 0), 0.98, "of the oracle")),
                ]
            },
        ),
        scenario(
            "T2",
            "steady, max_batch_time 200 ms",
            means(&["of oracle", "too long", "lost"]),
            runs::t2,
            |table| {
                vec![
                    least(
                        table.mean(MODEL, 0),
                        0.97,
                        "of the oracle that keeps the bound",
                    ),
                    most(table.mean(MODEL, 1), 0.05, "of the calls over the bound"),
                ]
            },
        ),
        scenario(
            "T3",
            "cold start, calls to 90 % of the oracle (p90), by call cost in items",
            p90(&["r = 2", "r = 20", "r = 60", "r = 200"]),
            runs::t3,
            |table| {
                vec![
                    most(table.quantile(MODEL, 0, 0.9), 25.0, "calls, r = 2"),
                    most(table.quantile(MODEL, 1, 0.9), 15.0, "calls, r = 20"),
                    most(table.quantile(MODEL, 2, 0.9), 15.0, "calls, r = 60"),
                    most(table.quantile(MODEL, 3, 0.9), 15.0, "calls, r = 200"),
                ]
            },
        ),
        scenario(
            "T4",
            "the backend changes, calls to 90 % of the oracle (p90)",
            p90(&["a x 5", "b / 4", "no noise", "no noise"]),
            runs::t4,
            |table| {
                vec![
                    most(table.quantile(MODEL, 0, 0.9), 20.0, "calls, a x 5"),
                    most(table.quantile(MODEL, 1, 0.9), 40.0, "calls, b / 4"),
                    most(
                        table.quantile(MODEL, 2, 0.9),
                        20.0,
                        "calls, a x 5, noise of 2 %",
                    ),
                    most(
                        table.quantile(MODEL, 3, 0.9),
                        40.0,
                        "calls, b / 4, noise of 2 %",
                    ),
                ]
            },
        ),
        scenario(
            "T5",
            "15 s at load 0.85, calls over 400 ms fail, bound 200 ms",
            means(&SPIKE),
            runs::t5,
            |table| {
                let lost = table.mean(MODEL, 0);
                vec![
                    most(
                        lost / table.mean(Candidate::Fixed50, 0),
                        0.15,
                        "of what Fixed(50) loses",
                    ),
                    most(
                        lost / table.mean(Candidate::Strict, 0),
                        0.05,
                        "of what LoadThreshold::strict loses",
                    ),
                    most(table.mean(MODEL, 1), 1.0, "seconds back to 90 %"),
                    stretch(most(
                        lost / table.mean(Candidate::Fixed50, 0),
                        0.05,
                        "of what Fixed(50) loses",
                    )),
                ]
            },
        ),
        scenario(
            "T5u",
            "the same with nothing configured (no target)",
            means(&SPIKE),
            runs::t5_without_bound,
            |_| Vec::new(),
        ),
        scenario(
            "T6",
            "the same spike as a lack of capacity, bound 200 ms",
            means(&SPIKE),
            runs::t6,
            |table| {
                vec![
                    most(
                        table.mean(MODEL, 0) / table.mean(Candidate::Fixed50, 0),
                        0.30,
                        "of what Fixed(50) loses",
                    ),
                    most(table.mean(MODEL, 1), 5.0, "seconds back to 90 %"),
                ]
            },
        ),
        scenario(
            "T7",
            "load as a sine of 40 s, then as a ramp; bound 200 ms",
            means(&["sine", "lost", "ramp", "lost"]),
            runs::t7,
            |table| {
                vec![
                    least(
                        table.mean(MODEL, 0),
                        0.97,
                        "of the oracle that keeps the bound, sine",
                    ),
                    most(table.mean(MODEL, 1), 0.01, "of the items lost, sine"),
                    least(
                        table.mean(MODEL, 2),
                        0.97,
                        "of the oracle that keeps the bound, ramp",
                    ),
                    most(table.mean(MODEL, 3), 0.01, "of the items lost, ramp"),
                ]
            },
        ),
        Scenario {
            id: "T8",
            title: "random backends, each disturbed: share of the oracle afterwards",
            columns: vec![
                Column(0, Show::Quantile("p5", 0.05)),
                Column(0, Show::Quantile("median", 0.5)),
                Column(0, Show::ShareUnder("under half", 0.5)),
            ],
            per_seed: 15,
            run: t8,
            targets: |table| {
                vec![
                    least(table.quantile(MODEL, 0, 0.05), 0.80, "of the oracle, p5"),
                    least(table.quantile(MODEL, 0, 0.5), 0.94, "of the oracle, median"),
                    most(
                        table.share_under(MODEL, 0, 0.5),
                        0.01,
                        "of the backends under half of the oracle",
                    ),
                ]
            },
        },
        scenario(
            "T9",
            "450/s, 15 s at load 0.85: 135 s later",
            means(&["backlog", "lost"]),
            runs::t9,
            |table| vec![most(table.mean(MODEL, 0), 450.0, "items waiting")],
        ),
        scenario(
            "T10",
            "10 % of the items are refused, whatever the size",
            means(&STEADY),
            runs::t10,
            |table| vec![least(table.mean(MODEL, 0), 0.88, "of the oracle")],
        ),
        scenario(
            "T11",
            "super-linear above 80 items",
            means(&STEADY),
            runs::t11,
            |table| {
                vec![
                    least(table.mean(MODEL, 0), 0.80, "of the oracle"),
                    stretch(least(table.mean(MODEL, 0), 0.95, "of the oracle")),
                ]
            },
        ),
        scenario(
            "T12",
            "4, 16, 64 batchers on one backend",
            means(&["4", "Jain", "16", "Jain", "64", "Jain"]),
            runs::t12,
            |table| {
                vec![
                    least(table.mean(MODEL, 0), 0.99, "of the oracle, 4 batchers"),
                    least(table.mean(MODEL, 1), 0.99, "fairness (Jain), 4 batchers"),
                    least(table.mean(MODEL, 2), 0.94, "of the oracle, 16 batchers"),
                    least(table.mean(MODEL, 3), 0.99, "fairness (Jain), 16 batchers"),
                    stretch(least(
                        table.mean(MODEL, 4),
                        0.60,
                        "of the oracle, 64 batchers",
                    )),
                    stretch(least(
                        table.mean(MODEL, 5),
                        0.99,
                        "fairness (Jain), 64 batchers",
                    )),
                    stretch(least(
                        table.mean(MODEL, 4),
                        0.80,
                        "of the oracle, 64 batchers",
                    )),
                ]
            },
        ),
        scenario(
            "T13",
            "300/s: latency against natural batching",
            means(&["p99 ratio", "p99 ms", "work ratio"]),
            runs::t13,
            |table| {
                vec![most(
                    table.mean(MODEL, 0),
                    1.05,
                    "p99 by that of natural batching",
                )]
            },
        ),
        scenario(
            "T14",
            "300/s, throttled for a score of 0.25",
            means(&["work ratio", "handled"]),
            runs::t14,
            |table| {
                vec![
                    most(
                        table.mean(MODEL, 0),
                        0.75,
                        "of the work without the throttle",
                    ),
                    least(
                        table.mean(MODEL, 1),
                        0.98,
                        "of the throughput without the throttle",
                    ),
                ]
            },
        ),
        scenario(
            "T15",
            "T1 and T5 without any signal",
            means(&["of oracle", "lost", "spread", "items lost", "s to 90 %"]),
            runs::t15,
            |table| {
                vec![
                    least(table.mean(MODEL, 0), 0.95, "of the oracle, steady"),
                    most(table.mean(MODEL, 1), 0.01, "of the items lost, steady"),
                    most(table.mean(MODEL, 2), 0.5, "spread of the size"),
                    most(
                        table.mean(MODEL, 3) / table.mean(Candidate::Fixed50, 3),
                        0.15,
                        "of what Fixed(50) loses",
                    ),
                    most(table.mean(MODEL, 4), 1.0, "seconds back to 90 %"),
                ]
            },
        ),
        scenario(
            "T18",
            "a file, and another client that holds its lock 70 of 170 ms",
            means(&PHASES),
            competing::t18,
            phases,
        ),
        scenario(
            "T19",
            "T18 on a server that ends statements after 100 ms",
            means(&PHASES),
            competing::t19,
            phases,
        ),
        scenario(
            "T20",
            "T18 with rows that share index pages",
            means(&PHASES),
            competing::t20,
            phases,
        ),
        scenario(
            "T21",
            "the server of T19 while others take 87 % of its CPU",
            means(&PHASES),
            competing::t21,
            phases,
        ),
        scenario(
            "T23",
            "six times as long over 1 500 items",
            means(&EDGE),
            refusing::cliff,
            edge,
        ),
        scenario(
            "T24",
            "over 700 items refused at once",
            means(&EDGE),
            refusing::limit,
            edge,
        ),
        scenario(
            "T25",
            "a tenth of the calls refused at once",
            means(&EDGE),
            refusing::refused,
            edge,
        ),
        Scenario {
            id: "T26",
            title: "random backends with a cliff or a limit at a random place: share of the oracle after 5 s",
            columns: vec![
                Column(1, Show::Quantile("p5", 0.05)),
                Column(1, Show::Quantile("median", 0.5)),
                Column(1, Show::Mean("mean")),
            ],
            per_seed: 5,
            run: refusing::edges,
            targets: |table| {
                vec![
                    least(table.mean(MODEL, 1), 0.95, "of the oracle, mean"),
                    stretch(least(
                        table.quantile(MODEL, 1, 0.05),
                        0.80,
                        "of the oracle, p5",
                    )),
                ]
            },
        },
        scenario(
            "T27",
            "400 items a second, linger 1 s",
            means(&["p50 ratio", "p50 ms"]),
            refusing::trickle,
            |table| {
                vec![most(
                    table.mean(MODEL, 0),
                    1.5,
                    "p50 by that of batching without a linger",
                )]
            },
        ),
        scenario(
            "T22",
            "T20 on a slow machine, two seconds of it",
            means(&PHASES),
            competing::t22,
            phases,
        ),
    ]
}
