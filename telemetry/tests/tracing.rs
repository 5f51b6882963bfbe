//! The spans of `Traced` and the events of `Logged`, as a subscriber sees them.
#![cfg(feature = "tracing")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, Decision, Fixed, LoadFeedback, Policy, Retry, Setpoint, Window,
    Zone,
};
use load_aware_batcher_telemetry::tracing::{Logged, Traced};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const LONG: Duration = Duration::from_secs(60);

type Fields = BTreeMap<&'static str, String>;

/// A span or an event.
#[derive(Clone, Debug)]
struct Seen {
    level: Level,
    name: &'static str,
    fields: Fields,
    entered: bool,
}

#[derive(Default)]
struct Values(Fields);

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

static SPANS: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
static EVENTS: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

/// Keeps everything of the crate's target. The threads of batchers find it as the global default.
struct Kept;

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "load_aware_batcher"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut values = Values::default();
        span.record(&mut values);
        let mut spans = SPANS.lock().unwrap();
        spans.push(Seen {
            level: *span.metadata().level(),
            name: span.metadata().name(),
            fields: values.0,
            entered: false,
        });
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, record: &Record<'_>) {
        let mut values = Values::default();
        record.record(&mut values);
        let mut spans = SPANS.lock().unwrap();
        spans[span.into_u64() as usize - 1].fields.extend(values.0);
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut values = Values::default();
        event.record(&mut values);
        EVENTS.lock().unwrap().push(Seen {
            level: *event.metadata().level(),
            name: event.metadata().name(),
            fields: values.0,
            entered: false,
        });
    }

    fn enter(&self, span: &Id) {
        SPANS.lock().unwrap()[span.into_u64() as usize - 1].entered = true;
    }

    fn exit(&self, _span: &Id) {}
}

fn subscribe() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Kept).unwrap());
}

/// What is of this batcher, in order.
fn of(kept: &Mutex<Vec<Seen>>, batcher: &str) -> Vec<Seen> {
    let kept = kept.lock().unwrap();
    let own = kept.iter().filter(|seen| seen.fields["batcher"] == batcher);
    own.cloned().collect()
}

/// Levels and messages of the events of this batcher.
fn lines(batcher: &str) -> Vec<(Level, String)> {
    let events = of(&EVENTS, batcher).into_iter();
    events
        .map(|seen| (seen.level, seen.fields["message"].clone()))
        .collect()
}

#[test]
fn a_call_is_a_span_with_the_fields_of_the_batch_and_of_the_outcome() {
    subscribe();
    let mut calls = 0;
    let (sender, called) = mpsc::channel();
    let handler = Traced::new("spans", move |batch: &mut Batch<u64>| {
        calls += 1;
        let span = of(&SPANS, "spans").pop();
        sender.send(span.is_some_and(|span| span.entered)).unwrap();
        if calls == 1 {
            return Err(BatchError::transient("busy"));
        }
        batch.reject(1, BatchError::permanent("odd"));
        Ok(LoadFeedback::new())
    });
    let batcher = Batcher::builder()
        .name("spans")
        .on_failed(|_| ())
        .spawn(handler)
        .unwrap();
    batcher.add_many([1, 2, 3]).unwrap();
    // The linger makes the batch go, not the close: the wait is measured.
    assert!(called.recv().unwrap(), "the handler runs within the span");
    assert_eq!(batcher.close(LONG).handled, 2);

    let spans = of(&SPANS, "spans");
    let [first, second] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!((first.name, first.level), ("batch", Level::DEBUG));
    let is =
        |seen: &Seen, field: &str, value: &str| assert_eq!(seen.fields[field], value, "{seen:?}");
    is(first, "outcome", "transient");
    is(first, "error.type", "transient");
    is(first, "otel.status_code", "ERROR");
    is(first, "attempt", "1");
    is(first, "len", "3");
    is(first, "probe", "false");
    is(first, "rejected", "0");
    assert!(first.fields.contains_key("queue_wait_ms"), "{first:?}");
    assert!(first.fields["size_in_force"].parse::<u64>().unwrap() > 0);
    is(second, "outcome", "ok");
    is(second, "otel.status_code", "OK");
    is(second, "attempt", "2");
    is(second, "rejected", "1");
    assert_eq!(second.fields["batch.id"], first.fields["batch.id"]);
    for field in ["error.type", "batch.parent", "queue_wait_ms"] {
        assert!(!second.fields.contains_key(field), "{field} of {second:?}");
    }
    let service_time: f64 = second.fields["service_ms"].parse().unwrap();
    assert!(service_time >= 0.0);
    is(first, "trigger", "linger");
}

#[test]
fn a_span_of_a_handler_that_panics_has_its_outcome() {
    subscribe();
    let handler = Traced::new(
        "panics",
        |_: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> { panic!("on purpose") },
    );
    let batcher = Batcher::builder()
        .name("panics")
        .policy(Fixed(100))
        .retry(Retry::none())
        .on_failed(|_| ())
        .listener(Logged::new("panics"))
        .spawn(handler)
        .unwrap();
    batcher.add(1).unwrap();
    assert!(!batcher.close(LONG).is_clean());
    let spans = of(&SPANS, "panics");
    assert_eq!(spans[0].fields["outcome"], "panicked");
    assert!(spans[0].fields.contains_key("service_ms"));
    let lines = lines("panics");
    assert_eq!(lines[0], (Level::ERROR, "the handler panicked".into()));
    let closed = (
        Level::ERROR,
        "closed, and not every item was handled".into(),
    );
    assert_eq!(lines.last(), Some(&closed));
}

#[test]
fn an_outage_is_one_warning_and_one_line_when_it_is_over() {
    subscribe();
    let mut calls = 0;
    let batcher = Batcher::builder()
        .name("outage")
        .policy(Fixed(100))
        .listener(Logged::new("outage"))
        .spawn(move |_: &mut Batch<u64>| {
            calls += 1;
            if calls <= 3 {
                return Err(BatchError::unavailable("away").retry_after(Duration::from_millis(1)));
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add(1).unwrap();
    batcher.flush(LONG).unwrap();
    batcher.add(2).unwrap();
    assert!(batcher.close(LONG).is_clean());
    let expected = [
        (Level::WARN, "a call failed"),
        (Level::DEBUG, "calls still fail"),
        (Level::DEBUG, "calls still fail"),
        (Level::INFO, "the backend is back"),
        (Level::INFO, "closed"),
    ];
    assert_eq!(
        lines("outage"),
        expected.map(|(level, line)| (level, line.to_owned()))
    );
    let back = &of(&EVENTS, "outage")[3];
    assert_eq!(back.fields["failed_calls"], "3");
    let first = &of(&EVENTS, "outage")[0];
    assert_eq!(first.fields["error.type"], "unavailable");
    assert_eq!(first.fields["error"], "away");
}

#[test]
fn failed_rows_are_one_warning_a_batch_and_no_outage() {
    subscribe();
    let batcher = Batcher::builder()
        .name("rows")
        .policy(Fixed(100))
        .on_failed(|_| ())
        .listener(Logged::new("rows"))
        .spawn(|batch: &mut Batch<u64>| {
            for index in 0..batch.len() {
                if batch[index] % 2 == 1 {
                    batch.reject(index, BatchError::permanent("odd"));
                }
            }
            Ok(LoadFeedback::new())
        })
        .unwrap();
    batcher.add_many(0..10).unwrap();
    assert_eq!(batcher.close(LONG).handled, 5);
    let events = of(&EVENTS, "rows");
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        (events[0].level, &*events[0].fields["rejected"]),
        (Level::WARN, "5")
    );
    assert_eq!(
        (events[1].level, &*events[1].fields["failed"]),
        (Level::ERROR, "5")
    );
}

#[test]
fn a_decision_that_changes_the_size_is_a_line_with_its_reason() {
    subscribe();
    let batcher = Batcher::builder()
        .name("decisions")
        .policy(Fixed(100))
        .listener(Logged::new("decisions"))
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    batcher
        .reconfigure(|limits| limits.max_batch_size(10))
        .unwrap();
    assert!(batcher.close(LONG).is_clean());
    let events = of(&EVENTS, "decisions");
    let change = &events[0];
    assert_eq!(change.level, Level::DEBUG);
    assert_eq!(change.fields["message"], "the batch size changes");
    assert_eq!(
        (&*change.fields["from"], &*change.fields["to"]),
        ("100", "10")
    );
    assert_eq!(change.fields["reason"], "reconfigured");
    assert_eq!(events.len(), 2, "{events:?}");
}

/// Sees a high load, and another size each time.
struct High(mpsc::Sender<()>);

impl Policy for High {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        let _ = self.0.send(());
        Decision {
            batch_size: current.batch_size % 5 + 1,
            zone: Zone::High,
            ..Decision::hold(current, "high")
        }
    }
}

#[test]
fn another_zone_is_a_line_once() {
    subscribe();
    let (sender, decided) = mpsc::channel();
    let batcher = Batcher::builder()
        .name("zones")
        .load_check_interval(Duration::from_millis(1))
        .policy(High(sender))
        .listener(Logged::new("zones"))
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap();
    decided.iter().take(4).for_each(drop);
    assert!(batcher.close(LONG).is_clean());
    let lines = lines("zones");
    let of = |level, line: &str| {
        lines
            .iter()
            .filter(|own| **own == (level, line.to_owned()))
            .count()
    };
    assert_eq!(
        of(Level::INFO, "the load is in another zone"),
        1,
        "{lines:?}"
    );
    assert!(of(Level::DEBUG, "the batch size changes") >= 3, "{lines:?}");
}

#[test]
fn a_stall_is_a_warning_and_its_end_a_line() {
    subscribe();
    let batcher = Batcher::builder()
        .name("stall")
        .policy(Fixed(100))
        .keep_failed(1)
        .retry(Retry::none())
        .listener(Logged::new("stall"))
        .spawn(|batch: &mut Batch<u64>| match batch[0] {
            0 => Err(BatchError::permanent("zero")),
            _ => Ok(LoadFeedback::new()),
        })
        .unwrap();
    batcher.add(0).unwrap();
    while !batcher.stats().stalled {
        std::thread::yield_now();
    }
    assert_eq!(batcher.take_failed().len(), 1);
    batcher.add(1).unwrap();
    assert_eq!(batcher.close(LONG).handled, 1);
    let lines = lines("stall");
    let at = |level, line: &str| {
        lines
            .iter()
            .position(|own| *own == (level, line.to_owned()))
    };
    let begun = at(Level::WARN, "stalled: nobody takes the failed rows");
    let over = at(Level::INFO, "the stall is over");
    assert!(begun.is_some() && begun < over, "{lines:?}");
    assert_eq!(lines[0], (Level::WARN, "a row failed".to_owned()));
}

#[test]
fn a_full_queue_is_a_warning_and_its_end_a_line_and_neither_again_within_ten_seconds() {
    subscribe();
    let (release, held) = mpsc::channel::<()>();
    let batcher = Batcher::builder()
        .name("full")
        .initial_batch_size(1)
        .max_batch_size(1)
        .queue_capacity(1)
        .policy(Fixed(1))
        .load_check_interval(Duration::from_millis(1))
        .listener(Logged::new("full"))
        .spawn(move |_: &mut Batch<u64>| {
            let _ = held.recv();
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let full = || -> Vec<_> {
        let lines = lines("full").into_iter();
        lines.filter(|(_, line)| line.contains("queue")).collect()
    };
    for edges in [2, 4] {
        // One refusal, which is over at the next check.
        while batcher.try_add(1).is_ok() {}
        while full().len() < edges {
            std::thread::yield_now();
        }
    }
    drop(release);
    assert!(batcher.close(LONG).is_clean());
    let expected = [
        (
            Level::WARN,
            "the queue is full: producers wait or are refused",
        ),
        (Level::INFO, "the queue has room again"),
        (Level::DEBUG, "the queue is full again"),
        (Level::DEBUG, "the queue has room again"),
    ];
    assert_eq!(
        full(),
        expected.map(|(level, line)| (level, line.to_owned()))
    );
}
