//! The competitors: threads that load the same machine and the same database until they are
//! stopped.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A kind of competing load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storm {
    /// Twelve clients with queries that cost CPU.
    Cpu,
    /// One client that holds a lock on the same table 70 of every 170 ms.
    Locks,
    /// Four clients that commit all the time.
    Fsync,
}

pub const CPU_CLIENTS: usize = 12;
pub const FSYNC_CLIENTS: usize = 4;
pub const LOCK_HELD: Duration = Duration::from_millis(70);
pub const LOCK_FREE: Duration = Duration::from_millis(100);

impl Storm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Locks => "locks",
            Self::Fsync => "fsync",
        }
    }
}

impl FromStr for Storm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "locks" => Ok(Self::Locks),
            "fsync" => Ok(Self::Fsync),
            _ => Err(format!(
                "there is no storm {name:?}: must be cpu, locks or fsync"
            )),
        }
    }
}

/// Threads that run a step again and again.
pub struct Competitors {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Competitors {
    /// Starts `count` threads. Each makes its step with `make(number)`, and repeats it until it
    /// fails or the storm is over.
    pub fn start<M, S>(count: usize, make: M) -> Self
    where
        M: Fn(usize) -> S + Send + Sync + 'static,
        S: FnMut() -> Result<(), Box<dyn std::error::Error>>,
    {
        let (stop, steps, make) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::new(make),
        );
        let threads = (0..count)
            .map(|number| {
                let (stop, steps, make) =
                    (Arc::clone(&stop), Arc::clone(&steps), Arc::clone(&make));
                std::thread::spawn(move || {
                    let mut step = make(number);
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(error) = step() {
                            eprintln!("a competitor ends: {error}");
                            return;
                        }
                        steps.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self {
            stop,
            steps,
            threads,
        }
    }

    /// Stops them and waits for their end. Returns how many steps they took.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a competitor that has not panicked");
        }
        self.steps.load(Ordering::Relaxed)
    }
}
