//! The figures as text, and the judgement of the sinks.

use crate::database::{Key, Way};
use crate::rounds::{Run, Runs};

/// The runs of one database and one kind of table.
pub struct Section {
    pub database: &'static str,
    pub loader: &'static str,
    pub key: Key,
    pub target: f64,
    pub rows: usize,
    pub runs: Vec<Runs>,
}

pub const HEAD: &str = "\
| database | table | way | rows/s | of the loader | client's CPU, s per million rows | server's CPU | written, MB per million rows |
| --- | --- | --- | --- | --- | --- | --- | --- |";

impl Section {
    /// Rows of the table: medians over the rounds.
    pub fn lines(&self) -> Vec<String> {
        let ways = self.runs.iter().filter(|runs| !runs.runs.is_empty());
        ways.map(|runs| self.line(runs)).collect()
    }

    fn line(&self, runs: &Runs) -> String {
        let millions = runs.way.share(self.rows) as f64 / 1e6;
        let of = |figure: fn(&Run) -> Option<f64>| {
            median(runs.runs.iter().filter_map(figure).collect()).map(|sum| sum / millions)
        };
        // A database without a server writes from the client's process.
        let written = of(|run| run.server.unwrap_or(run.client).written);
        format!(
            "| {} | {} | {} | {:.0} | {} | {} | {} | {} |",
            self.database,
            self.key,
            self.name(runs.way),
            median(runs.runs.iter().map(|run| run.rows_per_s).collect()).unwrap_or(f64::NAN),
            shown(self.share(runs), 2),
            shown(of(|run| run.client.cpu_s), 2),
            shown(of(|run| run.server?.cpu_s), 2),
            shown(written.map(|bytes| bytes / 1e6), 0),
        )
    }

    fn name(&self, way: Way) -> &'static str {
        match way {
            Way::Loader => self.loader,
            Way::Sink => "the sink",
            Way::MultiRow => "`INSERT` of 1 000 rows",
            Way::RowByRow => "row by row, one transaction",
        }
    }

    /// The median of the rounds' ratios. What slows a whole round cancels out.
    fn share(&self, runs: &Runs) -> Option<f64> {
        let loader = self.runs.iter().find(|runs| runs.way == Way::Loader)?;
        let ratios = runs.runs.iter().zip(&loader.runs);
        median(
            ratios
                .map(|(run, loader)| run.rows_per_s / loader.rows_per_s)
                .collect(),
        )
    }

    /// The line about the sink, and whether it meets its target. Without the loader's program there
    /// is no comparison, and the target counts as met.
    pub fn judgement(&self) -> (String, bool) {
        let sink = self.runs.iter().find(|runs| runs.way == Way::Sink);
        let what = format!("{}, {}", self.database, self.key);
        match sink.and_then(|runs| self.share(runs)) {
            Some(share) => {
                let kept = share >= self.target;
                let verdict = if kept { "kept" } else { "MISSED" };
                (
                    format!(
                        "{verdict}: {what}: {share:.2} of {}, target {:.2}",
                        self.loader, self.target
                    ),
                    kept,
                )
            }
            None => (
                format!(
                    "SKIPPED: {what}: the program of {} is not installed",
                    self.loader
                ),
                true,
            ),
        }
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or("–".to_owned(), |figure| format!("{figure:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    fn runs(way: Way, rates: &[f64]) -> Runs {
        let run = |&rows_per_s| Run {
            rows_per_s,
            client: Usage::default(),
            server: None,
        };
        Runs {
            way,
            runs: rates.iter().map(run).collect(),
        }
    }

    fn section(loader: &[f64], sink: &[f64]) -> Section {
        Section {
            database: "a database",
            loader: "a loader",
            key: Key::None,
            target: 0.95,
            rows: 10_000,
            runs: vec![runs(Way::Loader, loader), runs(Way::Sink, sink)],
        }
    }

    /// One round is slow for both, and in another one the sink is slow.
    #[test]
    fn the_sink_is_judged_by_the_median_of_the_rounds_ratios() {
        let (text, kept) = section(&[100.0, 40.0, 50.0], &[96.0, 38.4, 30.0]).judgement();
        assert!(kept, "{text}");
        let (text, kept) = section(&[100.0, 40.0, 50.0], &[94.0, 37.6, 50.0]).judgement();
        assert!(!kept, "{text}");
    }

    #[test]
    fn without_the_loader_nothing_is_missed_and_no_ratio_is_shown() {
        let section = section(&[], &[96.0]);
        let (text, kept) = section.judgement();
        assert!(kept && text.starts_with("SKIPPED"), "{text}");
        let lines = section.lines();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("| 96 | – |"), "{}", lines[0]);
    }
}
