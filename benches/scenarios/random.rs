//! T8: a backend drawn at random, with one disturbance.

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Costs, Load, Simulation};

use crate::candidates::Candidate;
use crate::runs::{Figures, secs};

const DISTURBED: Duration = secs(60);
const RECOVERED: Duration = secs(90);
const END: Duration = secs(150);
/// The default `max_batch_time` of `CostModel`. The oracle keeps it too.
const DEFAULT_BOUND: Duration = secs(1);

/// Uniform draws, a stream per seed (SplitMix64).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        let mut draw = Self(seed.wrapping_mul(0x1234_5678_9abc_def1));
        for _ in 0..8 {
            draw.uniform(0.0, 1.0);
        }
        draw
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (high - low) * ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in the logarithm.
    pub fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.uniform(low.ln(), high.ln()).exp()
    }
}

/// Call cost 1 to 500 items, 20 µs to 2 ms an item, up to half of a call's cost latency, noise 5 to
/// 30 %, background load up to a half, half of them with a timeout of 0.3 to 3 s, the largest size
/// 100 to 10 000.
fn draw(seed: u64) -> (Backend, usize) {
    let mut draw = Draw::new(seed);
    let r = draw.scale(1.0, 500.0);
    let item = draw.scale(20e-6, 2e-3);
    let latency = draw.uniform(0.0, 0.5);
    let call = r * item;
    let costs = |call: f64, item: f64| Costs::of_secs(latency * call, (1.0 - latency) * call, item);
    let (noise, load) = (draw.uniform(0.05, 0.3), draw.uniform(0.0, 0.5));
    let timeout = draw.scale(0.3, 3.0);
    let with_timeout = draw.uniform(0.0, 1.0) < 0.5;
    let max = draw.scale(100.0, 10_000.0) as usize;
    let backend = Backend::new()
        .costs(costs(call, item))
        .noise(noise)
        .load(Load::Constant(load));
    let times = draw.scale(0.25, 4.0);
    let backend = match draw.uniform(0.0, 4.0) as u32 {
        0 => backend.costs_from(DISTURBED, costs(call * times, item)),
        1 => backend.costs_from(DISTURBED, costs(call, item * times)),
        2 => backend.load(Load::Steps(load, vec![(DISTURBED, draw.uniform(0.0, 0.8))])),
        _ => backend.load(Load::spike(load, 0.9, DISTURBED, secs(10))),
    };
    // Under the highest load a single item still ends before the timeout. Otherwise there would be
    // nothing to judge.
    let worst = 4.0 * (call + item) / 0.2;
    (
        backend.timeout(with_timeout.then(|| Duration::from_secs_f64(timeout.max(worst)))),
        max,
    )
}

/// The items handled from half a minute after the disturbance on, as a share of the oracle.
pub fn t8(candidate: Candidate, seed: u64) -> Figures {
    let (backend, max) = draw(seed);
    let report = Simulation::new(backend)
        .max_batch_size(max)
        .duration(END)
        .seed(seed)
        .run(candidate.policy(None));
    let handled = report.handled_between(RECOVERED, END) as f64;
    let bounded = report.oracle_between(RECOVERED, END, Some(DEFAULT_BOUND));
    // If not even a single item keeps the bound, the oracle has none either.
    let oracle = if bounded > 0.0 {
        bounded
    } else {
        report.oracle_between(RECOVERED, END, None)
    };
    vec![handled / oracle]
}
