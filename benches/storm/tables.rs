//! The figures as text.

use std::fmt::Write as _;

use crate::laws::Law;
use crate::measure::median;
use crate::neighbours::Storm;
use crate::run::{Figures, Run};

/// One storm on one database.
pub type Group = (&'static str, Storm);

/// All of one law in one storm, as medians over the rounds.
pub struct Summary {
    pub law: Law,
    pub figures: [Figures; 3],
    /// Shares of failed calls, over all rounds together.
    pub failed_share: [f64; 3],
    pub recovery_s: f64,
    pub failed_rows: u64,
}

pub fn groups(runs: &[Run]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for run in runs {
        if !groups.contains(&(run.backend, run.storm)) {
            groups.push((run.backend, run.storm));
        }
    }
    groups
}

/// In the order in which the laws ran.
pub fn summaries(runs: &[Run], group: Group) -> Vec<Summary> {
    let runs: Vec<&Run> = runs.iter().filter(|run| (run.backend, run.storm) == group).collect();
    let mut laws: Vec<Law> = Vec::new();
    for run in &runs {
        if !laws.contains(&run.law) {
            laws.push(run.law);
        }
    }
    laws.into_iter()
        .map(|law| {
            let own: Vec<&Run> = runs.iter().copied().filter(|run| run.law == law).collect();
            let middle = |of: &dyn Fn(&Run) -> f64| median(&mut own.iter().map(|run| of(run)).collect::<Vec<_>>());
            let figures = [0, 1, 2].map(|phase| Figures {
                rows_per_s: middle(&|run| run.figures[phase].rows_per_s),
                calls: own.iter().map(|run| run.figures[phase].calls).sum(),
                failed_calls: own.iter().map(|run| run.figures[phase].failed_calls).sum(),
                p50_ms: middle(&|run| run.figures[phase].p50_ms),
                p99_ms: middle(&|run| run.figures[phase].p99_ms),
                batch_size: middle(&|run| run.figures[phase].batch_size),
            });
            Summary {
                law,
                figures,
                failed_share: figures.map(|figures| figures.failed_share()),
                recovery_s: middle(&|run| run.recovery_s),
                failed_rows: own.iter().map(|run| run.failed_rows).sum(),
            }
        })
        .collect()
}

/// The best throughput of any fixed size in a phase, and the summary it comes from.
pub fn best_fixed(summaries: &[Summary], phase: usize) -> Option<&Summary> {
    let fixed = summaries.iter().filter(|summary| summary.law.is_fixed());
    fixed.max_by(|a, b| a.figures[phase].rows_per_s.total_cmp(&b.figures[phase].rows_per_s))
}

/// One run, while it goes on.
pub fn line(run: &Run) -> String {
    let [calm, storm, after] = run.figures;
    format!(
        "{:<8} {:<5} round {} {:<10} {:>7.0} {:>7.0} {:>7.0} rows/s, storm: {} of {} calls failed, batch {:.0}",
        run.backend,
        run.storm.name(),
        run.round + 1,
        run.law.to_string(),
        calm.rows_per_s,
        storm.rows_per_s,
        after.rows_per_s,
        storm.failed_calls,
        storm.calls,
        storm.batch_size,
    )
}

pub fn print(runs: &[Run]) {
    for group in groups(runs) {
        let summaries = summaries(runs, group);
        println!("\n## {}, {} (calm | storm | after)\n", group.0, group.1.name());
        println!(
            "| | rows/s | of the best fixed | failed calls | p50 ms | p99 ms | batch | back after s | rows given up |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for summary in &summaries {
            println!("{}", table_row(summary, &summaries));
        }
    }
}

fn table_row(summary: &Summary, all: &[Summary]) -> String {
    let phases = |of: &dyn Fn(usize) -> String| [0, 1, 2].map(of).join(" \\| ");
    let figures = &summary.figures;
    let share = |phase: usize| match best_fixed(all, phase) {
        Some(best) if best.figures[phase].rows_per_s > 0.0 => {
            format!("{:.2}", figures[phase].rows_per_s / best.figures[phase].rows_per_s)
        }
        _ => "-".to_owned(),
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {:.2} | {} |",
        summary.law,
        phases(&|phase| format!("{:.0}", figures[phase].rows_per_s)),
        phases(&share),
        phases(&|phase| format!("{:.0} %", 100.0 * summary.failed_share[phase])),
        phases(&|phase| format!("{:.0}", figures[phase].p50_ms)),
        phases(&|phase| format!("{:.0}", figures[phase].p99_ms)),
        phases(&|phase| format!("{:.0}", figures[phase].batch_size)),
        summary.recovery_s,
        summary.failed_rows,
    )
}

/// One line a run and phase.
pub fn csv(runs: &[Run]) -> String {
    let mut text = "backend,storm,law,round,phase,rows_per_s,calls,failed_calls,p50_ms,p99_ms,batch_size,recovery_s,\
        rows_given_up\n"
        .to_owned();
    for run in runs {
        for (phase, figures) in ["calm", "storm", "after"].iter().zip(&run.figures) {
            let _ = writeln!(
                text,
                "{},{},{},{},{phase},{:.1},{},{},{:.3},{:.3},{:.0},{:.2},{}",
                run.backend,
                run.storm.name(),
                run.law,
                run.round + 1,
                figures.rows_per_s,
                figures.calls,
                figures.failed_calls,
                figures.p50_ms,
                figures.p99_ms,
                figures.batch_size,
                run.recovery_s,
                run.failed_rows,
            );
        }
    }
    text
}
