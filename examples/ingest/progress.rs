//! What is to be seen while it runs: a bar on a terminal, a line a second elsewhere. All on stderr.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use load_aware_batcher::Stats;

/// How often the bar moves.
pub const TICK: Duration = Duration::from_millis(50);
const LINE_EVERY: Duration = Duration::from_secs(1);

pub struct Progress {
    program: String,
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    begun: Instant,
    last_line: Instant,
}

impl Progress {
    pub fn new(program: &str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}")
                .expect("a template");
            ProgressBar::new_spinner().with_style(style)
        });
        Self {
            program: program.to_owned(),
            bar,
            begun: Instant::now(),
            last_line: Instant::now(),
        }
    }

    pub fn tick(&mut self, stats: &Stats) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.line(stats));
                bar.tick();
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                // A closed stderr is no reason to stop the work.
                let _ = writeln!(stderr(), "{}: {}", self.program, self.line(stats));
            }
            None => {}
        }
    }

    fn line(&self, stats: &Stats) -> String {
        let rate = stats.handled as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
        let load = stats
            .average_load
            .map_or_else(|| "-".into(), |load| format!("{load:.2}"));
        format!(
            "{} rows, {rate:.0} rows/s, {} failed, batch size {}, load {load}",
            stats.handled, stats.failed, stats.batch_size
        )
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
