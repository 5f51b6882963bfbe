//! What is said at the end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use load_aware_batcher::{DecisionRecord, Failed, Stats};

use crate::chart::Samples;
use crate::row::{Row, one_line};
use crate::walk::Findings;

/// How many different reasons are counted separately.
const REASONS_MAX: usize = 20;

/// Why rows were not written, and how many for each reason.
#[derive(Default)]
pub struct Failures(BTreeMap<String, u64>);

impl Failures {
    pub fn note(&mut self, failed: &Failed<Row>) {
        let reason = one_line(&failed.error.to_string());
        let known = self.0.len() < REASONS_MAX || self.0.contains_key(&reason);
        *self
            .0
            .entry(if known {
                reason
            } else {
                "other reasons".into()
            })
            .or_default() += 1;
    }
}

pub struct Summary<'a> {
    pub findings: &'a Findings,
    pub failures: &'a Failures,
    pub stats: &'a Stats,
    pub decisions: &'a [DecisionRecord],
    pub sizes: &'a Samples,
    pub elapsed: Duration,
    pub removed: usize,
}

impl Summary<'_> {
    /// The figures and the chart.
    pub fn figures(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<13}{value}");
        };
        let (stats, seconds) = (self.stats, self.elapsed.as_secs_f64());
        line("files seen", self.findings.files.load(Relaxed).to_string());
        line("rows written", stats.handled.to_string());
        line("rows failed", stats.failed.to_string());
        line(
            "rows removed",
            format!("{} whose files are gone", self.removed),
        );
        line("bytes", bytes(self.findings.bytes.load(Relaxed)));
        let rate = stats.handled as f64 / seconds.max(1e-3);
        line("wall time", format!("{seconds:.2} s, {rate:.0} rows/s"));
        let by = stats.batches;
        line(
            "batches",
            format!(
                "{}: {} by size, {} by linger, {} by flush, {} by close",
                by.total(),
                by.size,
                by.linger,
                by.flush,
                by.close
            ),
        );
        line("retries", stats.retries.to_string());
        if let Some(last) = self
            .decisions
            .iter()
            .rev()
            .find(|decision| decision.score.is_some())
        {
            line("last decision", format!(" {}", last.reason));
        }
        let _ = write!(
            text,
            "batch size over time\n{}",
            self.sizes.chart(self.elapsed)
        );
        text
    }

    /// What went wrong; empty if nothing did.
    pub fn troubles(&self) -> String {
        let mut text = String::new();
        for (reason, rows) in &self.failures.0 {
            let _ = writeln!(text, "{rows} rows failed: {reason}");
        }
        let (vanished, unreadable) = (
            self.findings.vanished.load(Relaxed),
            self.findings.unreadable.load(Relaxed),
        );
        if vanished + unreadable > 0 {
            let _ = writeln!(
                text,
                "{vanished} files vanished, {unreadable} could not be read:"
            );
            let named = self.findings.named.lock().expect("nothing panics under it");
            for line in named.iter() {
                let _ = writeln!(text, "  {line}");
            }
            let more = vanished + unreadable - named.len() as u64;
            if more > 0 {
                let _ = writeln!(text, "  and {more} more");
            }
        }
        text
    }
}

fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{count} ({value:.1} {})", units[unit])
    }
}
