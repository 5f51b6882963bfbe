//! The questions of docs/observability.md: each state is provoked and read from a scrape.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::metrics::{self, NAMES};
use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback, Observer, Retry};
use testkit::{Gate, LONG, NEVER, Reply, directed, ends, fixed};

use crate::scrape::{Samples, parse, scrape, sum, until, value};

#[test]
fn every_scrape_conserves_items_while_threads_add_rows_fail_and_a_close_comes() {
    ends(|| {
        let mut calls = 0;
        let batcher = Batcher::builder()
            .name("busy")
            .max_batch_size(50)
            .linger(Duration::ZERO)
            .retry(Retry::attempts(2).backoff(Duration::ZERO, Duration::ZERO))
            .keep_failed(1_000_000)
            .spawn(move |batch: &mut Batch<u64>| {
                calls += 1;
                for index in (0..batch.len()).filter(|index| batch[*index] % 7 == 3) {
                    let error = match index % 2 {
                        0 => BatchError::permanent("no"),
                        _ => BatchError::in_doubt("perhaps"),
                    };
                    batch.reject(index, error);
                }
                match calls % 5 {
                    1 => Err(BatchError::in_doubt("lost")),
                    2 => Err(BatchError::transient("busy")),
                    _ => Ok(LoadFeedback::new()),
                }
            })
            .unwrap();
        let observer = batcher.observer();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let producer = batcher.producer();
                scope.spawn(move || {
                    let mut next = 0;
                    while producer.add(next).is_ok() && producer.add_many(next..next + 9).is_ok() {
                        next += 1;
                    }
                });
            }
            scope.spawn(|| {
                let mut last = 0.0;
                let mut scrapes = 0;
                loop {
                    let is_last = over.load(Ordering::Acquire);
                    let samples = scrape(&observer);
                    let added = value(&samples, "batcher_items_added_total", None);
                    let rest = value(&samples, "batcher_items_abandoned", None)
                        + value(&samples, "batcher_items_pending", None);
                    assert_eq!(added, sum(&samples, "batcher_items_total") + rest);
                    assert_eq!(sum(&samples, "batcher_phase"), 1.0);
                    assert!(added >= last);
                    (last, scrapes) = (added, scrapes + 1);
                    if is_last {
                        break;
                    }
                }
                assert!(last > 0.0 && scrapes > 1);
            });
            while batcher.stats().batches.total() < 300 {
                std::thread::yield_now();
            }
            let _ = batcher.shutdown(LONG);
            over.store(true, Ordering::Release);
        });
        let samples = scrape(&observer);
        assert!(
            value(
                &samples,
                "batcher_items_total",
                Some(("outcome", "in_doubt"))
            ) > 0.0
        );
        assert_eq!(
            value(&samples, "batcher_phase", Some(("phase", "done"))),
            1.0
        );
        assert_eq!(sum(&samples, "batcher_closed_total"), 1.0);
    });
}

#[test]
fn a_handler_that_hangs_shows() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2).spawn(handler).unwrap();
        let observer = batcher.observer();
        assert_eq!(
            value(&scrape(&observer), "batcher_call_in_flight_seconds", None),
            0.0
        );
        batcher.add_many([1, 2]).unwrap();
        director.call();
        let first = until(&observer, "batcher_call_in_flight_seconds", None, |age| {
            age > 0.0
        });
        until(&observer, "batcher_call_in_flight_seconds", None, |age| {
            age > first
        });
        assert_eq!(
            value(&scrape(&observer), "batcher_items_in_flight", None),
            2.0
        );
        assert_eq!(
            value(&scrape(&observer), "batcher_calls_in_flight", None),
            1.0
        );
        director.reply(Reply::Ok);
        until(&observer, "batcher_call_in_flight_seconds", None, |age| {
            age == 0.0
        });
    });
}

#[test]
fn producers_that_suffer_show() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).queue_capacity(1).spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add(0).unwrap();
        director.call();
        while batcher.try_add(0).is_ok() {}
        until(
            &observer,
            "batcher_refused_total",
            Some(("reason", "full")),
            |refused| refused > 0.0,
        );
        let producer = batcher.producer();
        let waiting = std::thread::spawn(move || producer.add(1));
        until(&observer, "batcher_producers_blocked", None, |blocked| {
            blocked == 1.0
        });
        let waited = value(
            &scrape(&observer),
            "batcher_producer_wait_seconds_total",
            None,
        );
        until(
            &observer,
            "batcher_producer_wait_seconds_total",
            None,
            |now| now > waited,
        );
        drop(director);
        waiting.join().unwrap().unwrap();
        until(&observer, "batcher_producers_blocked", None, |blocked| {
            blocked == 0.0
        });
    });
}

/// The smallest bound that this share of all processes' calls does not exceed, as
/// `histogram_quantile` finds it over the sum of their buckets.
fn quantile(samples: &Samples, family: &str, share: f64) -> f64 {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for ((_, labels), count) in samples
        .iter()
        .filter(|((name, _), _)| *name == format!("{family}_bucket"))
    {
        let bound = &labels.iter().find(|(label, _)| label == "le").unwrap().1;
        let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap();
        match sums.iter_mut().find(|(own, _)| *own == bound) {
            Some((_, sum)) => *sum += count,
            None => sums.push((bound, *count)),
        }
    }
    sums.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = sums.last().unwrap().1;
    let found = sums.iter().find(|(_, count)| *count >= share * all);
    found.unwrap().0
}

#[test]
fn the_quantiles_of_several_processes_are_found_from_the_sum_of_their_buckets() {
    ends(|| {
        // One call each, so that the sum of each histogram is the time of its call.
        let time = |hold: &dyn Fn(&Observer)| {
            let (handler, director) = directed();
            let batcher = fixed(1).spawn(handler).unwrap();
            batcher.add(1).unwrap();
            director.call();
            hold(&batcher.observer());
            director.reply(Reply::Ok);
            batcher.flush(LONG).unwrap();
            batcher.stats()
        };
        let (fast, slow) = (
            time(&|_| {}),
            time(&|observer| {
                until(observer, "batcher_call_in_flight_seconds", None, |age| {
                    age > 0.2
                });
            }),
        );
        let times = [&fast, &slow].map(|stats| stats.service_time_histogram.sum);
        let mut text = String::new();
        let both = [("one", fast), ("other", slow)];
        metrics::write_openmetrics(&mut text, &both).unwrap();
        let samples = parse(&text);
        let family = "batcher_call_duration_seconds";
        assert_eq!(sum(&samples, "batcher_call_duration_seconds_count"), 2.0);
        let (least, most) = (times[0].min(times[1]), times[0].max(times[1]));
        let bounds = NAMES
            .iter()
            .find(|row| row.name == family)
            .unwrap()
            .bounds();
        let of = |time: f64| bounds.iter().find(|bound| time <= **bound).copied();
        assert_eq!(Some(quantile(&samples, family, 0.5)), of(least));
        assert_eq!(Some(quantile(&samples, family, 0.99)), of(most));
    });
}

#[test]
fn a_backend_that_is_away_shows() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::default().backoff(NEVER, NEVER))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::unavailable("starting")))
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        until(&observer, "batcher_retrying_seconds", None, |age| age > 0.0);
        until(&observer, "batcher_backoff_seconds_total", None, |time| {
            time > 0.0
        });
        let result = Some(("result", "unavailable"));
        until(&observer, "batcher_calls_total", result, |calls| {
            calls >= 1.0
        });
    });
}

#[test]
fn failed_rows_that_nobody_takes_show() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::none())
            .keep_failed(1)
            .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        until(&observer, "batcher_stalled", None, |stalled| stalled == 1.0);
        until(&observer, "batcher_stalled_seconds_total", None, |time| {
            time > 0.0
        });
        assert_eq!(value(&scrape(&observer), "batcher_failed_kept", None), 1.0);
        batcher.add(2).unwrap();
        until(&observer, "batcher_oldest_item_age_seconds", None, |age| {
            age > 0.0
        });
    });
}

#[test]
fn items_that_wait_too_long_show_while_they_wait_and_when_they_went() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add_many([1, 2]).unwrap();
        director.call();
        let first = until(&observer, "batcher_oldest_item_age_seconds", None, |age| {
            age > 0.0
        });
        let age = until(&observer, "batcher_oldest_item_age_seconds", None, |age| {
            age > first
        });
        drop(director);
        batcher.flush(LONG).unwrap();
        let samples = scrape(&observer);
        assert!(value(&samples, "batcher_queue_wait_seconds_count", None) > 0.0);
        assert!(value(&samples, "batcher_queue_wait_seconds_sum", None) >= age);
        assert_eq!(
            value(&samples, "batcher_oldest_item_age_seconds", None),
            0.0
        );
    });
}

#[test]
fn a_close_that_leaves_items_behind_shows() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).name("hung").spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add_many([1, 2]).unwrap();
        director.call();
        assert!(!batcher.close(Duration::ZERO).is_clean());
        let samples = scrape(&observer);
        assert_eq!(value(&samples, "batcher_items_abandoned", None), 1.0);
        assert_eq!(
            value(&samples, "batcher_phase", Some(("phase", "abandoned"))),
            1.0
        );
        assert_eq!(
            value(
                &samples,
                "batcher_closed_total",
                Some(("result", "abandoned"))
            ),
            1.0
        );
        assert_eq!(
            value(&samples, "batcher_items_total", Some(("outcome", "unsent"))),
            1.0
        );
    });
}

#[test]
fn how_a_close_ended_shows_by_the_worst_that_an_item_met() {
    ends(|| {
        let is = |result: &str, observer: &Observer| {
            let samples = scrape(observer);
            let count = value(&samples, "batcher_closed_total", Some(("result", result)));
            assert_eq!(count, 1.0, "{result}");
            assert_eq!(sum(&samples, "batcher_closed_total"), 1.0);
        };
        let (handler, director) = directed();
        let batcher = fixed(2).spawn(handler).unwrap();
        batcher.add(1).unwrap();
        drop(director);
        assert!(batcher.shutdown(LONG).is_clean());
        is("clean", &batcher.observer());

        // The hook holds the first row, so the second is never handed over.
        for (result, rows) in [("failed", 1), ("unsent", 2)] {
            let ((entered, inside), gate) = (mpsc::channel(), Gate::default());
            let held = gate.clone();
            let batcher = fixed(1)
                .retry(Retry::none())
                .on_failed(move |_| {
                    let _ = entered.send(());
                    held.wait();
                })
                .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
                .unwrap();
            batcher.add_many(0..rows).unwrap();
            inside.recv_timeout(LONG).unwrap();
            let _ = batcher.shutdown(Duration::ZERO);
            is(result, &batcher.observer());
            gate.open();
        }
    });
}
