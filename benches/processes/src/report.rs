//! What a worker reports when it is told to stop: lines of words, the last of them `end`.

use std::fmt::Write;

use crate::calls::Call;

/// The account of one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Rows whose commit was answered.
    pub handled: u64,
    /// Rows that were given up.
    pub failed_rows: u64,
    /// Calls that failed: a time-out is one of them.
    pub failed_calls: u64,
    /// The size in force at the end.
    pub batch_size: usize,
    /// Those that went through.
    pub calls: Vec<Call>,
}

pub const END: &str = "end";

impl Report {
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "handled {}\nfailed_rows {}\nfailed_calls {}\nbatch_size {}\n",
            self.handled, self.failed_rows, self.failed_calls, self.batch_size
        );
        for call in &self.calls {
            let [begun, ended] = [call.begun_s, call.ended_s].map(|s| (s * 1e6).round() as u64);
            // Writing into a text does not fail.
            let _ = writeln!(text, "call {begun} {ended} {}", call.rows);
        }
        text + END + "\n"
    }

    /// Takes a line; true if it was the last.
    ///
    /// # Errors
    /// The line, if it is none of a report.
    pub fn take(&mut self, line: &str) -> Result<bool, String> {
        let bad = || format!("{line:?} is no line of a report");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| -> Result<u64, String> {
            let word = words.get(place).ok_or_else(bad)?;
            word.parse().map_err(|_| bad())
        };
        match (words[0], words.len()) {
            (END, 1) => return Ok(true),
            ("handled", 2) => self.handled = number(1)?,
            ("failed_rows", 2) => self.failed_rows = number(1)?,
            ("failed_calls", 2) => self.failed_calls = number(1)?,
            ("batch_size", 2) => self.batch_size = number(1)? as usize,
            ("call", 4) => self.calls.push(Call {
                begun_s: number(1)? as f64 / 1e6,
                ended_s: number(2)? as f64 / 1e6,
                rows: number(3)?,
            }),
            _ => return Err(bad()),
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        let call = |begun_s: f64, rows| Call {
            begun_s,
            ended_s: begun_s + 0.25,
            rows,
        };
        let sent = Report {
            handled: 700,
            failed_rows: 3,
            failed_calls: 2,
            batch_size: 512,
            calls: vec![call(1_764_000_000.5, 200), call(1_764_000_001.0, 500)],
        };
        let mut received = Report::default();
        let text = sent.to_text();
        let ends: Vec<bool> = text
            .lines()
            .map(|line| received.take(line).unwrap())
            .collect();
        assert_eq!(received, sent);
        assert!(ends.iter().rev().skip(1).all(|end| !end) && ends.ends_with(&[true]));
    }

    #[test]
    fn a_line_that_is_none_of_a_report_is_an_error() {
        for line in [
            "",
            "handled",
            "handled x",
            "call 1 2",
            "thread 'main' panicked",
        ] {
            let error = Report::default().take(line).unwrap_err();
            assert!(error.contains(line), "{error}");
        }
    }
}
