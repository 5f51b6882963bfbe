//! The background load of the backend, as a function of time.

use std::time::Duration;

/// The step in which a smooth load changes, in seconds of virtual time. A short call has a few of
/// them.
const SMOOTH_STEP_SECONDS: f64 = 0.02;

/// The background load over time: the share of the backend's cores that other work takes, 0..=1. It
/// is clamped where it is read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Load {
    /// Always the same.
    Constant(f64),
    /// A sine between two values. It begins in the middle and rises.
    Sine {
        /// The least.
        low: f64,
        /// The most.
        high: f64,
        /// From one peak to the next, greater than zero.
        period: Duration,
    },
    /// Peaks at an interval. The first one begins after one interval.
    Spikes {
        /// Between the peaks.
        base: f64,
        /// During a peak.
        peak: f64,
        /// From the beginning of one to that of the next, greater than zero.
        every: Duration,
        /// How long each lasts.
        lasting: Duration,
    },
    /// Moves evenly from one value to another.
    Ramp {
        /// Before and at the beginning.
        from: f64,
        /// At the end and after.
        to: f64,
        /// When it begins to move.
        begin: Duration,
        /// When it has arrived.
        end: Duration,
    },
    /// A value from the start, and other values from their times on. The times are in ascending
    /// order.
    Steps(f64, Vec<(Duration, f64)>),
}

impl Load {
    /// One peak.
    #[must_use]
    pub fn spike(base: f64, peak: f64, begin: Duration, lasting: Duration) -> Self {
        Self::Steps(base, vec![(begin, peak), (begin + lasting, base)])
    }

    /// A time in which no call advances: calls reach their timeout, or wait until it is over.
    #[must_use]
    pub fn outage(base: f64, begin: Duration, lasting: Duration) -> Self {
        Self::spike(base, 1.0, begin, lasting)
    }

    /// The load at a time since the start, 0..=1.
    #[must_use]
    pub fn at(&self, time: Duration) -> f64 {
        let now = time.as_secs_f64();
        let share = match self {
            Self::Constant(share) => *share,
            Self::Sine { low, high, period } => {
                let phase = now / period.as_secs_f64() * std::f64::consts::TAU;
                (low + high) / 2.0 + (high - low) / 2.0 * phase.sin()
            }
            Self::Spikes {
                base,
                peak,
                every,
                lasting,
            } => {
                let (turn, since) = Self::turn(now, every.as_secs_f64());
                if turn >= 1.0 && since + 1e-9 < lasting.as_secs_f64() {
                    *peak
                } else {
                    *base
                }
            }
            Self::Ramp {
                from,
                to,
                begin,
                end,
            } => {
                let (begin, end) = (begin.as_secs_f64(), end.as_secs_f64());
                if now < begin {
                    *from
                } else if now >= end {
                    *to
                } else {
                    from + (to - from) * (now - begin) / (end - begin)
                }
            }
            Self::Steps(first, then) => then
                .iter()
                .take_while(|(begin, _)| *begin <= time)
                .last()
                .map_or(*first, |(_, share)| *share),
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// How many intervals have passed, and how much of the current one. A sum of floats that
    /// differs from a boundary by rounding counts as that boundary.
    fn turn(now: f64, every: f64) -> (f64, f64) {
        let turn = (now / every + 1e-9).floor();
        (turn, (now - turn * every).max(0.0))
    }

    /// When the load changes next, in seconds; infinite if it never does.
    pub(super) fn next_change(&self, now: f64) -> f64 {
        match self {
            Self::Constant(_) => f64::INFINITY,
            Self::Sine { .. } => now + SMOOTH_STEP_SECONDS,
            Self::Spikes { every, lasting, .. } => {
                let (every, lasting) = (every.as_secs_f64(), lasting.as_secs_f64());
                let (turn, since) = Self::turn(now, every);
                if since + 1e-9 < lasting {
                    turn * every + lasting
                } else {
                    (turn + 1.0) * every
                }
            }
            Self::Ramp { begin, end, .. } => {
                let (begin, end) = (begin.as_secs_f64(), end.as_secs_f64());
                if now < begin {
                    begin
                } else if now >= end {
                    f64::INFINITY
                } else {
                    end.min(now + SMOOTH_STEP_SECONDS)
                }
            }
            Self::Steps(_, then) => {
                let next = then
                    .iter()
                    .map(|(begin, _)| begin.as_secs_f64())
                    .find(|begin| *begin > now);
                next.unwrap_or(f64::INFINITY)
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_pattern_has_its_value_at_its_time() {
        let sine = Load::Sine {
            low: 0.2,
            high: 0.6,
            period: secs(40),
        };
        let spikes = Load::Spikes {
            base: 0.1,
            peak: 0.9,
            every: secs(10),
            lasting: secs(2),
        };
        let ramp = Load::Ramp {
            from: 0.2,
            to: 0.8,
            begin: secs(10),
            end: secs(20),
        };
        let spike = Load::spike(0.2, 0.85, secs(30), secs(15));
        let table: [(&Load, u64, f64); 18] = [
            (&Load::Constant(0.3), 7, 0.3),
            (&Load::Constant(f64::NAN), 7, 0.0),
            (&Load::Constant(7.0), 7, 1.0),
            (&Load::Constant(-0.1), 7, 0.0),
            (&sine, 0, 0.4),
            (&sine, 10, 0.6),
            (&sine, 30, 0.2),
            (&spikes, 0, 0.1),
            (&spikes, 10, 0.9),
            (&spikes, 12, 0.1),
            (&spikes, 31, 0.9),
            (&ramp, 9, 0.2),
            (&ramp, 15, 0.5),
            (&ramp, 20, 0.8),
            (&ramp, 25, 0.8),
            (&spike, 29, 0.2),
            (&spike, 30, 0.85),
            (&spike, 45, 0.2),
        ];
        for (load, at, expected) in table {
            assert!(
                (load.at(secs(at)) - expected).abs() < 1e-9,
                "{load:?} at {at}: {}",
                load.at(secs(at))
            );
        }
        assert!((Load::outage(0.2, secs(1), secs(1)).at(secs(1)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_load_with_corners_is_constant_between_its_changes() {
        let loads = [
            Load::Spikes {
                base: 0.1,
                peak: 0.9,
                every: secs(10),
                lasting: secs(2),
            },
            Load::spike(0.2, 0.85, secs(30), secs(15)),
            Load::Steps(0.1, vec![(secs(5), 0.2), (secs(6), 0.3)]),
        ];
        for load in loads {
            let (mut now, mut changes) = (0.0, 0);
            while now < 50.0 {
                let next = load.next_change(now);
                assert!(next > now, "{load:?} at {now}");
                let middle = now + (next.min(60.0) - now) / 2.0;
                let at = |seconds| load.at(Duration::from_secs_f64(seconds));
                assert!(
                    (at(now) - at(middle)).abs() < 1e-9,
                    "{load:?} between {now} and {next}"
                );
                now = next;
                changes += 1;
            }
            assert!((2..=11).contains(&changes), "{load:?}: {changes}");
        }
    }

    #[test]
    fn a_peak_begins_and_ends_at_its_boundaries_despite_rounding() {
        for (every, lasting) in [(100, 30), (300, 100), (700, 699), (10, 1)] {
            let load = Load::Spikes {
                base: 0.1,
                peak: 0.9,
                every: Duration::from_millis(every),
                lasting: Duration::from_millis(lasting),
            };
            // The end of a peak is a change even where the first interval has no peak.
            let mut now = load.next_change(load.next_change(0.0));
            for turn in 1..1_000 {
                for (after, expected) in [(0, 0.9), (lasting, 0.1)] {
                    let boundary = (turn * every + after) as f64 / 1e3;
                    assert!(
                        (now - boundary).abs() < 1e-9,
                        "{now} for {boundary} of {load:?}"
                    );
                    let found = load.at(Duration::from_secs_f64(now));
                    assert!(
                        (found - expected).abs() < 1e-9,
                        "{found} at {now} of {load:?}"
                    );
                    now = load.next_change(now);
                }
            }
        }
    }
}
