//! The handler: gives each batch to the store and says how loaded things are.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use sysinfo::System;

use crate::row::Row;
use crate::store::Store;
use crate::walk::Findings;

pub struct Writer {
    pub store: Arc<Mutex<Store>>,
    pub findings: Arc<Findings>,
    pub cpu: CpuMeter,
}

impl Handler<Row> for Writer {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        if batch.attempt() == 1 && batch.parent().is_none() {
            self.findings.backlog.fetch_sub(batch.len() as u64, Relaxed);
        }
        let written = self
            .store
            .lock()
            .expect("nothing panics under it")
            .write(batch)?;
        let feedback = LoadFeedback::new()
            .queue_depth(self.findings.backlog.load(Relaxed))
            .error_rate(written.refused as f64 / batch.len() as f64)
            .db_locks(written.busy_retries);
        Ok(match self.cpu.load() {
            Some(load) => feedback.cpu_load(load),
            None => feedback,
        })
    }
}

/// The CPU load of the whole host, measured a few times a second, however often it is asked for.
pub struct CpuMeter {
    system: System,
    measured: Instant,
    load: Option<f64>,
}

/// A shorter span says little: the kernel counts in hundredths of a second.
const CPU_SPAN: Duration = Duration::from_millis(250);

impl CpuMeter {
    pub fn new() -> Self {
        let mut system = System::new();
        system.refresh_cpu_usage();
        Self {
            system,
            measured: Instant::now(),
            load: None,
        }
    }

    /// The load over the last span, 0..=1; `None` before there was one, and where it cannot be
    /// measured.
    fn load(&mut self) -> Option<f64> {
        if sysinfo::IS_SUPPORTED_SYSTEM && self.measured.elapsed() >= CPU_SPAN {
            self.system.refresh_cpu_usage();
            self.measured = Instant::now();
            self.load = Some((f64::from(self.system.global_cpu_usage()) / 100.0).clamp(0.0, 1.0));
        }
        self.load
    }
}
