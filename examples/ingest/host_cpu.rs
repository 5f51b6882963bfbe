//! The CPU load of this host: worth reporting where the database runs on it too.

use load_aware_batcher::{LoadFeedback, Sensor};
use sysinfo::System;

/// The mean over all cores since the last sample.
pub struct HostCpu {
    system: System,
    first: bool,
}

impl HostCpu {
    pub fn new() -> Self {
        Self {
            system: System::new(),
            first: true,
        }
    }
}

impl Sensor for HostCpu {
    fn sample(&mut self, feedback: LoadFeedback) -> LoadFeedback {
        self.system.refresh_cpu_usage();
        // A load is the difference of two readings: the first has none.
        if std::mem::take(&mut self.first) {
            return feedback;
        }
        feedback.cpu_load(f64::from(self.system.global_cpu_usage()) / 100.0)
    }
}
