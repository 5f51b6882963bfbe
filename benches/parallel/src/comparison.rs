//! One cell: the grid, the model, and the best of the grid once more.

use crate::backend::Backend;
use crate::cells::{Cell, MOST_CALLS, Way};
use crate::options::Plan;
use crate::run::Run;

/// The share of the best rate at which a run counts as arrived.
const ARRIVED: f64 = 0.9;

/// The figures of one cell.
pub struct Comparison {
    pub backend: &'static str,
    pub cell: Cell,
    pub grid: Vec<Run>,
    /// The best of the grid, measured once more right after the model.
    pub best: Run,
    pub one: Run,
    pub range: Run,
}

impl Comparison {
    /// The best is chosen by the grid, and its figures come from another run. The largest of many
    /// noisy figures would be too large.
    pub fn of(backend: &mut dyn Backend, cell: Cell, plan: &Plan) -> Self {
        let mut run = |way, span| {
            let run = backend.run(cell, way, span);
            eprintln!(
                "{cell}: {way}: {:.0} rows/s, n = {}, k = {}",
                run.rows_per_s, run.size, run.calls
            );
            run
        };
        let mut grid: Vec<Run> = Vec::new();
        for &size in (plan.sizes)(cell.max_batch_size) {
            for calls in [1, 2, 4, MOST_CALLS] {
                grid.push(run(Way::Fixed { size, calls }, plan.fixed));
            }
        }
        let best = grid
            .iter()
            .max_by(|a, b| a.rows_per_s.total_cmp(&b.rows_per_s));
        let best = best.expect("a size fits every bound").way;
        let one = run(Way::Model { calls: 1 }, plan.one);
        let range = run(Way::Model { calls: MOST_CALLS }, plan.range);
        let best = run(best, plan.best);
        Self {
            backend: backend.name(),
            cell,
            grid,
            best,
            one,
            range,
        }
    }

    /// The best rate of the grid with this many calls at once.
    pub fn best_with(&self, calls: usize) -> f64 {
        let runs = self.grid.iter().filter(|run| run.calls == calls);
        runs.map(|run| run.rows_per_s).fold(f64::NAN, f64::max)
    }

    /// The rate of a run as a share of the best one.
    pub fn ratio(&self, run: &Run) -> f64 {
        run.rows_per_s / self.best.rows_per_s
    }

    /// When `CostModel` with a range reached 0.9 of the best rate, in seconds.
    pub fn arrived_s(&self) -> Option<f64> {
        self.range.reached_s(ARRIVED * self.best.rows_per_s)
    }
}
