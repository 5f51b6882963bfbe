//! Sensors: what they measure reaches the policy, and they end with the batcher.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use load_aware_batcher::{
    Batch, Batcher, Cadence, Decision, LoadFeedback, Policy, Sensor, Setpoint, Window,
};

const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(1);

/// Sends each CPU load that it gets.
struct Shown(Sender<f64>);

impl Policy for Shown {
    fn decide(&mut self, window: &Window<'_>, current: &Setpoint) -> Decision {
        for sample in window.samples {
            if let Some(load) = sample.signals.cpu_load {
                let _ = self.0.send(load);
            }
        }
        Decision::hold(current, "a listener")
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryCheck
    }
}

fn nothing(_: &mut Batch<u64>) -> Result<LoadFeedback, load_aware_batcher::BatchError> {
    Ok(LoadFeedback::new())
}

fn listening(interval: Duration, sensor: impl Sensor + 'static) -> (Batcher<u64>, Receiver<f64>) {
    let (tell, shown) = channel();
    let batcher = Batcher::builder()
        .policy(Shown(tell))
        .load_check_interval(SOON)
        .sensor(interval, sensor)
        .spawn(nothing)
        .expect("it starts");
    (batcher, shown)
}

#[test]
fn what_a_sensor_measures_reaches_the_policy_again_and_again() {
    let mut load = 0.0;
    let rising = move |feedback: LoadFeedback| {
        load += 0.01_f64;
        feedback.cpu_load(load.min(1.0))
    };
    let (batcher, shown) = listening(SOON, rising);
    let first = shown.recv_timeout(LONG).expect("a first sample");
    let later = shown.recv_timeout(LONG).expect("another one");
    assert!(first < later);
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn the_first_sample_is_taken_at_the_start() {
    let (batcher, shown) = listening(LONG, |feedback: LoadFeedback| feedback.cpu_load(0.5));
    assert_eq!(shown.recv_timeout(LONG), Ok(0.5));
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn a_sensor_that_measures_nothing_reports_nothing() {
    let (sampled, samples) = channel();
    let blind = move |feedback: LoadFeedback| {
        let _ = sampled.send(());
        feedback
    };
    let (batcher, shown) = listening(SOON, blind);
    for _ in 0..3 {
        samples.recv_timeout(LONG).expect("it is asked");
    }
    assert_eq!(batcher.stats().average_load, None);
    assert!(shown.try_recv().is_err());
}

#[test]
fn a_sensor_that_panics_is_counted_and_called_again() {
    let mut asked = 0;
    let broken_at_first = move |feedback: LoadFeedback| {
        asked += 1;
        assert!(asked > 2, "nothing to see");
        feedback.cpu_load(0.25)
    };
    let (batcher, shown) = listening(SOON, broken_at_first);
    assert_eq!(shown.recv_timeout(LONG), Ok(0.25));
    assert_eq!(batcher.stats().sensor_panics, 2);
}

#[test]
fn a_sensor_ends_with_the_batcher_however_that_ends() {
    type End = fn(Batcher<u64>);
    let ends: [End; 2] = [|batcher| drop(batcher.close(LONG)), drop];
    for end in ends {
        let (captured, ended) = channel::<()>();
        let idle = move |feedback: LoadFeedback| {
            let _ = &captured;
            feedback
        };
        let (batcher, _shown) = listening(LONG, idle);
        end(batcher);
        // The sender is dropped with the sensor.
        assert_eq!(
            ended.recv_timeout(LONG),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
    }
}

#[test]
fn a_close_does_not_wait_for_a_sensor_that_hangs() {
    let (hangs, hanging) = channel();
    let (release, released) = channel::<()>();
    let hung = move |feedback: LoadFeedback| {
        let _ = hangs.send(());
        let _ = released.recv();
        feedback
    };
    let (batcher, _shown) = listening(SOON, hung);
    hanging.recv_timeout(LONG).expect("it is asked");
    batcher.add(1).expect("open");
    // Returns, although the sensor never does.
    let report = batcher.close(Duration::MAX);
    assert!(report.is_clean() && report.handled == 1, "{report:?}");
    drop(release);
}

#[test]
fn several_sensors_report_side_by_side() {
    let (tell, shown) = channel();
    let batcher = Batcher::builder()
        .policy(Shown(tell))
        .load_check_interval(SOON)
        .sensor(SOON, |feedback: LoadFeedback| feedback.cpu_load(0.25))
        .sensor(SOON, |feedback: LoadFeedback| feedback.cpu_load(0.75))
        .spawn(nothing)
        .expect("it starts");
    for wanted in [0.25, 0.75] {
        while shown.recv_timeout(LONG).expect("both report") != wanted {}
    }
    assert!(batcher.close(LONG).is_clean());
}

#[test]
fn an_interval_of_zero_is_refused_by_name() {
    let refused = Batcher::builder()
        .sensor(Duration::ZERO, |feedback: LoadFeedback| feedback)
        .spawn(nothing);
    let problem = refused.expect_err("no interval").to_string();
    assert_eq!(problem, "sensor is 0s: must be greater than zero");
}
