//! The load score: the weighted signals, each 0..=1, as both policies that use them compute it.

use crate::feedback::{CUSTOM_SIGNALS_MAX, CustomSignal, Signals};

/// Signals in a score: the four built-in ones and the custom ones.
pub(super) const TERMS: usize = 4 + CUSTOM_SIGNALS_MAX;

/// How much each signal counts. Where they are normalised, only their proportions matter.
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

/// One signal of a score.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term {
    pub(super) weight: f64,
    /// 0..=1; `None` if the signal was not reported.
    pub(super) value: Option<f64>,
}

/// The sum of one signal over the feedbacks that carry it.
#[derive(Clone, Copy, Debug, Default)]
struct TermSum {
    weight: f64,
    sum: f64,
    count: u32,
}

/// The weights, and the depths that count as full load.
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
    /// The four built-in terms, each with its value 0..=1 if it was reported. In this order, their sum
    /// rounds as documented.
    pub(super) fn four(&self, signals: &Signals) -> [Term; 4] {
        let share = |count: u64, full: f64| (count as f64 / full).min(1.0);
        let queue = signals.queue_depth.map(|depth| share(depth, self.queue));
        let locks = signals.db_locks.map(|waiting| share(waiting, self.locks));
        let term = |weight, value| Term { weight, value };
        [
            term(self.weights.cpu_load, signals.cpu_load),
            term(self.weights.queue_depth, queue),
            term(self.weights.error_rate, signals.error_rate),
            term(self.weights.db_locks, locks),
        ]
    }

    /// The four terms and the custom ones.
    pub(super) fn terms(&self, signals: &Signals, custom: &[CustomSignal]) -> [Term; TERMS] {
        let mut terms = [Term::default(); TERMS];
        terms[..4].copy_from_slice(&self.four(signals));
        for ((term, value), signal) in terms[4..].iter_mut().zip(signals.custom).zip(custom) {
            *term = Term {
                weight: signal.weight,
                value,
            };
        }
        terms
    }
}

/// The mean of each signal over the feedbacks that carry it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    terms: [TermSum; TERMS],
    /// How many of them are in use: most batchers declare no custom signal.
    used: usize,
}

impl Means {
    pub(super) fn add(&mut self, terms: &[Term]) {
        self.used = self.used.max(terms.len());
        for (total, term) in self.terms.iter_mut().zip(terms) {
            if let Some(value) = term.value {
                total.weight = term.weight;
                total.sum += value;
                total.count += 1;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.terms[..self.used].fill(TermSum::default());
    }

    /// The weighted mean over the signals that any feedback carries, 0..=1; `None` without one that
    /// counts.
    pub(super) fn score(&self) -> Option<f64> {
        let (mut weights, mut sum) = (0.0, 0.0);
        for total in &self.terms[..self.used] {
            if total.count > 0 {
                weights += total.weight;
                sum += total.weight * (total.sum / f64::from(total.count));
            }
        }
        if weights <= 0.0 {
            return None;
        }
        // If the weights add up to 1 but for rounding, a division must not move the score across a
        // threshold.
        let score: f64 = if (weights - 1.0_f64).abs() < 1e-9 {
            sum
        } else {
            sum / weights
        };
        Some(score.min(1.0))
    }
}
