//! Pairs of figures, the median and quartiles of their ratios, and the targets.

use std::fmt;

/// The quartiles of a list of figures.
#[derive(Clone, Copy)]
pub struct Quartiles {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Quartiles {
    /// Of at least one figure.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        // Between two figures it interpolates.
        let mark = |share: f64| {
            let place = share * (figures.len() - 1) as f64;
            let (below, above) = (
                figures[place.floor() as usize],
                figures[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        Self {
            low: mark(0.25),
            median: mark(0.5),
            high: mark(0.75),
        }
    }
}

/// `0.96 [0.91 1.02]`.
impl fmt::Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} [{:.2} {:.2}]", self.median, self.low, self.high)
    }
}

/// The target of a median.
#[derive(Clone, Copy)]
pub enum Target {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn holds(self, median: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtLeast(least) => median >= least,
            Self::AtMost(most) => median <= most,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::AtLeast(least) => write!(f, ", target ≥ {least:.2}"),
            Self::AtMost(most) => write!(f, ", target ≤ {most:.2}"),
        }
    }
}

/// Pairs of a figure of this crate and a figure of what it is compared with.
#[derive(Default)]
pub struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pairs {
    /// Runs both this many times, ours first. A run returns its figure.
    pub fn run(
        pairs: usize,
        mut ours: impl FnMut() -> f64,
        mut theirs: impl FnMut() -> f64,
    ) -> Self {
        let mut all = Self::default();
        for _ in 0..pairs {
            all.push(ours(), theirs());
        }
        all
    }

    pub fn push(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    pub fn ratio(&self) -> Quartiles {
        Quartiles::of(
            self.ours
                .iter()
                .zip(&self.theirs)
                .map(|(ours, theirs)| ours / theirs)
                .collect(),
        )
    }

    pub fn ours(&self) -> Quartiles {
        Quartiles::of(self.ours.clone())
    }

    pub fn theirs(&self) -> Quartiles {
        Quartiles::of(self.theirs.clone())
    }
}

/// Prints the lines, and counts those that miss their target.
#[derive(Default)]
pub struct Report {
    lines: usize,
    missed: Vec<String>,
}

impl Report {
    /// `add P=4 batch=1000 item=8 ratio 0.96 [0.91 1.02] (18.2 of 19.0 M items/s, target ≥ 0.85)`.
    pub fn line(&mut self, name: &str, pairs: &Pairs, unit: &str, target: Target) {
        let (ours, theirs) = (pairs.ours().median, pairs.theirs().median);
        self.ratio(
            name,
            pairs.ratio(),
            &format!("{ours:.2} of {theirs:.2} {unit}"),
            target,
        );
    }

    /// A line whose ratio does not come from pairs.
    pub fn ratio(&mut self, name: &str, ratio: Quartiles, figures: &str, target: Target) {
        let line = format!("{name} ratio {ratio} ({figures}{target})");
        println!("{line}");
        self.lines += 1;
        if !target.holds(ratio.median) {
            self.missed.push(line);
        }
    }

    pub fn lines(&self) -> usize {
        self.lines
    }

    pub fn missed(&self) -> &[String] {
        &self.missed
    }
}
