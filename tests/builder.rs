//! What the builder refuses, with name and value, and the settings that it derives from others.

use std::error::Error;
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, BuildError, Builder, Decision, Fixed, LoadFeedback, Policy, Retry,
    Setpoint, Window,
};

fn spawn(builder: Builder<u64>) -> Result<Batcher<u64>, BuildError> {
    builder.spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
}

#[test]
fn every_bad_setting_is_refused_with_its_name_and_value() {
    let bounds = "the initial size must be between the smallest and the largest";
    let whole = "the queue must hold a whole batch";
    type Set = fn(Builder<u64>) -> Builder<u64>;
    let table: [(Set, String); 31] = [
        (
            |b| b.initial_batch_size(0),
            "initial_batch_size is 0: must be at least 1".into(),
        ),
        (
            |b| b.min_batch_size(0),
            "min_batch_size is 0: must be at least 1".into(),
        ),
        (
            |b| b.max_batch_size(0),
            "max_batch_size is 0: must be at least 1".into(),
        ),
        (
            |b| b.queue_capacity(0),
            "queue_capacity is 0: must be at least 1".into(),
        ),
        (
            |b| b.queue_capacity(usize::MAX),
            format!(
                "queue_capacity is {}: must be at most 1073741824",
                usize::MAX
            ),
        ),
        (
            |b| b.max_batch_size(usize::MAX),
            format!(
                "max_batch_size is {}: must be at most 1073741824",
                usize::MAX
            ),
        ),
        (
            |b| b.min_batch_size(6).max_batch_size(5),
            "min_batch_size is 6 and max_batch_size is 5: the smallest must not exceed the largest"
                .into(),
        ),
        (
            |b| b.min_batch_size(6).initial_batch_size(5),
            format!("min_batch_size is 6 and initial_batch_size is 5: {bounds}"),
        ),
        (
            |b| b.initial_batch_size(6).max_batch_size(5),
            format!("initial_batch_size is 6 and max_batch_size is 5: {bounds}"),
        ),
        (
            |b| b.max_batch_size(9).queue_capacity(8),
            format!("max_batch_size is 9 and queue_capacity is 8: {whole}"),
        ),
        (
            |b| b.min_batch_size(9).queue_capacity(8),
            format!("min_batch_size is 9 and queue_capacity is 8: {whole}"),
        ),
        (
            |b| b.initial_batch_size(9).queue_capacity(8),
            format!("initial_batch_size is 9 and queue_capacity is 8: {whole}"),
        ),
        (
            |b| b.load_check_interval(Duration::ZERO),
            "load_check_interval is 0s: must be greater than zero".into(),
        ),
        (
            |b| b.feedback_capacity(0),
            "feedback_capacity is 0: must be between 1 and 16777216".into(),
        ),
        (
            |b| b.feedback_capacity((1 << 24) + 1),
            "feedback_capacity is 16777217: must be between 1 and 16777216".into(),
        ),
        (
            |b| b.keep_failed(0),
            "keep_failed is 0: must be at least 1".into(),
        ),
        (
            |b| b.refuse_too_heavy(true),
            "refuse_too_heavy is true: needs a max_batch_weight".into(),
        ),
        (
            |b| b.max_batch_weight(0, |_| 1),
            "max_batch_weight is 0: must be at least 1".into(),
        ),
        (
            |b| b.max_batch_weight(1, |_| 1).max_queue_weight(0),
            "max_queue_weight is 0: must be at least 1".into(),
        ),
        (
            |b| b.max_queue_weight(9),
            "max_queue_weight is 9: needs a max_batch_weight".into(),
        ),
        (
            |b| b.max_queue_weight(8).max_batch_weight(9, |_| 1),
            format!("max_batch_weight is 9 and max_queue_weight is 8: {whole}"),
        ),
        (
            |b| b.thread_name("a\0b"),
            "thread_name is a\\0b: must not contain a zero byte".into(),
        ),
        (
            |b| {
                ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
                    .into_iter()
                    .fold(b, |b, name| b.custom_signal(name, 1.0))
            },
            "custom_signal is 9: at most 8 can be declared".into(),
        ),
        (
            |b| b.custom_signal("lag", f64::NAN),
            "custom_signal is NaN: a weight must be finite and not negative".into(),
        ),
        (
            |b| b.custom_signal("lag", -1.0),
            "custom_signal is -1: a weight must be finite and not negative".into(),
        ),
        (
            |b| b.custom_signal("lag", f64::INFINITY),
            "custom_signal is inf: a weight must be finite and not negative".into(),
        ),
        (
            |b| b.custom_signal("lag", 1.0).custom_signal("lag", 2.0),
            "custom_signal is lag: each name can be declared once".into(),
        ),
        (
            |b| b.retry(Retry::attempts(0)),
            "retry attempts is 0: must be at least 1".into(),
        ),
        (
            |b| b.retry(Retry::attempts(2).backoff(Duration::from_secs(2), Duration::from_secs(1))),
            "backoff first is 2s and backoff longest is 1s: the first must not exceed the longest"
                .into(),
        ),
        (|b| b.policy(Fixed(0)), String::new()),
        (|b| b.policy(Fixed(9)).max_batch_size(5), String::new()),
    ];
    for (place, (set, expected)) in table.into_iter().enumerate() {
        let result = spawn(set(Batcher::builder()));
        if expected.is_empty() {
            // A policy's own initial size is clamped or refused. It causes no panic.
            if let Ok(batcher) = result {
                assert!(
                    (1..=1_000).contains(&batcher.stats().batch_size),
                    "row {place}"
                );
            }
            continue;
        }
        match result {
            Ok(_) => panic!("accepted, instead of: {expected}"),
            Err(error) => assert_eq!(error.to_string(), expected, "row {place}"),
        }
    }
}

/// The size in force, and how many items fit into the queue while the handler holds one.
fn sizes(set: fn(Builder<u64>) -> Builder<u64>) -> (usize, usize) {
    let (entered, heard) = std::sync::mpsc::channel();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let batcher = set(Batcher::builder())
        .linger(Duration::from_secs(1_000))
        .spawn(move |_: &mut Batch<u64>| {
            let _ = entered.send(());
            let _ = gate.recv();
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(0).unwrap();
    batcher.request_flush();
    heard.recv().unwrap();
    let mut room = 0;
    while batcher.try_add(0).is_ok() {
        room += 1;
    }
    let size = batcher.stats().batch_size;
    drop(release);
    (size, room)
}

#[test]
fn settings_without_a_value_follow_from_those_with_one() {
    type Set = fn(Builder<u64>) -> Builder<u64>;
    // Initial size and capacity.
    let table: [(&str, Set, (usize, usize)); 10] = [
        ("nothing", |b| b, (20, 20_000)),
        (
            "max below the default start",
            |b| b.max_batch_size(10),
            (10, 1_024),
        ),
        (
            "min above the default start",
            |b| b.min_batch_size(50),
            (50, 20_000),
        ),
        (
            "a large min raises max",
            |b| b.min_batch_size(17_000),
            (17_000, 34_000),
        ),
        (
            "a large start raises max",
            |b| b.initial_batch_size(16_000),
            (16_000, 32_000),
        ),
        (
            "a small max, a small queue",
            |b| b.max_batch_size(400),
            (20, 1_024),
        ),
        ("a large max", |b| b.max_batch_size(2_000), (20, 4_000)),
        (
            "a small queue lowers max and start",
            |b| b.queue_capacity(5),
            (5, 5),
        ),
        ("a queue of one", |b| b.queue_capacity(1), (1, 1)),
        (
            "everything",
            |b| {
                b.initial_batch_size(3)
                    .min_batch_size(2)
                    .max_batch_size(4)
                    .queue_capacity(4)
            },
            (3, 4),
        ),
    ];
    for (name, set, expected) in table {
        assert_eq!(sizes(set), expected, "{name}");
    }
}

#[test]
fn reconfigure_starts_from_the_largest_size_that_the_builder_derived() {
    let max = |set: fn(Builder<u64>) -> Builder<u64>| {
        let mut seen = (0, 0);
        spawn(set(Batcher::builder()))
            .unwrap()
            .reconfigure(|limits| seen = (limits.min_batch_size, limits.max_batch_size))
            .unwrap();
        seen
    };
    assert_eq!(max(|b| b), (1, 10_000));
    assert_eq!(max(|b| b.initial_batch_size(16_000)), (1, 16_000));
    assert_eq!(max(|b| b.min_batch_size(17_000)), (17_000, 17_000));
    assert_eq!(max(|b| b.queue_capacity(50)), (1, 50));
}

#[test]
fn a_bad_change_is_refused_by_name_and_changes_nothing() {
    let batcher = spawn(
        Batcher::builder()
            .min_batch_size(2)
            .max_batch_size(8)
            .queue_capacity(8),
    )
    .unwrap();
    let refused = |change: fn(&mut load_aware_batcher::Limits)| {
        batcher.reconfigure(change).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|l| l.min_batch_size = 0),
        "min_batch_size is 0: must be at least 1"
    );
    assert_eq!(
        refused(|l| l.max_batch_size = 0),
        "max_batch_size is 0: must be at least 1"
    );
    assert_eq!(
        refused(|l| l.max_batch_size = 1),
        "min_batch_size is 2 and max_batch_size is 1: the smallest must not exceed the largest"
    );
    assert_eq!(
        refused(|l| l.max_batch_size = 9),
        "queue_capacity is 8 and max_batch_size is 9: the queue must hold a whole batch"
    );
    let mut seen = (0, 0);
    batcher
        .reconfigure(|limits| seen = (limits.min_batch_size, limits.max_batch_size))
        .unwrap();
    assert_eq!(seen, (2, 8));
    assert_eq!(batcher.stats().batch_size, 8);
}

#[test]
fn a_handler_that_cannot_be_made_is_a_build_error_that_prints_its_cause_once() {
    type Make =
        fn() -> Result<fn(&mut Batch<u64>) -> Result<LoadFeedback, BatchError>, std::io::Error>;
    let table: [(Make, &str); 2] = [
        (
            || Err(std::io::Error::other("no route to host")),
            "no route to host",
        ),
        (|| panic!("no luck"), "no luck"),
    ];
    for (make, cause) in table {
        let error = Batcher::<u64>::builder().try_spawn_with(make).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("failed to create the handler: {cause}")
        );
        let chain =
            std::iter::successors(Some(&error as &dyn Error), |error| Error::source(*error));
        assert_eq!(
            chain
                .filter(|error| error.to_string().contains(cause))
                .count(),
            1
        );
    }
    let batcher = Batcher::builder()
        .try_spawn_with(|| Ok::<_, std::io::Error>(|_: &mut Batch<u64>| Ok(LoadFeedback::new())))
        .unwrap();
    batcher.add(1).unwrap();
    assert!(batcher.close(Duration::from_secs(30)).is_clean());
}

/// Sends the name of the thread on which it decides.
struct Named(std::sync::mpsc::Sender<Option<String>>);

impl Policy for Named {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        let _ = self.0.send(own_name());
        Decision::hold(current, "named")
    }
}

fn own_name() -> Option<String> {
    std::thread::current().name().map(str::to_owned)
}

#[test]
fn the_first_bytes_of_a_threads_name_say_what_it_does() {
    for (builder, flusher, controller) in [
        (Batcher::builder(), "flush-batcher", "ctl-batcher"),
        (
            Batcher::builder().thread_name("orders-ingest-eu"),
            "flush-orders-ingest-eu",
            "ctl-orders-ingest-eu",
        ),
    ] {
        let (handled, handler_names) = std::sync::mpsc::channel();
        let (decided, policy_names) = std::sync::mpsc::channel();
        let batcher = builder
            .linger(Duration::ZERO)
            .load_check_interval(Duration::from_millis(1))
            .policy(Named(decided))
            .spawn(move |_: &mut Batch<u64>| {
                handled.send(own_name())?;
                Ok(LoadFeedback::new())
            })
            .unwrap();
        batcher.add(1).unwrap();
        assert_eq!(handler_names.recv().unwrap().as_deref(), Some(flusher));
        assert_eq!(policy_names.recv().unwrap().as_deref(), Some(controller));
    }
}
