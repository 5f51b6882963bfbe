//! Backends that sleep for what a call costs. Rows are added as fast as they are taken.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};

use crate::{LONG, batcher};

const CALL: Duration = Duration::from_millis(2);
const ITEM: Duration = Duration::from_micros(5);
/// How long a refusal takes.
const REFUSAL: Duration = Duration::from_micros(50);
/// The time in which a policy finds the edge of the backend.
const WARM_UP: Duration = Duration::from_secs(4);
const WINDOW: Duration = Duration::from_millis(800);

#[derive(Clone, Copy)]
pub(crate) enum Backend {
    /// 2 ms a call and 5 µs an item.
    Plain,
    /// The same, every tenth call refused at once with a plain error.
    Refusing,
    /// The same, six times as long over 1 500 items.
    Cliff,
    /// The same, over 700 items refused at once with a plain error.
    Limit,
}

impl Backend {
    /// Makes the call with this number, from 1.
    fn call(self, number: u64, items: usize) -> Result<(), &'static str> {
        let refused = match self {
            Self::Plain | Self::Cliff => false,
            Self::Refusing => number % 10 == 0,
            Self::Limit => items > 700,
        };
        if refused {
            sleep(REFUSAL);
            return Err("refused");
        }
        let times = if matches!(self, Self::Cliff) && items > 1_500 {
            6
        } else {
            1
        };
        sleep((CALL + ITEM * items as u32) * times);
        Ok(())
    }

    fn spawn(self, fixed: Option<usize>) -> Batcher<u64> {
        let mut calls = 0;
        let handler = move |batch: &mut Batch<u64>| {
            calls += 1;
            self.call(calls, batch.len()).map_err(BatchError::new)?;
            Ok(LoadFeedback::new())
        };
        batcher(fixed).spawn(handler).expect("two threads start")
    }
}

/// Adds rows for this long. Returns thousands of rows a second.
fn feed(batcher: &Batcher<u64>, window: Duration) -> f64 {
    let before = batcher.stats().handled;
    let begun = Instant::now();
    let rows = std::iter::from_fn(|| (begun.elapsed() < window).then_some(0));
    batcher.add_many(rows).expect("open until its close");
    let handled = batcher.stats().handled - before;
    let rate = handled as f64 / begun.elapsed().as_secs_f64() / 1e3;
    batcher.flush(LONG).expect("each row is stored in the end");
    rate
}

/// The rate of a new batcher, its start included.
pub(crate) fn from_the_start(fixed: Option<usize>, backend: Backend, window: Duration) -> f64 {
    let batcher = backend.spawn(fixed);
    let rate = feed(&batcher, window);
    assert!(batcher.close(LONG).is_clean());
    rate
}

/// Batchers that are kept from round to round, so that what the policy has learnt counts.
pub(crate) struct Kept {
    backend: Backend,
    batchers: HashMap<Option<usize>, Batcher<u64>>,
}

impl Kept {
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            batchers: HashMap::new(),
        }
    }

    /// The rate of one of them in the next round. The one with the defaults is warmed up before its
    /// first round.
    pub(crate) fn window(&mut self, fixed: Option<usize>) -> f64 {
        let backend = self.backend;
        let batcher = self.batchers.entry(fixed).or_insert_with(|| {
            let batcher = backend.spawn(fixed);
            if fixed.is_none() {
                feed(&batcher, WARM_UP);
            }
            batcher
        });
        feed(batcher, WINDOW)
    }
}
