//! The neighbours: threads that load the same machine and the same database until they are stopped.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the neighbours do.
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
pub struct Neighbours {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Neighbours {
    /// Starts `count` threads; each makes its step with `make(number)` and runs it until it fails
    /// or the storm is over.
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
                            eprintln!("a neighbour leaves: {error}");
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

    /// Waits until they are gone. Returns how many steps they did.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a neighbour that could begin");
        }
        self.steps.load(Ordering::Relaxed)
    }
}
