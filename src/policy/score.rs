//! The load score: the weighted signals, each 0..=1, as both laws that read them see them.

use crate::feedback::{CUSTOM_SIGNALS_MAX, CustomSignal, Signals};

/// Signals in a score: the four of the law and the custom ones.
pub(super) const TERMS: usize = 4 + CUSTOM_SIGNALS_MAX;

/// How much each signal counts; only the proportions matter once they are normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of the CPU load; default 0.4.
    pub cpu_load: f64,
    /// Of the error rate; default 0.3.
    pub error_rate: f64,
    /// Of the queue depth over its scale; default 0.2.
    pub queue_depth: f64,
    /// Of the waiting locks over their scale; default 0.1.
    pub db_locks: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            cpu_load: 0.4,
            error_rate: 0.3,
            queue_depth: 0.2,
            db_locks: 0.1,
        }
    }
}

/// What turns signals into terms: the weights, and the depths that count as full load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) weights: Weights,
    pub(super) queue: f64,
    pub(super) locks: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            queue: 100.0,
            locks: 50.0,
        }
    }
}

impl Scale {
    /// The four terms of the law, in this order so that their sum rounds as documented: each weight
    /// with its value 0..=1, where it was reported.
    pub(super) fn four(&self, signals: &Signals) -> [(f64, Option<f64>); 4] {
        [
            (self.weights.cpu_load, signals.cpu_load),
            (
                self.weights.queue_depth,
                signals
                    .queue_depth
                    .map(|n| (n as f64 / self.queue).min(1.0)),
            ),
            (self.weights.error_rate, signals.error_rate),
            (
                self.weights.db_locks,
                signals.db_locks.map(|n| (n as f64 / self.locks).min(1.0)),
            ),
        ]
    }

    /// The four terms and the custom ones.
    pub(super) fn terms(
        &self,
        signals: &Signals,
        custom: &[CustomSignal],
    ) -> [(f64, Option<f64>); TERMS] {
        let mut terms = [(0.0, None); TERMS];
        terms[..4].copy_from_slice(&self.four(signals));
        for ((term, value), signal) in terms[4..].iter_mut().zip(signals.custom).zip(custom) {
            *term = (signal.weight, value);
        }
        terms
    }
}

/// The mean of each signal over the feedbacks that carry it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    /// Weight, sum and count of each term.
    terms: [(f64, f64, u32); TERMS],
    /// How many of them are in use: the custom ones mostly are not.
    used: usize,
}

impl Means {
    pub(super) fn add(&mut self, terms: &[(f64, Option<f64>)]) {
        self.used = self.used.max(terms.len());
        for (sum, (weight, value)) in self.terms.iter_mut().zip(terms) {
            if let Some(value) = value {
                *sum = (*weight, sum.1 + value, sum.2 + 1);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.terms[..self.used].fill((0.0, 0.0, 0));
    }

    /// The weighted mean over the signals that any feedback carries, 0..=1; `None` without one that
    /// counts.
    pub(super) fn score(&self) -> Option<f64> {
        let (mut weights, mut sum) = (0.0, 0.0);
        for (weight, total, count) in &self.terms[..self.used] {
            if *count > 0 {
                weights += weight;
                sum += weight * (total / f64::from(*count));
            }
        }
        if weights <= 0.0 {
            return None;
        }
        // A weight that is not 1 in total only by rounding must not move a score across a
        // threshold.
        let score: f64 = if (weights - 1.0_f64).abs() < 1e-9 {
            sum
        } else {
            sum / weights
        };
        Some(score.min(1.0))
    }
}
