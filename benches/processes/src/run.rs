//! One run: so many processes from an empty table to the account of their rows.

use std::thread;

use crate::Failure;
use crate::calls::rows_per_s;
use crate::database::Database;
use crate::fairness::jain;
use crate::options::Span;
use crate::process::Process;
use crate::report::Report;
use crate::way::Way;
use crate::worker::now_s;

/// What became of the rows of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Rows whose commit was answered.
    pub acknowledged: u64,
    /// Rows in the table.
    pub stored: u64,
    pub failed_rows: u64,
    /// Time-outs among them.
    pub failed_calls: u64,
}

impl Account {
    pub fn of(reports: &[Report], stored: u64) -> Self {
        let sum = |figure: fn(&Report) -> u64| reports.iter().map(figure).sum();
        Self {
            acknowledged: sum(|report| report.handled),
            stored,
            failed_rows: sum(|report| report.failed_rows),
            failed_calls: sum(|report| report.failed_calls),
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// Rows a second of each process, in the part that counts.
    pub rates: Vec<f64>,
    /// The sizes in force at the end.
    pub sizes: Vec<usize>,
    pub account: Account,
}

impl Run {
    /// Rows a second of all processes together.
    pub fn sum(&self) -> f64 {
        self.rates.iter().sum()
    }

    pub fn jain(&self) -> f64 {
        jain(&self.rates)
    }
}

/// Runs so many processes.
pub fn run(
    database: &mut Database,
    processes: usize,
    way: Way,
    span: Span,
) -> Result<Run, Failure> {
    database.renew()?;
    let mut all = start(database, 0..processes, way)?;
    all.iter_mut().try_for_each(Process::go)?;
    thread::sleep(span.lead + span.counted);
    let to = now_s();
    let from = to - span.counted.as_secs_f64();
    let reports = finish(all)?;
    let rate = |report: &Report| rows_per_s(&report.calls, from, to);
    Ok(Run {
        rates: reports.iter().map(rate).collect(),
        sizes: reports.iter().map(|report| report.batch_size).collect(),
        account: Account::of(&reports, database.stored()?),
    })
}

/// Starts processes of these numbers side by side, and waits until each is connected.
pub fn start(
    database: &Database,
    numbers: std::ops::Range<usize>,
    way: Way,
) -> Result<Vec<Process>, Failure> {
    let all = numbers
        .map(|number| Process::start(database, number, way))
        .collect::<Result<Vec<_>, _>>()?;
    all.iter().try_for_each(Process::wait_until_ready)?;
    Ok(all)
}

/// Stops all, then takes their reports.
pub fn finish(mut all: Vec<Process>) -> Result<Vec<Report>, Failure> {
    all.iter_mut().try_for_each(Process::stop)?;
    all.into_iter().map(Process::report).collect()
}
