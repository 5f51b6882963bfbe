//! What is to be seen while it runs: a bar on a terminal, a line a second elsewhere, nothing if
//! quiet. All on stderr.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use load_aware_batcher::Stats;

use crate::chart::Samples;

/// How often the bar moves and the batch size is read.
pub const TICK: Duration = Duration::from_millis(50);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// The rate shown is that of the last 20 ticks.
const RATE_TICKS: usize = 20;

pub struct Progress {
    form: Form,
    begun: Instant,
    last_line: Instant,
    recent: VecDeque<(Instant, u64)>,
    pub sizes: Samples,
}

enum Form {
    Bar(ProgressBar),
    Lines,
    Silent,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let form = match (quiet, stderr().is_terminal()) {
            (true, _) => Form::Silent,
            (false, false) => Form::Lines,
            (false, true) => {
                let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}")
                    .expect("a template");
                Form::Bar(ProgressBar::new_spinner().with_style(style))
            }
        };
        let now = Instant::now();
        Self {
            form,
            begun: now,
            last_line: now,
            recent: VecDeque::from([(now, 0)]),
            sizes: Samples::default(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn tick(&mut self, stats: &Stats) {
        let now = Instant::now();
        self.sizes.push(stats.batch_size);
        if self.recent.len() > RATE_TICKS {
            self.recent.pop_front();
        }
        self.recent.push_back((now, stats.handled));
        match &self.form {
            Form::Bar(bar) => {
                bar.set_message(self.line(stats));
                bar.tick();
            }
            Form::Lines if now - self.last_line >= LINE_EVERY => {
                self.last_line = now;
                // A closed stderr is no reason to stop the work.
                let _ = writeln!(stderr(), "file_index: {}", self.line(stats));
            }
            Form::Lines | Form::Silent => {}
        }
    }

    fn line(&self, stats: &Stats) -> String {
        let (since, before) = self.recent[0];
        let rate = (stats.handled - before) as f64 / since.elapsed().as_secs_f64().max(1e-3);
        let load = stats
            .average_load
            .map_or_else(|| "-".into(), |score| format!("{score:.2}"));
        format!(
            "{} rows, {rate:.0} rows/s, batch size {}, load {load}",
            stats.handled, stats.batch_size
        )
    }

    pub fn end(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}
