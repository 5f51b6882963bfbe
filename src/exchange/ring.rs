//! The feedback ring: samples from many writers to one reader, lock-free, overwriting its oldest.
//!
//! The flusher writes one sample for each call of the handler, and any thread that reports writes
//! one, too. Only the controller reads. A writer never waits and never fails. Lost samples are
//! counted.
//!
//! # Protocol
//! A counter `head` gives each sample a ticket `t`. Its slot is `t mod capacity`. The slot's stamp
//! shows its state:
//!
//! | stamp | state |
//! | --- | --- |
//! | 0 | never written |
//! | 2t + 1 | sample t is being written |
//! | 2t + 2 | sample t is complete |
//!
//! A writer
//! 1. takes ticket t;
//! 2. loads the stamp, and gives up if it is odd or belongs to a later sample;
//! 3. compare-exchanges it to `2t + 1`, and gives up if that fails;
//! 4. stores the fields;
//! 5. stores `2t + 2`.
//!
//! The reader, for each ticket t from where it stopped, but at most `capacity` after `head`,
//! - (a) loads the stamp;
//! - (b) if it is `2t + 2`, loads the fields;
//! - (c) loads the stamp again: if it is unchanged, the sample is whole.
//!
//! **No sample is torn.** Two writers of one slot exclude each other by (3), since neither begins
//! at an odd stamp. Suppose that the reader loads a field that the writer of a later ticket t'
//! stored. Then the reader's fence before (c) synchronises with that writer's fence after (3). So
//! (c) sees 2t' + 1 or later, and the sample is discarded.
//!
//! **No sample is read twice.** A ticket is unique, and the reader passes each ticket once.
//!
//! **All losses are counted.** The reader's position is the number of samples read and lost. A
//! ticket that it passes without a sample counts as lost. That includes overwritten samples. It
//! also includes those of a writer that gave up because it, or the previous writer of the slot, was
//! stopped for a whole lap. Only the reader counts, so no loss counts twice.
//!
//! **A slow writer loses nothing.** A ticket whose sample is not complete ends the take. If it is
//! still incomplete at the next take, the reader passes it: the writer gave up, or was stopped for
//! a whole take.
//!
//! # Orderings
//! The fields are relaxed atomics, and the stamp orders them: Release in (5) with Acquire in (a),
//! and a Release fence after (3) with an Acquire fence before (c). `head` is relaxed: it only
//! bounds the search.

use std::time::Duration;

use crate::feedback::{BatchSample, CUSTOM_SIGNALS_MAX, CallOutcome, Sample, Signals};
use crate::sync::{Arc, AtomicF64, AtomicU64, CachePadded, Ordering, fence};

const CPU: u64 = 1;
const QUEUE: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
const ERRORS: u64 = 1 << 3;
const LOCKS: u64 = 1 << 4;
const BATCH: u64 = 1 << 5;
const FULL: u64 = 1 << 6;
const PROBE: u64 = 1 << 7;
const OUTCOME_SHIFT: u32 = 8;
const CUSTOM_SHIFT: u32 = 16;
const ATTEMPT_SHIFT: u32 = 32;

/// One sample, field by field.
struct Slot {
    /// See the module's table. Written by the writer that owns the slot, read by the reader.
    stamp: AtomicU64,
    /// Which signals are present, the flags of the batch, its outcome and its attempt, by the
    /// constants above.
    meta: AtomicU64,
    queue_depth: AtomicU64,
    processing_ns: AtomicU64,
    db_locks: AtomicU64,
    len: AtomicU64,
    cut_at: AtomicU64,
    failed: AtomicU64,
    service_ns: AtomicU64,
    queue_wait_ns: AtomicU64,
    /// Calls in flight in the lower half, calls allowed in the upper.
    calls: AtomicU64,
    cpu_load: AtomicF64,
    error_rate: AtomicF64,
    custom: [AtomicF64; CUSTOM_SIGNALS_MAX],
}

/// See the module's doc.
pub(crate) struct Ring {
    slots: Box<[Slot]>,
    /// The next ticket. Written by every writer, read by the reader.
    head: CachePadded<AtomicU64>,
    /// Samples that the reader passed without having them. Written by the reader, read by `stats`.
    lost: AtomicU64,
}

/// The one reader's place.
pub(crate) struct Reader {
    ring: Arc<Ring>,
    /// The next ticket to read, which is also the number of samples read or lost.
    next: u64,
    /// The ticket that was not there at the last take.
    awaited: Option<u64>,
}

#[allow(clippy::large_enum_variant, reason = "lives on the stack for one look")]
enum Look {
    Whole(Sample),
    NotYet,
    Lost,
}

impl Ring {
    /// A ring of at least `capacity` samples, rounded up to a power of two, and its one reader.
    pub(crate) fn new(capacity: usize) -> (Arc<Self>, Reader) {
        let slots = (0..capacity.max(1).next_power_of_two())
            .map(|_| Slot::new())
            .collect();
        let ring = Arc::new(Self {
            slots,
            head: CachePadded::new(AtomicU64::new(0)),
            lost: AtomicU64::new(0),
        });
        (
            Arc::clone(&ring),
            Reader {
                ring,
                next: 0,
                awaited: None,
            },
        )
    }

    /// Writes a sample over the oldest; gives it up, counted, if its slot is being written.
    pub(crate) fn report(&self, sample: &Sample) {
        // Relaxed: the stamp publishes the sample, the ticket only names its slot.
        let ticket = self.head.fetch_add(1, Ordering::Relaxed);
        let slot = self.slot(ticket);
        // Relaxed: the compare-exchange decides.
        let before = slot.stamp.load(Ordering::Relaxed);
        let is_written = before % 2 == 1;
        if is_written || before > 2 * ticket {
            return;
        }
        if slot
            .stamp
            .compare_exchange(before, 2 * ticket + 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            // Acquire: pairs with the Release in the last writer's step (5), so that its stores
            // come before ours.
            return;
        }
        // Release: pairs with the Acquire fence in `look`; who sees a field of ours sees the odd
        // stamp.
        fence(Ordering::Release);
        slot.store(sample);
        // Release: pairs with the Acquire in `look`; who sees the even stamp sees the fields.
        slot.stamp.store(2 * ticket + 2, Ordering::Release);
    }

    /// Samples lost so far, as far as the reader has come.
    pub(crate) fn lost(&self) -> u64 {
        // Relaxed: a count for people.
        self.lost.load(Ordering::Relaxed)
    }

    fn slot(&self, ticket: u64) -> &Slot {
        &self.slots[(ticket as usize) & (self.slots.len() - 1)]
    }

    fn look(&self, ticket: u64) -> Look {
        let slot = self.slot(ticket);
        let whole = 2 * ticket + 2;
        // Acquire: pairs with the Release at the end of `report`.
        let stamp = slot.stamp.load(Ordering::Acquire);
        if stamp < whole {
            return Look::NotYet;
        }
        if stamp > whole {
            return Look::Lost;
        }
        let sample = slot.load();
        // Acquire: pairs with the Release fence in `report`.
        fence(Ordering::Acquire);
        // Relaxed: the fence orders it after the fields.
        let after = slot.stamp.load(Ordering::Relaxed);
        if after == whole {
            Look::Whole(sample)
        } else {
            Look::Lost
        }
    }
}

impl Reader {
    /// Moves every complete sample, oldest first, to the end of `samples`; returns how many were
    /// lost since the last take.
    pub(crate) fn take(&mut self, samples: &mut Vec<Sample>) -> u64 {
        // Relaxed: bounds the search only.
        let head = self.ring.head.load(Ordering::Relaxed);
        let oldest = head.saturating_sub(self.ring.slots.len() as u64);
        let mut lost = oldest.saturating_sub(self.next);
        self.next = self.next.max(oldest);
        while self.next < head {
            match self.ring.look(self.next) {
                Look::Whole(sample) => samples.push(sample),
                Look::NotYet if self.awaited != Some(self.next) => {
                    self.awaited = Some(self.next);
                    break;
                }
                Look::NotYet | Look::Lost => lost += 1,
            }
            self.next += 1;
        }
        // Relaxed: one writer, and a count for people.
        self.ring.lost.fetch_add(lost, Ordering::Relaxed);
        lost
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            stamp: AtomicU64::new(0),
            meta: AtomicU64::new(0),
            queue_depth: AtomicU64::new(0),
            processing_ns: AtomicU64::new(0),
            db_locks: AtomicU64::new(0),
            len: AtomicU64::new(0),
            cut_at: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            service_ns: AtomicU64::new(0),
            queue_wait_ns: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            cpu_load: AtomicF64::new(0.0),
            error_rate: AtomicF64::new(0.0),
            custom: std::array::from_fn(|_| AtomicF64::new(0.0)),
        }
    }

    /// Every access here is Relaxed: the stamp orders them, see the module's doc.
    fn store(&self, sample: &Sample) {
        let Sample { signals, batch } = sample;
        let mut meta = 0;
        let mut put = |flag: u64, value: Option<u64>, field: &AtomicU64| {
            if let Some(value) = value {
                meta |= flag;
                field.store(value, Ordering::Relaxed);
            }
        };
        put(QUEUE, signals.queue_depth, &self.queue_depth);
        put(
            TIME,
            signals.processing_time.map(nanoseconds),
            &self.processing_ns,
        );
        put(LOCKS, signals.db_locks, &self.db_locks);
        put(BATCH, batch.map(|batch| batch.len as u64), &self.len);
        let mut put = |flag: u64, value: Option<f64>, field: &AtomicF64| {
            if let Some(value) = value {
                meta |= flag;
                field.store(value, Ordering::Relaxed);
            }
        };
        put(CPU, signals.cpu_load, &self.cpu_load);
        put(ERRORS, signals.error_rate, &self.error_rate);
        for (place, (value, field)) in signals.custom.iter().zip(&self.custom).enumerate() {
            put(1 << (CUSTOM_SHIFT + place as u32), *value, field);
        }
        if let Some(batch) = batch {
            meta |= if batch.full { FULL } else { 0 } | if batch.probe { PROBE } else { 0 };
            meta |=
                (batch.outcome as u64) << OUTCOME_SHIFT | u64::from(batch.attempt) << ATTEMPT_SHIFT;
            self.cut_at.store(batch.cut_at as u64, Ordering::Relaxed);
            self.failed.store(batch.failed as u64, Ordering::Relaxed);
            self.service_ns
                .store(nanoseconds(batch.service_time), Ordering::Relaxed);
            self.queue_wait_ns
                .store(nanoseconds(batch.queue_wait), Ordering::Relaxed);
            let calls = u64::from(half(batch.concurrency)) << 32 | u64::from(half(batch.in_flight));
            self.calls.store(calls, Ordering::Relaxed);
        }
        self.meta.store(meta, Ordering::Relaxed);
    }

    /// Every access here is Relaxed: the stamp orders them, see the module's doc.
    fn load(&self) -> Sample {
        let meta = self.meta.load(Ordering::Relaxed);
        let whole = |flag: u64, field: &AtomicU64| {
            (meta & flag != 0).then(|| field.load(Ordering::Relaxed))
        };
        let real = |flag: u64, field: &AtomicF64| {
            (meta & flag != 0).then(|| field.load(Ordering::Relaxed))
        };
        let signals = Signals {
            cpu_load: real(CPU, &self.cpu_load),
            queue_depth: whole(QUEUE, &self.queue_depth),
            processing_time: whole(TIME, &self.processing_ns).map(Duration::from_nanos),
            error_rate: real(ERRORS, &self.error_rate),
            db_locks: whole(LOCKS, &self.db_locks),
            custom: std::array::from_fn(|place| {
                real(1 << (CUSTOM_SHIFT + place as u32), &self.custom[place])
            }),
        };
        let calls = self.calls.load(Ordering::Relaxed);
        let batch = whole(BATCH, &self.len).map(|len| BatchSample {
            len: len as usize,
            cut_at: self.cut_at.load(Ordering::Relaxed) as usize,
            full: meta & FULL != 0,
            probe: meta & PROBE != 0,
            attempt: (meta >> ATTEMPT_SHIFT) as u32,
            service_time: Duration::from_nanos(self.service_ns.load(Ordering::Relaxed)),
            queue_wait: Duration::from_nanos(self.queue_wait_ns.load(Ordering::Relaxed)),
            failed: self.failed.load(Ordering::Relaxed) as usize,
            outcome: outcome((meta >> OUTCOME_SHIFT) & 0xff),
            in_flight: calls as u32 as usize,
            concurrency: (calls >> 32) as usize,
        });
        Sample { signals, batch }
    }
}

/// The inverse of the cast in `store`. A torn sample may hold any number: it is thrown away.
fn outcome(number: u64) -> CallOutcome {
    [
        CallOutcome::Ok,
        CallOutcome::Transient,
        CallOutcome::Permanent,
        CallOutcome::InDoubt,
        CallOutcome::Unavailable,
        CallOutcome::Misconfigured,
        CallOutcome::TooLarge,
    ]
    .into_iter()
    .find(|known| *known as u64 == number)
    .unwrap_or(CallOutcome::Panicked)
}

/// At most `u32::MAX`: as many threads there never are.
fn half(calls: usize) -> u32 {
    u32::try_from(calls).unwrap_or(u32::MAX)
}

/// In nanoseconds, at most `u64::MAX` (584 years).
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn numbered(number: u64) -> Sample {
        Sample {
            signals: Signals {
                queue_depth: Some(number),
                ..Signals::default()
            },
            batch: None,
        }
    }

    fn numbers(samples: &[Sample]) -> Vec<u64> {
        samples
            .iter()
            .map(|sample| sample.signals.queue_depth.unwrap())
            .collect()
    }

    #[test]
    fn a_sample_comes_out_as_it_went_in() {
        let (ring, mut reader) = Ring::new(4);
        let mut custom = [None; CUSTOM_SIGNALS_MAX];
        custom[7] = Some(0.25);
        let outcomes = [
            CallOutcome::Ok,
            CallOutcome::Transient,
            CallOutcome::Permanent,
            CallOutcome::InDoubt,
            CallOutcome::Panicked,
            CallOutcome::Unavailable,
            CallOutcome::Misconfigured,
            CallOutcome::TooLarge,
        ];
        for (place, outcome) in outcomes.into_iter().enumerate() {
            let batch = BatchSample {
                len: 17,
                cut_at: 20,
                full: place % 2 == 0,
                probe: place % 2 == 1,
                attempt: 3,
                service_time: Duration::from_micros(1_234),
                queue_wait: Duration::from_nanos(5),
                failed: 2,
                outcome,
                in_flight: 1,
                concurrency: 1,
            };
            let signals = Signals {
                cpu_load: Some(0.5),
                queue_depth: Some(u64::MAX),
                processing_time: Some(Duration::from_secs(7)),
                error_rate: Some(1.0),
                db_locks: Some(0),
                custom,
            };
            for sample in [
                Sample {
                    signals,
                    batch: Some(batch),
                },
                Sample {
                    signals,
                    batch: None,
                },
                Sample {
                    signals: Signals::default(),
                    batch: Some(batch),
                },
            ] {
                ring.report(&sample);
                let mut taken = Vec::new();
                assert_eq!((reader.take(&mut taken), taken), (0, vec![sample]));
            }
        }
    }

    #[test]
    fn the_oldest_are_overwritten_and_counted() {
        let (ring, mut reader) = Ring::new(4);
        (0..11).for_each(|number| ring.report(&numbered(number)));
        let mut taken = Vec::new();
        assert_eq!(reader.take(&mut taken), 7);
        assert_eq!(numbers(&taken), [7, 8, 9, 10]);
        taken.clear();
        assert_eq!(
            (reader.take(&mut taken), taken.len(), ring.lost()),
            (0, 0, 7)
        );
    }

    #[test]
    fn a_capacity_is_rounded_up_to_a_power_of_two() {
        for (asked, got) in [(0, 1), (1, 1), (3, 4), (1_024, 1_024), (1_025, 2_048)] {
            assert_eq!(Ring::new(asked).0.slots.len(), got, "{asked}");
        }
    }

    #[test]
    fn a_writer_that_stopped_midway_is_awaited_once_and_then_passed_by() {
        let (ring, mut reader) = Ring::new(4);
        // A writer that took its ticket and stopped.
        ring.head.fetch_add(1, Ordering::Relaxed);
        ring.report(&numbered(1));
        let mut taken = Vec::new();
        assert_eq!((reader.take(&mut taken), taken.len()), (0, 0), "awaited");
        assert_eq!(
            (reader.take(&mut taken), numbers(&taken)),
            (1, vec![1]),
            "passed by"
        );
    }

    #[test]
    fn every_sample_of_racing_writers_is_read_once_or_counted() {
        const WRITERS: u64 = 3;
        let each: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let (ring, mut reader) = Ring::new(8);
        let mut taken = Vec::new();
        let mut lost = 0;
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let ring = &ring;
                    scope.spawn(move || {
                        (0..each).for_each(|n| ring.report(&numbered(writer * each + n)))
                    })
                })
                .collect();
            while !writers.iter().all(|writer| writer.is_finished()) {
                lost += reader.take(&mut taken);
            }
        });
        // Twice: the first take may await a ticket.
        lost += reader.take(&mut taken) + reader.take(&mut taken);
        let mut seen = numbers(&taken);
        assert_eq!(seen.len() as u64 + lost, WRITERS * each);
        for writer in 0..WRITERS {
            let own: Vec<_> = seen.iter().filter(|n| **n / each == writer).collect();
            assert!(own.is_sorted(), "one writer's samples come in order");
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), taken.len(), "none twice");
    }
}
