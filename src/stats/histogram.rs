//! Times in buckets, for quantiles.

use std::time::Duration;

use super::Quantiles;

const BUCKETS_AN_OCTAVE: usize = 16;
const OCTAVES: usize = 41;

/// Times in nanoseconds, in buckets of a sixteenth of an octave, from 16 ns to 9 hours, all beyond
/// in the last: fixed size.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Box<[u64]>,
    total: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS_AN_OCTAVE * OCTAVES].into(),
            total: 0,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        self.buckets[Self::bucket(time)] += 1;
        self.total += 1;
        self.max = self.max.max(time);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let buckets = self.buckets.iter_mut().zip(&other.buckets);
        buckets.for_each(|(own, other)| *own += other);
        self.total += other.total;
        self.max = self.max.max(other.max);
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

    pub(crate) fn quantiles(&self) -> Quantiles {
        let quantile = |share: f64| {
            let rank = (self.total as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = self.buckets.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            bucket.map_or(self.max, |bucket| Self::edge(bucket).min(self.max))
        };
        Quantiles {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: self.max,
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_sixteenth_above_the_true_one() {
        let mut histogram = Histogram::default();
        for step in 1..=10_000 {
            histogram.record(Duration::from_micros(step));
        }
        let Quantiles { p50, p90, p99, max } = histogram.quantiles();
        for (got, true_us) in [(p50, 5_000.0), (p90, 9_000.0), (p99, 9_900.0)] {
            let ratio = got.as_secs_f64() * 1e6 / true_us;
            assert!((1.0..=1.0625).contains(&ratio), "{got:?} for {true_us} µs");
        }
        assert_eq!(max, Duration::from_millis(10));
    }

    #[test]
    fn any_time_has_a_bucket() {
        let mut histogram = Histogram::default();
        for time in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(5_000),
            Duration::MAX,
        ] {
            histogram.record(time);
        }
        assert_eq!(histogram.quantiles().max, Duration::MAX);
        assert_eq!(Histogram::default().quantiles(), Quantiles::default());
    }
}
