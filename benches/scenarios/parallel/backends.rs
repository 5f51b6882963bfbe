//! The backends of the parallel scenarios.

use std::time::Duration;

use load_aware_batcher::sim::{Backend, Costs, Load};

use crate::random::Draw;

/// A backend with the largest size and the most calls at once.
#[derive(Clone)]
pub struct Place {
    pub name: String,
    pub backend: Backend,
    pub size: usize,
    pub calls: usize,
    /// The most that `CostModel` may lose to the best fixed size and calls at once, in percent.
    pub regret: f64,
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A round trip, a call's and an item's work in seconds, and cores. One call in 200 takes five times
/// its work.
pub fn plain(round_trip: f64, call: f64, item: f64, cores: u32) -> Backend {
    Backend::new()
        .costs(Costs::of_secs(round_trip, call, item))
        .cores(cores)
        .load(Load::Constant(0.0))
        .noise(0.15)
        .outliers(0.005, 5.0)
        .timeout(None)
        .backoff(seconds(0.05))
        .cpu_only(true)
}

pub fn cores(cores: u32) -> Backend {
    plain(5e-4, 1e-3, 1e-5, cores)
}

pub fn commits(cores: u32) -> Backend {
    plain(5e-4, 2e-4, 4e-6, cores).group_commit(seconds(4e-3))
}

pub fn distant() -> Backend {
    plain(20e-3, 3e-4, 5e-6, 2)
}

pub fn changing() -> Place {
    place(
        "cores 2 -> 8",
        cores(2).cores_from(seconds(60.0), 8),
        5_000,
        8,
        12.0,
    )
}

pub fn limited() -> Place {
    place(
        "limit 5 connections",
        cores(8).connections(5),
        5_000,
        8,
        7.0,
    )
}

pub fn place(name: &str, backend: Backend, size: usize, calls: usize, regret: f64) -> Place {
    Place {
        name: name.into(),
        // Nothing here reports load, unless a scenario is about it.
        backend: backend.signals(false),
        size,
        calls,
        regret,
    }
}

pub fn fixed() -> Vec<Place> {
    vec![
        place("1 core", cores(1), 5_000, 8, 7.0),
        place("4 cores", cores(4), 5_000, 8, 7.0),
        place("16 cores", cores(16), 5_000, 16, 7.0),
        place("commit 4 ms, n <= 200", commits(4), 200, 8, 7.0),
        place("commit 4 ms", commits(4), 5_000, 8, 7.0),
        place("commit, 1 core, <= 200", commits(1), 200, 8, 7.0),
        place(
            "USL .05/.02",
            cores(16).contention(0.05, 0.02),
            5_000,
            16,
            7.0,
        ),
        place("USL .2/.05", cores(16).contention(0.2, 0.05), 5_000, 8, 7.0),
        place("RTT 20 ms, n <= 1000", distant(), 1_000, 8, 7.0),
        place("RTT 20 ms", distant(), 5_000, 8, 7.0),
        limited(),
        place(
            "noise .5",
            cores(4).noise(0.5).outliers(0.02, 5.0),
            5_000,
            8,
            7.0,
        ),
        place("conflicts", cores(8).conflicts(1e-5), 5_000, 8, 20.0),
        place(
            "timeout 100 ms",
            plain(5e-4, 2e-3, 2e-5, 2).timeout(seconds(0.1)),
            5_000,
            8,
            10.0,
        ),
        changing(),
    ]
}

/// One at random: 1 to 16 cores, 0.1 to 30 ms of round trip, 0.1 to 5 ms a call, 1 to 50 µs an item,
/// a flush of 0, 1 or 5 ms, contention up to 0.1 and 0.03, noise 0.05 to 0.4.
pub fn drawn(seed: u64) -> Place {
    let mut draw = Draw::new(seed);
    let cores = draw.scale(1.0, 16.99) as u32;
    let round_trip = draw.scale(1e-4, 30e-3);
    let call = draw.scale(1e-4, 5e-3);
    let item = draw.scale(1e-6, 50e-6);
    let flush = [0.0, 1e-3, 5e-3][draw.uniform(0.0, 2.999) as usize];
    let backend = plain(round_trip, call, item, cores)
        .contention(draw.uniform(0.0, 0.1), draw.uniform(0.0, 0.03))
        .noise(draw.uniform(0.05, 0.4));
    let size = [100, 1_000, 5_000][draw.uniform(0.0, 2.999) as usize];
    let backend = if flush > 0.0 {
        backend.group_commit(seconds(flush))
    } else {
        backend
    };
    place(&format!("random {seed}"), backend, size, 8, 20.0)
}
