//! The batch size over time as a few lines of text.

use std::fmt::Write;
use std::time::Duration;

const COLUMNS: usize = 60;
const LINES: usize = 6;
/// How full the topmost cell of a column can be, in eighths.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Sizes taken at even intervals. At twice the columns of a chart every second one is dropped and
/// from then on only every second one kept: any run fits.
pub struct Samples {
    sizes: Vec<usize>,
    every: usize,
    seen: usize,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            sizes: Vec::with_capacity(2 * COLUMNS),
            every: 1,
            seen: 0,
        }
    }
}

impl Samples {
    pub fn push(&mut self, size: usize) {
        if self.seen % self.every == 0 {
            if self.sizes.len() == 2 * COLUMNS {
                let mut index = 0;
                self.sizes.retain(|_| (index % 2 == 0, index += 1).0);
                self.every *= 2;
            }
            self.sizes.push(size);
        }
        self.seen += 1;
    }

    /// The chart, each line indented, or nothing if there was no time for a sample.
    pub fn chart(&self, span: Duration) -> String {
        // A column is the average of its samples.
        let width = self.sizes.len().div_ceil(COLUMNS).max(1);
        let columns: Vec<f64> = self
            .sizes
            .chunks(width)
            .map(|sizes| sizes.iter().sum::<usize>() as f64 / sizes.len() as f64)
            .collect();
        let Some(max) = self.sizes.iter().max() else {
            return String::new();
        };
        let mut chart = String::new();
        for line in (0..LINES).rev() {
            let label = if line == LINES - 1 {
                max.to_string()
            } else {
                String::new()
            };
            let _ = write!(chart, "  {label:>7} │");
            for size in &columns {
                let eighths = (size / (*max).max(1) as f64 * (LINES * 8) as f64).ceil() as usize;
                chart.push(BARS[eighths.saturating_sub(line * 8).min(8)]);
            }
            chart.truncate(chart.trim_end().len());
            chart.push('\n');
        }
        let end = format!("{:.1} s", span.as_secs_f64());
        let _ = writeln!(chart, "  {:>7} └{}", 0, "─".repeat(columns.len()));
        let _ = writeln!(
            chart,
            "  {:>7}  0{end:>width$}",
            "",
            width = columns.len().saturating_sub(1).max(end.len() + 1)
        );
        chart
    }
}
