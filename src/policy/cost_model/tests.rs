use super::*;
use crate::feedback::{Sample, Signals};
use crate::policy::Reason;

/// A policy with a backend that answers at once, as a function of the size.
struct Course {
    policy: CostModel,
    setpoint: Setpoint,
    now: Duration,
    probes: u64,
    max: usize,
}

fn millis(time: f64) -> Duration {
    Duration::from_secs_f64(time / 1e3)
}

fn batch(len: usize, time: f64) -> BatchSample {
    BatchSample {
        len,
        cut_at: len,
        full: true,
        probe: false,
        attempt: 1,
        service_time: millis(time),
        queue_wait: Duration::ZERO,
        failed: 0,
        outcome: CallOutcome::Ok,
        in_flight: 1,
        concurrency: 1,
    }
}

fn failing(len: usize, time: f64) -> BatchSample {
    BatchSample {
        failed: len,
        outcome: CallOutcome::Transient,
        ..batch(len, time)
    }
}

impl Course {
    fn new(policy: CostModel) -> Self {
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
            policy,
            setpoint,
            now: Duration::ZERO,
            probes: 0,
            max: 500,
        }
    }

    fn next_size(&self) -> usize {
        self.setpoint
            .probe
            .map_or(self.setpoint.batch_size, |probe| probe.batch_size)
    }

    fn sample(&mut self, batch: BatchSample) -> usize {
        self.sample_with(Signals::default(), batch)
    }

    fn sample_with(&mut self, signals: Signals, batch: BatchSample) -> usize {
        self.now += batch.service_time;
        self.decide(
            &[Sample {
                signals,
                batch: Some(batch),
            }],
            false,
        );
        self.setpoint.batch_size
    }

    fn decide(&mut self, samples: &[Sample], is_check: bool) {
        self.decide_without(0, samples, is_check);
    }

    /// A decision after this many samples were overwritten.
    fn decide_without(&mut self, lost: u64, samples: &[Sample], is_check: bool) {
        let window = Window {
            samples,
            lost,
            now: self.now,
            is_check,
            min_batch_size: 1,
            max_batch_size: self.max,
            linger: Duration::from_secs(1),
            min_concurrency: 1,
            max_concurrency: 1,
            custom: &[],
        };
        let decision = self.policy.decide(&window, &self.setpoint);
        let bounds = crate::policy::setpoint::Bounds {
            min: 1,
            max: self.max,
            linger: Duration::from_secs(1),
            concurrency: crate::policy::Concurrency::default(),
        };
        self.setpoint = self.setpoint.follow(decision, &bounds, &mut self.probes);
    }

    /// One batch of the size asked for against `fixed + each · n` ms.
    fn run(&mut self, fixed: f64, each: f64) -> usize {
        let len = self.next_size();
        let probe = self.setpoint.probe.is_some();
        self.sample(BatchSample {
            probe,
            ..batch(len, fixed + each * len as f64)
        });
        len
    }

    /// At the knee of `24 + 1.25 n` ms, after the start.
    fn settled() -> Self {
        let mut course = Self::new(CostModel::new());
        (0..8).for_each(|_| {
            course.run(24.0, 1.25);
        });
        course.setpoint.probe = None;
        course.policy.probes.pending = None;
        course
    }
}

/// 0.1 ms a call, and items that are cheap once a thousand of them share pages.
fn sharing(len: usize) -> f64 {
    0.1 + 0.0065 * len as f64 + 0.011 * len.min(1_000) as f64
}

#[test]
fn the_golden_run_step_by_step() {
    let golden: [usize; 26] = [
        20, 40, 80, 160, 320, 364, 364, 364, 22, 364, 364, 364, 364, 364, 364, 364, 182, 364, 364,
        364, 364, 364, 364, 364, 22, 364,
    ];
    let mut course = Course::new(CostModel::new());
    for (place, expected) in golden.into_iter().enumerate() {
        assert_eq!(course.run(24.0, 1.25), expected, "batch {}", place + 1);
        if place > 0 {
            let model = course.policy.model.as_ref().unwrap();
            assert!(
                (model.call - 19.2).abs() < 1e-6 && (model.item - 0.00125).abs() < 1e-9,
                "batch {}",
                place + 1
            );
        }
    }
}

#[test]
fn the_start_finds_the_knee_of_any_backend() {
    // Fixed ms, ms an item, the largest size, and where it has to be after 40 batches.
    let table = [
        (24.0, 1.25, 500, 364),
        (2.0, 1.0, 500, 37),
        (100.0, 0.1, 500, 500),
        (0.02, 0.001, 5_000, 380),
        (50.0, 0.0, 500, 500),
        (10.0, 10.0, 3, 3),
    ];
    for (fixed, each, max, expected) in table {
        let mut course = Course::new(CostModel::new());
        course.max = max;
        (0..40).for_each(|_| {
            course.run(fixed, each);
        });
        let size = course.setpoint.batch_size;
        assert!(
            size.abs_diff(expected) <= 1 + expected / 50,
            "{fixed} + {each}·n: {size} instead of {expected}"
        );
    }
}

#[test]
fn a_start_from_one_grows_although_sizes_round() {
    let mut course = Course::new(CostModel::new());
    course.setpoint.batch_size = 1;
    (0..30).for_each(|_| {
        course.run(24.0, 1.25);
    });
    assert!(
        course.setpoint.batch_size >= 350,
        "{}",
        course.setpoint.batch_size
    );
}

#[test]
fn the_users_bound_is_kept() {
    let mut course = Course::new(CostModel::new().max_batch_time(millis(200.0)));
    (0..60).for_each(|_| {
        course.run(24.0, 1.25);
    });
    // 24 + 1.25·n over the least margin of the noise.
    let size = course.setpoint.batch_size;
    assert!((133..=136).contains(&size), "{size}");
    assert!(
        matches!(course.setpoint.reason, Reason::BatchTime { .. }),
        "{}",
        course.setpoint.reason
    );
}

#[test]
fn competing_load_makes_items_slower_and_leaves_the_knee() {
    let mut course = Course::settled();
    course.policy.max_batch_time = 60.0;
    (0..60).for_each(|_| {
        course.run(72.0, 3.75);
    });
    let model = course.policy.model.as_ref().unwrap();
    assert!((model.item - 0.00375).abs() < 0.000_2, "{}", model.item);
    assert!(
        (course.setpoint.batch_size as f64 / 364.0 - 1.0).abs() < 0.15,
        "{}",
        course.setpoint.batch_size
    );
}

#[test]
fn only_full_batches_make_the_size_grow() {
    let mut course = Course::new(CostModel::new());
    for turn in 0..200 {
        let len = 2 + turn % 17;
        course.sample(BatchSample {
            len,
            full: false,
            cut_at: 20,
            ..batch(len, 24.0 + 1.25 * len as f64)
        });
        assert!(
            course.setpoint.batch_size <= 20,
            "{}",
            course.setpoint.batch_size
        );
    }
}

#[test]
fn a_pinned_size_and_an_unchanged_one_are_explained_once() {
    let mut course = Course::new(CostModel::new());
    course.max = 100;
    let mut reasons = Vec::new();
    for _ in 0..60 {
        course.run(24.0, 1.25);
        if reasons.last() != Some(&course.setpoint.reason) {
            reasons.push(course.setpoint.reason.clone());
        }
    }
    assert_eq!(
        reasons.last().unwrap().to_string(),
        "the best size is the maximum or above"
    );
    assert!(reasons.len() <= 5, "{reasons:#?}");
    // A figure that changed while the size did not gives no new reason.
    let before = Reason::CallCost {
        items: 19.3,
        from: 320,
        to: 364,
    };
    let times = why::BatchTimes::default();
    assert_eq!(
        Why::CallCost(19.2).or_previous(364, 364, times, &before),
        before
    );
    assert_ne!(
        Why::CallCost(19.2).or_previous(364, 365, times, &before),
        before
    );
    assert_ne!(
        Why::Maximum.or_previous(364, 364, times, &"the initial size".into()),
        "the initial size".into()
    );
}

#[test]
fn a_load_over_the_threshold_leads_to_pauses_and_no_smaller_size() {
    let hot = Signals {
        cpu_load: Some(0.95),
        ..Signals::default()
    };
    let mut course = Course::settled();
    for _ in 0..8 {
        let size = course.setpoint.batch_size;
        course.sample_with(hot, batch(size, 24.0 + 1.25 * size as f64));
    }
    assert_eq!(course.setpoint.batch_size, 364);
    assert!(
        course.setpoint.pause_ratio > 0.3,
        "{}",
        course.setpoint.pause_ratio
    );
    let cool = Signals {
        cpu_load: Some(0.2),
        ..Signals::default()
    };
    for _ in 0..80 {
        course.sample_with(cool, batch(364, 479.0));
    }
    assert!(
        course.setpoint.pause_ratio.abs() < 1e-9,
        "{}",
        course.setpoint.pause_ratio
    );
}

#[test]
fn a_load_that_pauses_do_not_lower_is_ignored() {
    let hot = Signals {
        cpu_load: Some(0.95),
        ..Signals::default()
    };
    let mut course = Course::settled();
    let ratios: Vec<f64> = (0..60)
        .map(|_| {
            course.sample_with(hot, batch(364, 479.0));
            course.setpoint.pause_ratio
        })
        .collect();
    let throttled = ratios.iter().filter(|ratio| **ratio > 0.0).count();
    assert!(
        (5..30).contains(&throttled),
        "{throttled} of 60: {ratios:?}"
    );
}

#[test]
fn settings_out_of_range_are_named() {
    let table = [
        (
            CostModel::new().efficiency(1.0),
            "efficiency is 1: must be greater than 0 and less than 1",
        ),
        (
            CostModel::new().efficiency(f64::NAN),
            "efficiency is NaN: must be greater than 0 and less than 1",
        ),
        (
            CostModel::new().max_batch_time(Duration::ZERO),
            "max_batch_time is 0s: must be greater than zero",
        ),
        (
            CostModel::new().throttle_above(1.5, 0.05),
            "throttle_above is 1.5: must be between 0 and 1",
        ),
        (
            CostModel::new().throttle_above(0.7, f64::NAN),
            "throttle_above is NaN: must be between 0 and 1",
        ),
    ];
    for (policy, expected) in table {
        assert_eq!(policy.validate().unwrap_err().to_string(), expected);
    }
    assert!(CostModel::new().validate().is_ok());
}

#[path = "tests/failures.rs"]
mod failures;
#[path = "tests/large_probes.rs"]
mod large_probes;
#[path = "tests/regimes.rs"]
mod regimes;
#[path = "tests/walls.rs"]
mod walls;
