//! What `CostModel` is compared with: fixed numbers of calls at once, and the policies of other
//! projects. All but Flink's leave the size to `CostModel`.

use load_aware_batcher::sim::{Report, Simulation};
use load_aware_batcher::{
    BatchSample, Cadence, CallOutcome, CostModel, Decision, Policy, Setpoint, Window,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    OneCall,
    AllCalls,
    Arc,
    Gradient2,
    Flink,
    CostModel,
}

impl Rival {
    pub const ALL: [Self; 6] = [
        Self::OneCall,
        Self::AllCalls,
        Self::Arc,
        Self::Gradient2,
        Self::Flink,
        Self::CostModel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OneCall => "k = 1",
            Self::AllCalls => "k = K",
            Self::Arc => "Vector ARC",
            Self::Gradient2 => "Gradient2",
            Self::Flink => "Flink AIMD",
            Self::CostModel => "CostModel",
        }
    }

    /// Runs it with at most `most` calls at once.
    pub fn run(self, simulation: Simulation, most: usize) -> Report {
        let range = simulation.clone().concurrency(1..=most);
        match self {
            Self::OneCall => simulation.concurrency(1).run(CostModel::new()),
            Self::AllCalls => simulation.concurrency(most).run(CostModel::new()),
            Self::Arc => range.run(Sized::new(Arc::new(most))),
            Self::Gradient2 => range.run(Sized::new(Gradient2::new(most))),
            Self::Flink => range.run(Flink::new(most)),
            Self::CostModel => range.run(CostModel::new()),
        }
    }
}

/// A policy that decides only how many calls there are at once.
trait CallsPolicy: Send {
    fn take(&mut self, batch: &BatchSample, now: f64);
    fn calls(&self) -> usize;
}

/// `CostModel` for the size, and another policy for the calls at once.
struct Sized<L> {
    size: CostModel,
    calls: L,
}

impl<L> Sized<L> {
    fn new(calls: L) -> Self {
        let size = CostModel::new();
        Self { size, calls }
    }
}

impl<L: CallsPolicy> Policy for Sized<L> {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        for batch in window.samples.iter().filter_map(|s| s.batch.as_ref()) {
            self.calls.take(batch, window.now.as_secs_f64());
        }
        let without_range = Window {
            min_concurrency: current.concurrency,
            max_concurrency: current.concurrency,
            ..*window
        };
        Decision {
            concurrency: Some(self.calls.calls()),
            ..self.size.decide(&without_range, current)
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}

/// Vector's adaptive request concurrency, with its defaults. It allows one call more in each round
/// trip while times do not rise. It allows a tenth less when times exceed the mean by 2.5
/// deviations, or when a call fails.
struct Arc {
    most: usize,
    calls: usize,
    mean: Option<f64>,
    variance: f64,
    next: f64,
    sum: f64,
    count: f64,
    failed: bool,
    reached: bool,
}

impl Arc {
    fn new(most: usize) -> Self {
        Self {
            most,
            calls: 1,
            mean: None,
            variance: 0.0,
            next: 0.0,
            sum: 0.0,
            count: 0.0,
            failed: false,
            reached: false,
        }
    }
}

impl CallsPolicy for Arc {
    fn take(&mut self, batch: &BatchSample, now: f64) {
        if batch.outcome == CallOutcome::Ok {
            self.sum += batch.service_time.as_secs_f64();
            self.count += 1.0;
        } else {
            self.failed = true;
        }
        self.reached |= batch.in_flight >= self.calls;
        let recent = (self.count > 0.0).then(|| self.sum / self.count);
        let Some(mean) = self.mean else {
            self.mean = recent;
            self.next = now + recent.unwrap_or(0.0);
            return;
        };
        if now < self.next {
            return;
        }
        let threshold = mean + 2.5 * self.variance.sqrt();
        let is_fast = recent.is_some_and(|recent| recent <= mean);
        if self.calls < self.most && self.reached && !self.failed && is_fast {
            self.calls += 1;
        } else if self.failed || recent.unwrap_or(0.0) >= threshold {
            self.calls = ((self.calls as f64 * 0.9) as usize).max(1);
        }
        let mut new = mean;
        if let Some(recent) = recent {
            let step = 0.4 * (recent - mean);
            new = mean + step;
            self.variance = 0.6 * (self.variance + (recent - mean) * step);
        }
        self.mean = Some(new);
        self.next = now + new;
        (self.sum, self.count, self.failed, self.reached) = (0.0, 0.0, false, false);
    }

    fn calls(&self) -> usize {
        self.calls
    }
}

/// Netflix' Gradient2 with windows of a second and at least ten calls.
struct Gradient2 {
    most: f64,
    limit: f64,
    long: Option<f64>,
    windows: f64,
    next: f64,
    sum: f64,
    count: f64,
    in_flight: usize,
}

impl Gradient2 {
    fn new(most: usize) -> Self {
        Self {
            most: most as f64,
            limit: 1.0,
            long: None,
            windows: 0.0,
            next: 1.0,
            sum: 0.0,
            count: 0.0,
            in_flight: 0,
        }
    }
}

impl CallsPolicy for Gradient2 {
    fn take(&mut self, batch: &BatchSample, now: f64) {
        self.sum += batch.service_time.as_secs_f64();
        self.count += 1.0;
        self.in_flight = self.in_flight.max(batch.in_flight);
        if now < self.next || self.count < 10.0 {
            return;
        }
        let short = self.sum / self.count;
        self.windows += 1.0;
        let gain = if self.windows <= 10.0 {
            1.0 / self.windows
        } else {
            2.0 / 601.0
        };
        let mut long = self.long.map_or(short, |long| long + (short - long) * gain);
        if long / short > 2.0 {
            long *= 0.95;
        }
        self.long = Some(long);
        if self.in_flight as f64 >= self.limit / 2.0 {
            let gradient = (1.5 * long / short).clamp(0.5, 1.0);
            let wanted = self.limit * gradient + 4.0;
            self.limit = (0.8 * self.limit + 0.2 * wanted).clamp(1.0, self.most);
        }
        (self.sum, self.count, self.in_flight) = (0.0, 0.0, 0);
        self.next = now + 1.0;
    }

    fn calls(&self) -> usize {
        self.limit as usize
    }
}

/// The sink writer of Flink: ten items more in flight after a call that succeeded, half of them
/// after one that failed.
struct Flink {
    most: usize,
    batch: usize,
    items: usize,
}

impl Flink {
    fn new(most: usize) -> Self {
        let batch = 500;
        Self {
            most,
            batch,
            items: batch,
        }
    }
}

impl Policy for Flink {
    fn decide(&mut self, window: &Window<'_>, _current: &Setpoint) -> Decision {
        let batch = self.batch.min(window.max_batch_size);
        for call in window.samples.iter().filter_map(|s| s.batch.as_ref()) {
            self.items = if call.failed > 0 {
                (self.items / 2).max(1)
            } else {
                (self.items + 10).min(batch * self.most)
            };
        }
        let size = batch.min(self.items).max(1);
        Decision {
            concurrency: Some((self.items / size).clamp(1, self.most)),
            ..Decision::resize(size, "items in flight")
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}
