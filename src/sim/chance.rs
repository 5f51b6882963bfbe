//! The simulator's own pseudo-random numbers, so that a seed gives the same run on every machine
//! and in every release.

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// A separate stream for each purpose of one seed.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self(seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95));
        chance.next();
        Self(chance.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform over 0 (excluded) to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller, one number of the pair).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Exponential, mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// How many of `n` happen at this probability: the normal approximation of the binomial, which
    /// costs one draw.
    pub(crate) fn binomial(&mut self, n: usize, probability: f64) -> usize {
        if probability <= 0.0 {
            return 0;
        }
        let mean = n as f64 * probability;
        let drawn = mean + self.normal() * (mean * (1.0 - probability)).max(0.0).sqrt();
        (drawn.round().max(0.0) as usize).min(n)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_distributions_have_their_means_and_deviations() {
        let mut chance = Chance::new(1, 2);
        let mut moments = |draw: fn(&mut Chance) -> f64| {
            let n = 100_000;
            let (sum, squares) = (0..n)
                .map(|_| draw(&mut chance))
                .fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
            let mean = sum / f64::from(n);
            (mean, (squares / f64::from(n) - mean * mean).sqrt())
        };
        let near = |(mean, deviation): (f64, f64), expected: (f64, f64)| {
            assert!(
                (mean - expected.0).abs() < 0.02 && (deviation - expected.1).abs() < 0.02,
                "{mean} {deviation}"
            );
        };
        near(moments(Chance::uniform), (0.5, 0.2887));
        near(moments(Chance::normal), (0.0, 1.0));
        near(moments(Chance::exponential), (1.0, 1.0));
        near(
            moments(|chance| chance.binomial(100, 0.1) as f64 / 10.0),
            (1.0, 0.3),
        );
    }

    #[test]
    fn the_stream_is_that_of_the_paper() {
        let mut chance = Chance(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([chance.next(), chance.next(), chance.next()], expected);
    }

    #[test]
    fn no_draw_is_out_of_its_range() {
        // The one state that is followed by 0, whose logarithm is infinite.
        assert!(Chance(0_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15)).uniform() > 0.0);
        let mut chance = Chance::new(1, 2);
        for (n, probability) in [
            (5, 0.97),
            (5, 0.03),
            (1, 0.5),
            (7, 1.0),
            (7, 0.0),
            (7, -1.0),
            (0, 0.5),
        ] {
            let range = if probability <= 0.0 {
                0..=0
            } else if probability >= 1.0 {
                n..=n
            } else {
                0..=n
            };
            assert!(
                (0..1_000).all(|_| range.contains(&chance.binomial(n, probability))),
                "{probability} of {n}"
            );
        }
    }

    #[test]
    fn a_seed_and_a_purpose_are_a_stream_of_their_own() {
        let first = |seed, purpose| Chance::new(seed, purpose).next();
        assert_eq!(first(1, 1), first(1, 1));
        assert_ne!(first(1, 1), first(2, 1));
        assert_ne!(first(1, 1), first(1, 2));
        assert_ne!(first(0, 1), first(1, 0));
    }
}
