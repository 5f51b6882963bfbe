//! An HTTP bulk endpoint without the HTTP. It answers single rows with 429 and whole requests with
//! 503.

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, BatchError, LoadFeedback};

use crate::{LONG, batcher};

/// More than the queue holds. The close begins when half of them are handed over.
const DOCUMENTS: u64 = 40_000;
const REQUEST: Duration = Duration::from_millis(5);
const DOCUMENT: Duration = Duration::from_micros(20);
const RETRY_AFTER: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Endpoint {
    requests: u64,
    /// How often each document was stored.
    stored: Vec<u32>,
    random: u64,
}

impl Endpoint {
    /// One in twenty.
    fn is_refused(&mut self) -> bool {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 20 == 0
    }

    /// The status of each document; `None` for a 503.
    fn bulk(&mut self, documents: &[u64]) -> Option<Vec<u16>> {
        self.requests += 1;
        if self.requests % 10 == 0 {
            return None;
        }
        let store = |document: &u64| {
            if self.is_refused() {
                return 429;
            }
            self.stored[*document as usize] += 1;
            200
        };
        Some(documents.iter().map(store).collect())
    }
}

/// Documents a millisecond, from the start of the batcher to the end of its close.
pub(crate) fn documents_per_ms(fixed: Option<usize>) -> f64 {
    let endpoint = Endpoint {
        stored: vec![0; DOCUMENTS as usize],
        ..Endpoint::default()
    };
    let endpoint = Arc::new(Mutex::new(endpoint));
    let served = Arc::clone(&endpoint);
    let begun = Instant::now();
    let batcher = batcher(fixed)
        .spawn(move |batch: &mut Batch<u64>| {
            let Some(statuses) = served.lock().expect("no panic").bulk(batch) else {
                return Err(
                    BatchError::unavailable("503 Service Unavailable").retry_after(RETRY_AFTER)
                );
            };
            sleep(REQUEST + DOCUMENT * batch.len() as u32);
            for (index, _) in statuses
                .iter()
                .enumerate()
                .filter(|(_, status)| **status == 429)
            {
                batch.retry(index, BatchError::transient("429 Too Many Requests"));
            }
            Ok(LoadFeedback::new())
        })
        .expect("two threads start");
    batcher
        .add_many(0..DOCUMENTS)
        .expect("open until its close");
    let report = batcher.close(LONG);
    let taken = begun.elapsed();
    assert!(
        report.is_clean() && report.handled == DOCUMENTS,
        "{} failed",
        report.failed_total
    );
    assert!(
        endpoint
            .lock()
            .expect("no panic")
            .stored
            .iter()
            .all(|times| *times == 1),
        "each document is stored once"
    );
    DOCUMENTS as f64 / taken.as_secs_f64() / 1e3
}
