//! Batchers to publish.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, Builder, LoadFeedback, Observer};

const LONG: Duration = Duration::from_secs(60);

/// A batcher that has handled, rejected, retried and failed, and has ended: its numbers stand still.
pub fn ended(name: &str) -> Observer {
    ended_with(name, |builder| builder)
}

pub fn ended_with(name: &str, set: impl FnOnce(Builder<u64>) -> Builder<u64>) -> Observer {
    let mut first = true;
    let batcher = set(Batcher::builder().name(name).on_failed(|_| ()))
        .spawn(move |batch: &mut Batch<u64>| {
            if std::mem::take(&mut first) {
                return Err(BatchError::transient("busy"));
            }
            if batch.contains(&13) {
                return Err(BatchError::permanent("unlucky"));
            }
            if let Some(index) = batch.iter().position(|row| *row == 7) {
                batch.reject(index, BatchError::permanent("odd"));
            }
            Ok(LoadFeedback::new().cpu_load(0.4))
        })
        .unwrap();
    batcher.add_many(0..40).unwrap();
    let observer = batcher.observer();
    let report = batcher.close(LONG);
    assert_eq!(report.handled, 38, "{report:?}");
    observer
}

/// A batcher that handles everything, and the length of each batch while it is handled.
pub fn open(
    name: &str,
    set: impl FnOnce(Builder<u64>) -> Builder<u64>,
) -> (Batcher<u64>, Receiver<usize>) {
    let (sender, handled) = channel();
    let batcher = set(Batcher::builder().name(name))
        .spawn(move |batch: &mut Batch<u64>| {
            let _ = sender.send(batch.len());
            Ok(LoadFeedback::new())
        })
        .unwrap();
    (batcher, handled)
}

/// The samples of the crate's own text, each with its labels in alphabetical order.
pub fn samples(observer: &Observer) -> BTreeMap<(String, Vec<String>), f64> {
    let mut text = String::new();
    observer.stats().write_prometheus(&mut text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once('{').unwrap();
            let (labels, value) = rest.split_once("} ").unwrap();
            let mut labels: Vec<String> = labels.split(',').map(str::to_owned).collect();
            labels.sort();
            ((name.to_owned(), labels), value.parse().unwrap())
        })
        .collect()
}
