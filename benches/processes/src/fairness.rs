//! How evenly a rate is shared.

/// Jain's index: 1 if all have the same, 1/n if one has everything (Jain, Chiu, Hawe: "A Quantitative
/// Measure of Fairness", 1984). Not a number where nobody has anything.
pub fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    sum * sum / (rates.len() as f64 * squares)
}

/// One rate against the mean of all, itself included.
pub fn share_of_mean(rate: f64, all: &[f64]) -> f64 {
    rate * all.len() as f64 / all.iter().sum::<f64>()
}

/// The middle one, the mean of the two in the middle where their number is even.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[middle],
        _ => (figures[middle - 1] + figures[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equal_rates_and_one_nth_if_one_has_everything() {
        assert_eq!(jain(&[7.0]), 1.0);
        assert_eq!(jain(&[3.0; 8]), 1.0);
        assert_eq!(jain(&[5.0, 0.0, 0.0, 0.0]), 0.25);
        assert!((jain(&[1.0, 2.0, 3.0]) - 36.0 / 42.0).abs() < 1e-12);
        assert!(jain(&[0.0, 0.0]).is_nan());
    }

    #[test]
    fn a_share_is_one_for_whoever_has_the_mean() {
        assert_eq!(share_of_mean(2.0, &[1.0, 2.0, 3.0]), 1.0);
        assert_eq!(share_of_mean(0.0, &[0.0, 4.0]), 0.0);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
