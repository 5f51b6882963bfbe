//! What the buttons set, and what follows from it as time passes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use load_aware_batcher::Producer;

use crate::reading::Reading;

pub const PATTERNS: [&str; 5] = ["constant", "sine", "spikes", "gradual", "neighbours"];
/// Items a second for each batcher, where the pattern says once.
pub const RATES: [(&str, f64); 4] = [
    ("6000/s", 6000.0),
    ("600/s", 600.0),
    ("2000/s", 2000.0),
    ("20 000/s", 20_000.0),
];

/// See the module's doc.
pub struct Scene {
    pattern: Mutex<Pattern>,
    rate: AtomicUsize,
    broken: AtomicBool,
}

/// A pattern begins when it is chosen.
#[derive(Clone, Copy)]
struct Pattern {
    name: &'static str,
    begun: Instant,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            pattern: Mutex::new(Pattern::begin(PATTERNS[0])),
            rate: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    pub fn choose_pattern(&self, choice: &str) {
        let known = PATTERNS.into_iter().find(|name| *name == choice);
        let mut pattern = self.pattern.lock().unwrap_or_else(PoisonError::into_inner);
        *pattern = Pattern::begin(known.unwrap_or(PATTERNS[0]));
    }

    pub fn choose_rate(&self, choice: &str) {
        let index = RATES.iter().position(|(name, _)| *name == choice);
        self.rate.store(index.unwrap_or(0), Relaxed);
    }

    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Relaxed);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Arrivals, in items a second.
    pub fn rate(&self) -> f64 {
        RATES[self.rate.load(Relaxed)].1 * self.pattern().times()
    }

    /// The share of the backend that other clients use: 0 without the neighbours.
    pub fn neighbours(&self) -> f64 {
        self.pattern().neighbours()
    }

    fn pattern(&self) -> Pattern {
        *self.pattern.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pattern {
    fn begin(name: &'static str) -> Self {
        Self {
            name,
            begun: Instant::now(),
        }
    }

    /// Arrivals as a multiple of the chosen rate.
    fn times(self) -> f64 {
        let time = self.begun.elapsed().as_secs_f64();
        match self.name {
            "sine" => 1.6 + 1.4 * (time / 20.0 * std::f64::consts::TAU).sin(),
            "spikes" if time % 15.0 < 3.0 => 5.0,
            "gradual" => 0.2 + 3.8 * (time % 60.0) / 60.0,
            _ => 1.0,
        }
    }

    fn neighbours(self) -> f64 {
        if self.name != "neighbours" {
            return 0.0;
        }
        let time = self.begun.elapsed().as_secs_f64();
        0.45 - 0.45 * (time / 30.0 * std::f64::consts::TAU).cos()
    }
}

/// Adds at the scene's rate until the batcher is closed. Waits while the queue is full, and does
/// not make up for it later.
pub fn feed(producer: &Producer<Reading>, scene: &Scene) {
    const TICK: Duration = Duration::from_millis(5);
    /// A thread that slept for longer than a tick makes up for so much.
    const CATCH_UP: Duration = Duration::from_millis(100);
    let (mut id, mut due, mut before) = (0, 0.0, Instant::now());
    loop {
        std::thread::sleep(TICK);
        let passed = before.elapsed().min(CATCH_UP);
        before = Instant::now();
        due += scene.rate() * passed.as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            id += 1;
            if producer.add(Reading::numbered(id)).is_err() {
                return;
            }
        }
    }
}
