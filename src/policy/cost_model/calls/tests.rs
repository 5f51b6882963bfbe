use super::super::*;
use crate::feedback::{Sample, Signals};

/// How a call ends: after so many seconds, well or not.
type Service = Box<dyn FnMut(usize, usize) -> Result<f64, f64>>;

struct Flight {
    end: f64,
    batch: BatchSample,
}

/// A policy and a backend in made-up time, always with enough to do. The backend is a function of
/// the calls in flight, the new one included, and of its items.
struct Run {
    policy: CostModel,
    setpoint: Setpoint,
    service: Service,
    flights: Vec<Flight>,
    now: f64,
    sizes: (usize, usize),
    concurrency: (usize, usize),
    probe_used: u64,
    probes: u64,
    /// Whether batches reach their size.
    full: bool,
    /// The share of the calls at once that are in use.
    used: usize,
    cpu: Option<f64>,
    failures: usize,
    reasons: Vec<String>,
}

impl Run {
    fn new(max: usize, service: impl FnMut(usize, usize) -> Result<f64, f64> + 'static) -> Self {
        let setpoint = Setpoint {
            batch_size: 20,
            linger: Duration::from_secs(1),
            pause_ratio: 0.0,
            probe: None,
            concurrency: 1,
            zone: Zone::Unknown,
            score: None,
            reason: "the initial size".into(),
        };
        Self {
            policy: CostModel::new(),
            setpoint,
            service: Box::new(service),
            flights: Vec::new(),
            now: 0.0,
            sizes: (1, 1_000),
            concurrency: (1, max),
            probe_used: 0,
            probes: 0,
            full: true,
            used: usize::MAX,
            cpu: None,
            failures: 0,
            reasons: Vec::new(),
        }
    }

    fn fill(&mut self) {
        while self.flights.len() < self.setpoint.concurrency.min(self.used) {
            let probe = self
                .setpoint
                .probe
                .filter(|probe| probe.sequence != self.probe_used);
            let cut_at = probe.map_or(self.setpoint.batch_size, |probe| probe.batch_size);
            if let Some(probe) = probe {
                self.probe_used = probe.sequence;
            }
            let len = if self.full {
                cut_at
            } else {
                cut_at.div_ceil(2)
            };
            let in_flight = self.flights.len() + 1;
            let result = (self.service)(in_flight, len);
            let (Ok(seconds) | Err(seconds)) = result;
            let outcome = match result {
                Ok(_) => CallOutcome::Ok,
                Err(_) => CallOutcome::Transient,
            };
            self.flights.push(Flight {
                end: self.now + seconds,
                batch: BatchSample {
                    len,
                    cut_at,
                    full: self.full,
                    probe: probe.is_some(),
                    attempt: 1,
                    service_time: Duration::from_secs_f64(seconds),
                    queue_wait: Duration::ZERO,
                    failed: if result.is_ok() { 0 } else { len },
                    outcome,
                    in_flight,
                    concurrency: self.setpoint.concurrency,
                },
            });
        }
    }

    fn until(&mut self, end: f64) {
        while self.now < end {
            self.fill();
            let first = (0..self.flights.len())
                .min_by(|a, b| self.flights[*a].end.total_cmp(&self.flights[*b].end))
                .unwrap();
            let flight = self.flights.remove(first);
            self.now = flight.end;
            self.failures += usize::from(flight.batch.outcome != CallOutcome::Ok);
            self.sample(flight.batch);
        }
    }

    fn sample(&mut self, batch: BatchSample) {
        let samples = [Sample {
            signals: Signals {
                cpu_load: self.cpu,
                ..Signals::default()
            },
            batch: Some(batch),
        }];
        let window = Window {
            samples: &samples,
            lost: 0,
            now: Duration::from_secs_f64(self.now),
            is_check: false,
            min_batch_size: self.sizes.0,
            max_batch_size: self.sizes.1,
            linger: Duration::from_secs(1),
            min_concurrency: self.concurrency.0,
            max_concurrency: self.concurrency.1,
            custom: &[],
        };
        let decision = self.policy.decide(&window, &self.setpoint);
        let bounds = crate::policy::setpoint::Bounds {
            min: self.sizes.0,
            max: self.sizes.1,
            linger: Duration::from_secs(1),
            concurrency: (self.concurrency.0..=self.concurrency.1).into(),
        };
        let reason = decision.reason.to_string();
        if self.reasons.last() != Some(&reason) {
            self.reasons.push(reason);
        }
        self.setpoint = self.setpoint.follow(decision, &bounds, &mut self.probes);
    }

    /// The mean number of calls at once until then, by call.
    fn mean_calls(&mut self, end: f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        while self.now < end {
            self.until(self.now + 1e-9);
            sum += self.setpoint.concurrency as f64;
            count += 1.0;
        }
        sum / count
    }

    fn has_tried(&self) -> bool {
        self.reasons.iter().any(|reason| reason.contains("trying"))
    }
}

/// A factor that scatters by a few percent, the same in each run.
fn noise() -> impl FnMut() -> f64 {
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        0.9 + 0.2 * ((state >> 40) as f64 / (1_u64 << 24) as f64)
    }
}

/// A backend with so many cores: a call waits `latency` and then works for 1 ms and 10 µs an item.
fn cores(cores: usize, latency: f64) -> impl FnMut(usize, usize) -> Result<f64, f64> {
    let mut noise = noise();
    move |in_flight, items| {
        let stretch = (in_flight as f64 / cores as f64).max(1.0);
        Ok(latency + stretch * (1e-3 + 1e-5 * items as f64) * noise())
    }
}

#[test]
fn a_backend_that_only_makes_calls_wait_gets_the_most_calls_at_once() {
    let mut run = Run::new(8, cores(1_000, 20e-3));
    run.until(20.0);
    assert!(run.mean_calls(40.0) > 7.0, "{:?}", run.reasons);
}

#[test]
fn one_core_gets_one_call_at_once() {
    let mut run = Run::new(8, cores(1, 0.0));
    run.until(10.0);
    let mean = run.mean_calls(130.0);
    assert!(mean < 1.3, "{mean} {:?}", run.reasons);
    assert!(run.has_tried());
}

#[test]
fn four_cores_get_four_calls_at_once() {
    let mut run = Run::new(16, cores(4, 0.0));
    run.until(20.0);
    let mean = run.mean_calls(140.0);
    assert!((3.9..=5.0).contains(&mean), "{mean} {:?}", run.reasons);
}

#[test]
fn calls_at_once_are_found_with_a_fixed_size() {
    let mut run = Run::new(16, cores(4, 0.0));
    run.sizes = (100, 100);
    run.until(20.0);
    let mean = run.mean_calls(140.0);
    assert!((3.9..=5.0).contains(&mean), "{mean} {:?}", run.reasons);
}

#[test]
fn larger_batches_need_fewer_calls_at_once_and_get_them_soon() {
    let mut run = Run::new(8, cores(2, 5e-3));
    run.sizes = (1, 100);
    run.until(20.0);
    assert!(run.mean_calls(30.0) > 7.0, "{:?}", run.reasons);
    run.sizes = (1, 20_000);
    run.until(40.0);
    let mean = run.mean_calls(140.0);
    assert!((2.0..=4.2).contains(&mean), "{mean} {:?}", run.reasons);
}

#[test]
fn where_two_calls_share_a_flush_four_and_more_are_tried() {
    // One commit each flush of 4 ms, whether there is one call at once or two; beyond, half of the
    // calls in each flush.
    let mut noise = noise();
    let mut run = Run::new(8, move |in_flight, items| {
        let flushes = if in_flight == 1 { 1.0 } else { 2.0 };
        Ok((4e-3 * flushes + 1e-6 * items as f64) * noise())
    });
    run.sizes = (1, 100);
    run.until(10.0);
    assert!(run.mean_calls(20.0) > 7.0, "{:?}", run.reasons);
}

#[test]
fn a_limit_on_connections_is_found_and_hardly_ever_met_again() {
    let mut backend = cores(8, 0.0);
    let mut run = Run::new(8, move |in_flight, items| {
        if in_flight > 5 {
            Err(1e-4)
        } else {
            backend(in_flight, items)
        }
    });
    run.sizes = (1, 5_000);
    run.until(10.0);
    run.failures = 0;
    let mean = run.mean_calls(130.0);
    assert!((4.7..=5.1).contains(&mean), "{mean} {:?}", run.reasons);
    assert!(run.failures <= 5, "{} failures", run.failures);
}

#[test]
fn nothing_is_tried_while_batches_are_not_full() {
    let mut run = Run::new(8, cores(8, 0.0));
    run.full = false;
    run.sizes = (1, 50);
    run.until(20.0);
    assert!(!run.has_tried(), "{:?}", run.reasons);
    run.full = true;
    run.until(40.0);
    assert!(run.has_tried());
}

#[test]
fn no_more_calls_are_tried_while_the_allowed_ones_are_not_used() {
    let mut run = Run::new(8, cores(8, 0.0));
    (run.concurrency.0, run.setpoint.concurrency, run.used) = (4, 4, 2);
    run.until(20.0);
    assert!(!run.has_tried(), "{:?}", run.reasons);
    run.used = usize::MAX;
    run.until(40.0);
    assert!(run.has_tried());
}

/// A run that has settled at eight calls at once and the largest size.
fn settled() -> Run {
    let mut run = Run::new(8, cores(1_000, 20e-3));
    run.until(20.0);
    while run.policy.calls.is_on_trial() || run.policy.probes.pending.is_some() {
        run.until(run.now + 1e-9);
    }
    assert_eq!(run.setpoint.concurrency, 8);
    run
}

/// A call that fails after this share of its expected time.
fn fail(run: &mut Run, share: f64) {
    let items = run.setpoint.batch_size;
    let model = run.policy.model.as_ref().unwrap();
    let seconds = share * model.expected(items as f64);
    run.sample(BatchSample {
        len: items,
        cut_at: items,
        full: true,
        probe: false,
        attempt: 1,
        service_time: Duration::from_secs_f64(seconds),
        queue_wait: Duration::ZERO,
        failed: items,
        outcome: CallOutcome::Transient,
        in_flight: 8,
        concurrency: run.setpoint.concurrency,
    });
}

#[test]
fn a_call_refused_early_costs_a_quarter_of_the_calls_and_no_size() {
    let mut run = settled();
    let size = run.setpoint.batch_size;
    fail(&mut run, 0.1);
    assert_eq!(
        (run.setpoint.concurrency, run.setpoint.batch_size),
        (6, size)
    );
    assert!(run.setpoint.reason.to_string().contains("8 → 6 calls"));
    // The same number is tried again, later.
    run.until(run.now + 20.0);
    assert_eq!(run.setpoint.concurrency, 8);
}

#[test]
fn a_call_that_fails_late_halves_both_until_some_calls_are_clean() {
    let mut run = settled();
    let size = run.setpoint.batch_size;
    fail(&mut run, 3.0);
    assert_eq!(run.setpoint.concurrency, 4);
    assert_eq!(run.setpoint.batch_size, size / 2);
    run.until(run.now + 1.0);
    assert_eq!(run.setpoint.concurrency, 8);
}

#[test]
fn a_call_that_fails_in_time_concerns_the_size_alone() {
    let mut run = settled();
    let size = run.setpoint.batch_size;
    fail(&mut run, 1.0);
    assert_eq!(
        (run.setpoint.concurrency, run.setpoint.batch_size),
        (8, size / 2)
    );
}

#[test]
fn a_loaded_backend_gets_fewer_calls_at_once_and_then_pauses() {
    let mut run = settled();
    run.cpu = Some(1.0);
    run.until(run.now + 4.0);
    assert!(run.setpoint.concurrency < 8);
    assert_eq!(run.setpoint.pause_ratio, 0.0);
    let end = run.now + 20.0;
    while run.setpoint.pause_ratio == 0.0 {
        assert!(run.now < end, "{:?}", run.reasons);
        run.until(run.now + 1e-9);
    }
    assert_eq!(run.setpoint.concurrency, 1, "{:?}", run.reasons);
    assert!(
        run.reasons
            .iter()
            .any(|reason| reason.ends_with("2 → 1 call at once"))
    );
}

#[test]
fn without_a_range_the_size_is_decided_as_with_one_call_at_once() {
    let course = |calls: usize| {
        let mut run = Run::new(calls, |_, _| Ok(1.0));
        run.concurrency.0 = calls;
        run.setpoint.concurrency = calls;
        let mut noise = noise();
        let mut course = Vec::new();
        for turn in 0..500 {
            let probe = run
                .setpoint
                .probe
                .filter(|probe| probe.sequence != run.probe_used);
            let cut_at = probe.map_or(run.setpoint.batch_size, |probe| probe.batch_size);
            run.probe_used = probe.map_or(run.probe_used, |probe| probe.sequence);
            let failed = turn % 83 == 82;
            let seconds = (0.02 + 1e-4 * cut_at as f64) * noise();
            run.now += seconds;
            run.sample(BatchSample {
                len: cut_at,
                cut_at,
                full: true,
                probe: probe.is_some(),
                attempt: 1,
                service_time: Duration::from_secs_f64(seconds),
                queue_wait: Duration::ZERO,
                failed: if failed { cut_at } else { 0 },
                outcome: if failed {
                    CallOutcome::Transient
                } else {
                    CallOutcome::Ok
                },
                in_flight: 1,
                concurrency: 1,
            });
            assert_eq!(run.setpoint.concurrency, calls);
            course.push((
                run.setpoint.batch_size,
                run.setpoint.probe,
                run.setpoint.reason.clone(),
            ));
        }
        course
    };
    assert_eq!(course(1), course(6));
}
