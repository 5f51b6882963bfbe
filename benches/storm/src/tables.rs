//! The figures as text.

use std::fmt::Write as _;

use crate::comparison::{Compared, Comparison};
use crate::run::{AFTER, BEFORE, DURING, PHASES, Run};

/// The line that is printed after each run.
pub fn line(run: &Run) -> String {
    let [before, storm, after] = run.figures;
    format!(
        "{:<8} {:<5} round {} {:<10} {:>7.0} {:>7.0} {:>7.0} rows/s, in the storm {} of {} calls failed, batch {:.0}",
        run.backend,
        run.storm.name(),
        run.round + 1,
        run.candidate.to_string(),
        before.rows_per_s,
        storm.rows_per_s,
        after.rows_per_s,
        storm.failed_calls,
        storm.calls,
        storm.batch_size,
    )
}

/// Medians over the rounds; the share of the best fixed size is explained in `comparison.rs`.
pub fn table(comparison: &Comparison<'_>, open_loop: bool) -> String {
    let mut text = format!(
        "\n## {}, {} (before | during | after)\n\n",
        comparison.backend,
        comparison.storm.name()
    );
    let behind = if open_loop { " rows overdue |" } else { "" };
    let whole = if open_loop { "rate" } else { "best fixed" };
    let _ = writeln!(
        text,
        "| | rows/s | of the {whole} | failed calls | p50 ms | p99 ms | batch | back after s | rows given up \
         | competitors/s |{behind}"
    );
    let _ = writeln!(
        text,
        "|{}",
        " --- |".repeat(if open_loop { 11 } else { 10 })
    );
    for candidate in &comparison.candidates {
        let _ = writeln!(text, "{}", row(candidate, open_loop));
    }
    if open_loop {
        return text;
    }
    let best = [BEFORE, DURING, AFTER].map(|phase| match &comparison.best[phase] {
        Some(best) => format!("{} with {:.0}", best.candidate, best.rows_per_s),
        None => "-".to_owned(),
    });
    let noise = comparison
        .noise
        .map(|noise| format!("{:.0} %", 100.0 * noise));
    let _ = writeln!(
        text,
        "\nBest fixed size: {}. Noise of a run: {}.",
        best.join(" \\| "),
        noise.join(" \\| ")
    );
    text
}

fn row(candidate: &Compared<'_>, open_loop: bool) -> String {
    let phases = |of: &dyn Fn(usize) -> String| [BEFORE, DURING, AFTER].map(of).join(" \\| ");
    let figures = &candidate.figures;
    let mut row = format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
        candidate.candidate,
        phases(&|phase| format!("{:.0}", figures[phase].rows_per_s)),
        phases(&|phase| candidate
            .share(phase)
            .map_or("-".to_owned(), |share| format!("{share:.2}"))),
        phases(&|phase| format!("{:.0} %", 100.0 * candidate.failed_share(phase))),
        phases(&|phase| format!("{:.0}", figures[phase].p50_ms)),
        phases(&|phase| format!("{:.0}", figures[phase].p99_ms)),
        phases(&|phase| format!("{:.0}", figures[phase].batch_size)),
        if candidate.back_after_s.is_finite() {
            format!("{:.2}", candidate.back_after_s)
        } else {
            "never".to_owned()
        },
        candidate.failed_rows,
        candidate.competitors_per_s,
    );
    if open_loop {
        let _ = write!(
            row,
            " {} |",
            phases(&|phase| format!("{:.0}", figures[phase].behind))
        );
    }
    row
}

/// One line for each run and phase.
pub fn csv(comparisons: &[Comparison<'_>]) -> String {
    let mut text =
        "backend,storm,policy,round,phase,rows_per_s,of_the_best_fixed,calls,failed_calls,p50_ms,p99_ms,batch_size,\
        rows_overdue,rows_given_up,competitors_per_s\n"
            .to_owned();
    for comparison in comparisons {
        for candidate in &comparison.candidates {
            for (place, run) in candidate.runs.iter().enumerate() {
                for (phase, figures) in run.figures.iter().enumerate() {
                    let share = candidate.shares[phase]
                        .get(place)
                        .map_or(String::new(), |share| format!("{share:.3}"));
                    let _ = writeln!(
                        text,
                        "{},{},{},{},{},{:.1},{share},{},{},{:.3},{:.3},{:.0},{:.0},{},{:.1}",
                        run.backend,
                        run.storm.name(),
                        run.candidate,
                        run.round + 1,
                        PHASES[phase],
                        figures.rows_per_s,
                        figures.calls,
                        figures.failed_calls,
                        figures.p50_ms,
                        figures.p99_ms,
                        figures.batch_size,
                        figures.behind,
                        run.failed_rows,
                        run.competitors_per_s,
                    );
                }
            }
        }
    }
    text
}
