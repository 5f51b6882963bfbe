//! The calls of one process, and how many rows a second they stored between two moments.

/// A call that went through. Times are in seconds since the epoch: processes have no other clock in
/// common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    pub begun_s: f64,
    pub ended_s: f64,
    pub rows: u64,
}

/// Rows stored a second between two moments. A call's rows count evenly over its time, so that a
/// large batch at either end counts with the part that lies between them.
pub fn rows_per_s(calls: &[Call], from: f64, to: f64) -> f64 {
    let rows = calls.iter().map(|call| {
        let inside = call.ended_s.min(to) - call.begun_s.max(from);
        let share = inside.max(0.0) / (call.ended_s - call.begun_s).max(1e-6);
        call.rows as f64 * share.min(1.0)
    });
    rows.sum::<f64>() / (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begun_s: f64, ended_s: f64, rows: u64) -> Call {
        Call {
            begun_s,
            ended_s,
            rows,
        }
    }

    #[test]
    fn a_call_counts_with_the_part_of_its_time_that_is_between_the_moments() {
        let calls = [
            call(9.0, 11.0, 100),
            call(11.0, 12.0, 40),
            call(13.0, 17.0, 80),
        ];
        assert_eq!(rows_per_s(&calls, 10.0, 14.0), (50.0 + 40.0 + 20.0) / 4.0);
        assert_eq!(rows_per_s(&calls, 17.0, 19.0), 0.0);
        assert_eq!(rows_per_s(&[], 0.0, 1.0), 0.0);
    }

    #[test]
    fn a_call_that_took_no_time_counts_at_most_once() {
        let rate = rows_per_s(&[call(1.0, 1.0, 10)], 0.0, 2.0);
        assert!((0.0..=5.0).contains(&rate), "{rate}");
    }
}
