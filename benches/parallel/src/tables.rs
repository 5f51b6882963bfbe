//! The figures as text.

use crate::comparison::Comparison;
use crate::run::Run;

/// A table in Markdown: rows a second of each concurrency at its best size, and of the model.
pub fn gains(comparisons: &[Comparison]) -> String {
    let mut table = "\
| server | situation | k = 1, rows/s | 2 | 4 | 8 | CostModel, k = 1 | CostModel, k = 1..=8 | of the best |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for comparison in comparisons {
        let one = comparison.best_with(1);
        let [two, four, eight] = [2, 4, 8].map(|calls| comparison.best_with(calls) / one);
        table += &format!(
            "| {} | {} | {one:.0} | ×{two:.2} | ×{four:.2} | ×{eight:.2} | ×{:.2} | ×{:.2} | {:.2} |\n",
            comparison.backend,
            comparison.cell,
            comparison.one.rows_per_s / one,
            comparison.range.rows_per_s / one,
            comparison.ratio(&comparison.range),
        );
    }
    table
}

/// A table in Markdown: every run of a cell.
pub fn runs(comparison: &Comparison) -> String {
    let mut table = format!(
        "\n{}, {}\n\n\
| way | rows/s | of the best | p50 ms | p99 ms | n at the end | k at the end | mean k | failed calls |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
",
        comparison.backend, comparison.cell
    );
    let Comparison {
        grid,
        best,
        one,
        range,
        ..
    } = comparison;
    for run in grid.iter().chain([one, range]) {
        table += &line(comparison, &run.way.to_string(), run);
    }
    table += &line(comparison, &format!("{}, again", best.way), best);
    if let Some(s) = comparison.arrived_s() {
        table += &format!("\nThe range came to 0.9 of the best after {s:.1} s.\n");
    }
    table
}

fn line(comparison: &Comparison, name: &str, run: &Run) -> String {
    format!(
        "| {name} | {:.0} | {:.2} | {:.0} | {:.0} | {} | {} | {:.1} | {} |\n",
        run.rows_per_s,
        comparison.ratio(run),
        run.p50_ms,
        run.p99_ms,
        run.size,
        run.calls,
        run.mean_calls,
        run.failed_calls
    )
}
