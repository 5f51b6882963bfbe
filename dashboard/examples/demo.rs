//! Three batchers with the same arrivals and a simulated backend each, and a page to play with:
//! load patterns, a backend to break, and a change of policy at run time.
//!
//! `cargo run --release -p load-aware-batcher-dashboard --example demo -- 127.0.0.1:4700`

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, BatchError, Batcher, BuildError, CostModel, Fixed, Limits, LoadFeedback, LoadThreshold,
    Producer,
};
use load_aware_batcher_dashboard::Dashboard;

const PATTERNS: [&str; 5] = ["constant", "sine", "spikes", "gradual", "neighbours"];
const POLICIES: [&str; 4] = ["side by side", "Fixed(50)", "LoadThreshold", "CostModel"];
const NAMES: [&str; 3] = ["Fixed(50)", "LoadThreshold", "CostModel"];

/// Items a second at the pattern's base.
const RATE: f64 = 6000.0;
/// What a call costs the backend, and each of its items.
const CALL: Duration = Duration::from_millis(4);
const ITEM: Duration = Duration::from_micros(20);
/// One row in this many has a duplicate key.
const BAD_ROW: u64 = 100_000;

/// What the buttons set.
struct Scene {
    start: Instant,
    pattern: AtomicUsize,
    broken: AtomicBool,
}

impl Scene {
    fn pattern(&self) -> &'static str {
        PATTERNS[self.pattern.load(Relaxed)]
    }

    /// Arrivals, in items a second.
    fn rate(&self) -> f64 {
        let time = self.start.elapsed().as_secs_f64();
        let times = match self.pattern() {
            "sine" => 1.6 + 1.4 * (time / 20.0 * std::f64::consts::TAU).sin(),
            "spikes" if time % 15.0 < 3.0 => 5.0,
            "gradual" => 0.2 + 3.8 * (time % 60.0) / 60.0,
            _ => 1.0,
        };
        RATE * times
    }

    /// The share of the backend that other clients use: 0 without the neighbours.
    fn neighbours(&self) -> f64 {
        if self.pattern() != "neighbours" {
            return 0.0;
        }
        let time = self.start.elapsed().as_secs_f64();
        0.45 - 0.45 * (time / 30.0 * std::f64::consts::TAU).cos()
    }

    /// A call of the simulated backend.
    fn call(&self, batch: &mut Batch<u64>) -> Result<LoadFeedback, BatchError> {
        if self.broken.load(Relaxed) {
            thread::sleep(CALL);
            return Err(BatchError::unavailable("the demo's backend is broken"));
        }
        let items = ITEM * u32::try_from(batch.len())?;
        let neighbours = self.neighbours();
        thread::sleep((CALL + items).div_f64(1.0 - 0.8 * neighbours));
        for index in 0..batch.len() {
            if batch[index] % BAD_ROW == BAD_ROW - 1 {
                let key = batch[index];
                let problem = format!("duplicate key {key} in \"readings\"");
                batch.reject(index, BatchError::permanent(problem));
            }
        }
        let own = items.as_secs_f64() / (CALL + items).as_secs_f64();
        Ok(LoadFeedback::new().cpu_load((0.5 * own + 0.6 * neighbours).min(1.0)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address: SocketAddr = address.as_deref().unwrap_or("127.0.0.1:4700").parse()?;
    let scene = Arc::new(Scene {
        start: Instant::now(),
        pattern: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
    });
    let mut batchers = Vec::new();
    for name in NAMES {
        let batcher = start(name, &scene)?;
        let (producer, scene) = (batcher.producer(), Arc::clone(&scene));
        thread::spawn(move || feed(&producer, &scene));
        batchers.push(batcher);
    }
    let batchers = Arc::new(batchers);
    let observed = batchers.iter().fold(Dashboard::builder(), |it, batcher| {
        it.watch(batcher.observer())
    });
    let of_pattern = Arc::clone(&scene);
    let dashboard = observed
        .bind(address)
        .control("pattern", PATTERNS, move |choice| {
            let index = PATTERNS.iter().position(|known| *known == choice);
            of_pattern.pattern.store(index.unwrap_or(0), Relaxed);
        })
        .control("backend", ["works", "break the backend"], move |choice| {
            scene.broken.store(choice != "works", Relaxed);
        })
        .control("policy", POLICIES, move |choice| {
            for (name, batcher) in NAMES.into_iter().zip(&*batchers) {
                let policy = if choice == POLICIES[0] { name } else { choice };
                if let Err(error) = batcher.reconfigure(|limits| set(limits, policy)) {
                    eprintln!("{name}: {error}");
                }
            }
        })
        .start()?;
    println!("{}  (Enter ends the demo)", dashboard.url());
    if io::stdin().read_line(&mut String::new())? == 0 {
        // There is nobody at a keyboard: until the process is ended.
        loop {
            thread::park();
        }
    }
    Ok(())
}

fn start(name: &str, scene: &Arc<Scene>) -> Result<Batcher<u64>, BuildError> {
    let scene = Arc::clone(scene);
    let batcher = Batcher::builder()
        .name(name)
        .initial_batch_size(50)
        .max_batch_size(5000)
        .on_failed(|_| {})
        .spawn(move |batch: &mut Batch<u64>| scene.call(batch))?;
    batcher.reconfigure(|limits| set(limits, name))?;
    Ok(batcher)
}

fn set(limits: &mut Limits, policy: &str) {
    match policy {
        "Fixed(50)" => limits.policy(Fixed(50)),
        "LoadThreshold" => limits.policy(LoadThreshold::new()),
        _ => limits.policy(CostModel::new()),
    }
}

/// Adds at the scene's rate. Waits while the queue is full, and does not make up for it later.
fn feed(producer: &Producer<u64>, scene: &Scene) {
    const TICK: Duration = Duration::from_millis(5);
    let (mut key, mut due) = (0, 0.0);
    loop {
        due += scene.rate() * TICK.as_secs_f64();
        let next = Instant::now() + TICK;
        while due >= 1.0 {
            due -= 1.0;
            key += 1;
            if producer.add(key).is_err() {
                return;
            }
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
