//! Times of the last minute in buckets, for quantiles. Time comes in as an argument.

use std::time::{Duration, Instant};

use super::Quantiles;

const BUCKETS_AN_OCTAVE: usize = 16;
const OCTAVES: usize = 41;
/// Parts of the window: the oldest is emptied as the next begins.
const SLOTS: usize = 4;
/// How long one part lasts.
const SLOT: Duration = Duration::from_secs(15);

/// Times in nanoseconds, in buckets of a sixteenth of an octave, from 16 ns to 9 hours, all beyond
/// in the last. They are kept for 45 to 60 seconds. The size is fixed, so that nothing is allocated
/// while the batcher runs.
#[derive(Clone)]
pub(crate) struct RecentTimes {
    /// Parts are counted from here. Lanes of one batcher have it in common.
    start: Instant,
    slots: [Slot; SLOTS],
}

/// One part of the window.
#[derive(Clone)]
struct Slot {
    /// Which part since the start this is.
    part: u64,
    buckets: Box<[u32]>,
    total: u64,
    max: Duration,
}

impl Slot {
    fn new() -> Self {
        Self {
            part: 0,
            buckets: vec![0; BUCKETS_AN_OCTAVE * OCTAVES].into(),
            total: 0,
            max: Duration::ZERO,
        }
    }

    fn renew(&mut self, part: u64) {
        if self.total > 0 {
            self.buckets.fill(0);
        }
        (self.part, self.total, self.max) = (part, 0, Duration::ZERO);
    }
}

impl RecentTimes {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            slots: std::array::from_fn(|_| Slot::new()),
        }
    }

    pub(crate) fn record(&mut self, time: Duration, now: Instant) {
        let slot = self.slot(self.part(now));
        let bucket = &mut slot.buckets[bucket(time)];
        *bucket = bucket.saturating_add(1);
        slot.total += 1;
        slot.max = slot.max.max(time);
    }

    /// Adds what another lane recorded.
    pub(crate) fn add(&mut self, other: &Self) {
        for theirs in other.slots.iter().filter(|slot| slot.total > 0) {
            if self.slots[theirs.part as usize % SLOTS].part > theirs.part {
                continue;
            }
            let slot = self.slot(theirs.part);
            for (own, count) in slot.buckets.iter_mut().zip(&theirs.buckets) {
                *own = own.saturating_add(*count);
            }
            slot.total += theirs.total;
            slot.max = slot.max.max(theirs.max);
        }
    }

    pub(crate) fn quantiles(&self, now: Instant) -> Quantiles {
        let part = self.part(now);
        let window: Vec<&Slot> = self
            .slots
            .iter()
            .filter(|slot| slot.part + SLOTS as u64 > part && slot.total > 0)
            .collect();
        let count = window.iter().map(|slot| slot.total).sum::<u64>();
        let max = window.iter().map(|slot| slot.max).max().unwrap_or_default();
        let quantile = |share: f64| {
            let rank = (count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let found = (0..BUCKETS_AN_OCTAVE * OCTAVES).find(|bucket| {
                seen += window
                    .iter()
                    .map(|slot| u64::from(slot.buckets[*bucket]))
                    .sum::<u64>();
                seen >= rank
            });
            found.map_or(max, |bucket| edge(bucket).min(max))
        };
        let elapsed = now.saturating_duration_since(self.start);
        let in_part = elapsed.saturating_sub(SLOT * u32::try_from(part).unwrap_or(u32::MAX));
        Quantiles {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max,
            count,
            window: elapsed.min(SLOT * (SLOTS as u32 - 1) + in_part),
        }
    }

    fn part(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / SLOT.as_secs()
    }

    /// The place of a part, emptied if it held an older one.
    fn slot(&mut self, part: u64) -> &mut Slot {
        let slot = &mut self.slots[part as usize % SLOTS];
        if slot.part != part {
            slot.renew(part);
        }
        slot
    }
}

fn bucket(time: Duration) -> usize {
    let time_ns = u64::try_from(time.as_nanos())
        .unwrap_or(u64::MAX)
        .max(BUCKETS_AN_OCTAVE as u64);
    let octave = time_ns.ilog2() as usize;
    // The four bits after the leading one.
    let fraction = (time_ns >> (octave - 4)) as usize & (BUCKETS_AN_OCTAVE - 1);
    ((octave - 4) * BUCKETS_AN_OCTAVE + fraction).min(BUCKETS_AN_OCTAVE * OCTAVES - 1)
}

/// The upper edge of a bucket.
fn edge(bucket: usize) -> Duration {
    let (octave, fraction) = (bucket / BUCKETS_AN_OCTAVE, bucket % BUCKETS_AN_OCTAVE);
    Duration::from_nanos(((BUCKETS_AN_OCTAVE + fraction + 1) as u64) << octave)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_quantile_is_at_most_a_sixteenth_above_the_true_one() {
        let start = Instant::now();
        let mut times = RecentTimes::new(start);
        for step in 1..=10_000 {
            times.record(Duration::from_micros(step), start);
        }
        let Quantiles { p50, p90, p99, .. } = times.quantiles(start);
        for (got, true_us) in [(p50, 5_000.0), (p90, 9_000.0), (p99, 9_900.0)] {
            let ratio = got.as_secs_f64() * 1e6 / true_us;
            assert!((1.0..=1.0625).contains(&ratio), "{got:?} for {true_us} µs");
        }
        let Quantiles { max, count, .. } = times.quantiles(start);
        assert_eq!((max, count), (Duration::from_millis(10), 10_000));
    }

    #[test]
    fn any_time_has_a_bucket() {
        let start = Instant::now();
        let mut times = RecentTimes::new(start);
        for time in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(5_000),
            Duration::MAX,
        ] {
            times.record(time, start);
        }
        assert_eq!(times.quantiles(start).max, Duration::MAX);
        assert_eq!(
            RecentTimes::new(start).quantiles(start),
            Quantiles::default()
        );
    }

    #[test]
    fn slow_calls_leave_the_quantiles_within_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut times = RecentTimes::new(start);
        for _ in 0..100 {
            times.record(1_000 * MS, at(14));
        }
        for second in 15..60 {
            times.record(MS, at(second));
        }
        let before = times.quantiles(at(59));
        assert_eq!((before.p99, before.count), (1_000 * MS, 145));
        assert_eq!(before.window, Duration::from_secs(59));
        let after = times.quantiles(at(60));
        assert!(after.max == MS && after.count == 45, "{after:?}");
        assert_eq!(after.window, Duration::from_secs(45));
        times.record(2 * MS, at(60));
        assert_eq!(times.quantiles(at(60)).max, 2 * MS);
        let mut reused = RecentTimes::new(start);
        (0..100).for_each(|_| reused.record(MS, start));
        reused.record(1_000 * MS, at(60));
        assert_eq!(reused.quantiles(at(60)).p50, 1_000 * MS);
        let long_after = times.quantiles(at(6_000));
        assert_eq!((long_after.count, long_after.max), (0, Duration::ZERO));
    }

    #[test]
    fn lanes_are_added_part_by_part() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut one, mut other) = (RecentTimes::new(start), RecentTimes::new(start));
        one.record(MS, at(70));
        other.record(9 * MS, at(1));
        other.record(3 * MS, at(70));
        one.add(&other);
        let both = one.quantiles(at(70));
        assert_eq!((both.count, both.max), (2, 3 * MS), "the first is too old");
    }
}
