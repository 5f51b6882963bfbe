//! When the next call begins, one decision at a time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A batch of four rows whose calls fail as the test says.
struct Calls {
    retry: Retry,
    start: Instant,
    /// The close begins and ends then.
    close: Option<(Duration, Duration)>,
    has_line: bool,
    name: Name,
    search: Search<u64>,
    rows: Vec<Row<u64>>,
    purpose: Purpose,
}

/// What comes next.
#[derive(Debug, PartialEq)]
enum Then {
    /// So many rows; under the name of the batch or not.
    Calls(usize, Option<Name>),
    CallsFromLine,
    WaitsUntil(Duration),
    GivesUp,
}

use Then::{Calls as Called, CallsFromLine, GivesUp, WaitsUntil};

impl Calls {
    fn new(retry: Retry) -> Self {
        let start = Instant::now();
        let row = |number| Row {
            item: number,
            memo: Memo::new(number, None),
        };
        let name = Name {
            id: BatchId::new(0, 1),
            attempts: 1,
        };
        Self {
            search: Search::new(name, BatchError::new("none yet"), &retry, start),
            retry,
            start,
            close: None,
            has_line: false,
            name,
            rows: (0..4).map(row).collect(),
            purpose: Purpose::Fresh,
        }
    }

    fn at(&self, time: Duration) -> Circumstances<'_> {
        Circumstances {
            now: self.start + time,
            // Each wait is as long as it may be.
            chance: u64::MAX,
            retry: &self.retry,
            idempotent: false,
            closing: self.close.is_some_and(|(from, _)| time >= from),
            deadline: self.close.map(|(_, end)| self.start + end),
            has_line: self.has_line,
        }
    }

    /// The rows in hand fail; how many of them for good.
    fn fail_as(&mut self, time: Duration, failure: Failure<'_>) -> usize {
        let mut rows = std::mem::take(&mut self.rows);
        rows.iter_mut().for_each(|row| row.memo.calls += 1);
        let retry = self.retry;
        let at = Circumstances {
            retry: &retry,
            ..self.at(time)
        };
        let named = (self.purpose, self.name);
        self.search.failed(rows, named, &failure, &at).rows.len()
    }

    fn fail(&mut self, time: Duration, error: &BatchError) -> usize {
        self.fail_as(time, failure(error))
    }

    fn next(&mut self, time: Duration) -> Then {
        let retry = self.retry;
        let at = Circumstances {
            retry: &retry,
            ..self.at(time)
        };
        match self.search.next(&at) {
            Next::Call {
                rows,
                purpose,
                name,
            } => {
                (self.rows, self.purpose) = (rows, purpose);
                Called(self.rows.len(), name)
            }
            Next::CallFromLine => CallsFromLine,
            Next::Wait { until, .. } => {
                // The longest wait is a rounding error short of its bound.
                let wait = until.duration_since(self.start) + Duration::from_micros(1);
                WaitsUntil(Duration::from_millis(wait.as_millis() as u64))
            }
            Next::GiveUp => GivesUp,
            Next::Done => unreachable!("rows are left"),
        }
    }
}

fn failure(error: &BatchError) -> Failure<'_> {
    Failure {
        error,
        service_time: MS,
        early: false,
        known_misconfigured: false,
        while_closing: false,
        is_cut: false,
    }
}

/// Waits of one length.
fn waits_of(wait: Duration) -> Retry {
    Retry::default().backoff(wait, wait)
}

#[test]
fn only_an_early_error_without_a_class_is_followed_by_a_call_at_once() {
    for (error, early, at_once) in [
        (BatchError::new("lost"), true, true),
        (BatchError::new("lost"), false, false),
        (BatchError::transient("lost"), true, false),
    ] {
        let mut calls = Calls::new(waits_of(SECOND));
        let failure = Failure {
            early,
            ..failure(&error)
        };
        calls.fail_as(Duration::ZERO, failure);
        let next = calls.next(Duration::ZERO);
        assert_eq!(next == Called(4, Some(calls.name)), at_once, "{next:?}");
        assert_eq!(next == WaitsUntil(SECOND), !at_once, "{next:?}");
    }
}

#[test]
fn a_statement_that_is_known_to_be_wrong_is_not_tried_again() {
    let error = BatchError::misconfigured("no such table");
    let mut calls = Calls::new(Retry::default());
    let known = Failure {
        known_misconfigured: true,
        ..failure(&error)
    };
    assert_eq!(calls.fail_as(Duration::ZERO, known), 4);
}

#[test]
fn what_a_rejection_left_of_a_batch_has_a_new_id() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(waits_of(SECOND));
    let cut = Failure {
        is_cut: true,
        ..failure(&error)
    };
    calls.fail_as(Duration::ZERO, cut);
    assert_eq!(calls.next(Duration::ZERO), WaitsUntil(SECOND));
    assert_eq!(calls.next(SECOND), Called(4, None));
}

#[test]
fn a_flush_begins_one_attempt_and_leaves_the_schedule_as_it_is() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(waits_of(SECOND * 20));
    calls.fail(Duration::ZERO, &error);
    assert_eq!(calls.next(Duration::ZERO), WaitsUntil(SECOND * 20));
    calls.search.outage.flush(calls.start + SECOND);
    assert_eq!(calls.next(SECOND), Called(4, Some(calls.name)));
    calls.fail(SECOND * 2, &error);
    assert_eq!(calls.next(SECOND * 2), WaitsUntil(SECOND * 20));
}

#[test]
fn a_close_cuts_a_backoff() {
    let mut calls = Calls::new(waits_of(SECOND * 20));
    calls.fail(Duration::ZERO, &BatchError::transient("lost"));
    assert_eq!(calls.next(Duration::ZERO), WaitsUntil(SECOND * 20));
    calls.close = Some((SECOND, SECOND * 30));
    assert_eq!(calls.next(SECOND), Called(4, Some(calls.name)));
}

#[test]
fn neither_a_flush_nor_a_close_cuts_a_wait_that_the_backend_asked_for() {
    let asked = BatchError::unavailable("down").retry_after(SECOND * 10);
    let mut calls = Calls::new(Retry::default());
    calls.fail(Duration::ZERO, &asked);
    assert_eq!(calls.next(Duration::ZERO), WaitsUntil(SECOND * 10));
    calls.search.outage.flush(calls.start + SECOND);
    assert_eq!(calls.next(SECOND), WaitsUntil(SECOND * 10));
    calls.close = Some((SECOND * 2, SECOND * 30));
    assert_eq!(calls.next(SECOND * 2), WaitsUntil(SECOND * 10));
}

#[test]
fn patience_ends_while_calls_are_refused_unseen() {
    let refused = BatchError::unavailable("down");
    for (patience, failed) in [(9, 4), (10, 0)] {
        let mut calls = Calls::new(waits_of(SECOND).for_at_least(SECOND * patience));
        assert_eq!(calls.fail(SECOND, &refused), 0);
        assert_eq!(calls.next(SECOND * 10), Called(4, Some(calls.name)));
        let end = SECOND * 10 + MS;
        assert_eq!(calls.fail(end, &refused), failed, "{patience} s");
    }
}

#[test]
fn a_wait_that_is_longer_than_allowed_is_cut_and_counted() {
    let asked = BatchError::unavailable("down").retry_after(SECOND * 10);
    let mut calls = Calls::new(Retry::default().longest_retry_after(SECOND * 4));
    calls.fail(Duration::ZERO, &asked);
    assert_eq!(calls.next(Duration::ZERO), WaitsUntil(SECOND * 4));
    assert_eq!(calls.search.outage.capped, 1);
}

#[test]
fn a_close_begins_the_backoff_anew() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(Retry::default().backoff(SECOND, SECOND * 30).bisect(false));
    let mut time = Duration::ZERO;
    for wait in [1, 2, 4, 8] {
        calls.fail(time, &error);
        assert_eq!(calls.next(time), WaitsUntil(time + SECOND * wait));
        time += SECOND * wait;
        assert_eq!(calls.next(time), Called(4, Some(calls.name)));
    }
    calls.close = Some((time, time + SECOND * 1_000));
    calls.fail(time, &error);
    // The wait that began with the failure is cut.
    assert_eq!(calls.next(time), Called(4, Some(calls.name)));
    calls.fail(time, &error);
    assert_eq!(calls.next(time), WaitsUntil(time + SECOND));
}

#[test]
fn while_closing_a_wait_takes_half_of_the_time_left_at_most() {
    let mut calls = Calls::new(waits_of(SECOND * 60));
    calls.close = Some((Duration::ZERO, SECOND * 10));
    // The close is seen, then a call fails.
    calls.fail(Duration::ZERO, &BatchError::transient("lost"));
    assert_eq!(calls.next(Duration::ZERO), Called(4, Some(calls.name)));
    calls.fail(SECOND * 2, &BatchError::unavailable("down"));
    assert_eq!(calls.next(SECOND * 2), WaitsUntil(SECOND * 6));
}

#[test]
fn no_attempt_begins_that_may_outlast_the_close() {
    let error = BatchError::transient("lost");
    for (end, fits) in [(3, false), (4, true)] {
        let mut calls = Calls::new(waits_of(Duration::ZERO));
        let long = Failure {
            service_time: SECOND * 3,
            ..failure(&error)
        };
        calls.fail_as(SECOND, long);
        // A short failure after it changes nothing: the longest counts.
        assert_eq!(calls.next(SECOND), Called(4, Some(calls.name)));
        calls.close = Some((SECOND, SECOND * end));
        calls.fail(SECOND, &error);
        assert_eq!(calls.next(SECOND) != GivesUp, fits, "until {end} s");
    }
}

#[test]
fn an_attempt_after_short_ones_needs_a_moment_before_the_close_ends() {
    for (left, fits) in [(49, false), (50, true)] {
        let mut calls = Calls::new(waits_of(Duration::ZERO));
        calls.fail(Duration::ZERO, &BatchError::transient("lost"));
        calls.close = Some((Duration::ZERO, MS * left));
        assert_eq!(calls.next(Duration::ZERO) != GivesUp, fits, "{left} ms");
    }
}

#[test]
fn a_row_that_comes_into_line_ends_the_wait_for_an_answer() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(waits_of(SECOND).bisect(false));
    calls.fail(Duration::ZERO, &error);
    assert_eq!(calls.next(SECOND), Called(4, Some(calls.name)));
    calls.fail(SECOND, &error);
    assert_eq!(calls.next(SECOND), WaitsUntil(SECOND * 2));
    calls.has_line = true;
    assert_eq!(calls.next(SECOND), CallsFromLine);
    calls.search.succeeded(Purpose::FromLine, 1);
    assert_eq!(calls.next(SECOND), Called(4, Some(calls.name)), "at once");
}

#[test]
fn an_answer_begins_the_backoff_anew() {
    let error = BatchError::transient("lost");
    let retry = Retry::attempts(100).backoff(SECOND, SECOND * 60);
    let mut calls = Calls::new(retry.bisect(false));
    let mut time = Duration::ZERO;
    for wait in [1, 2, 4, 8] {
        calls.fail(time, &error);
        assert_eq!(calls.next(time), WaitsUntil(time + SECOND * wait));
        time += SECOND * wait;
        assert_eq!(calls.next(time), Called(4, Some(calls.name)));
    }
    calls.search.succeeded(Purpose::FromLine, 1);
    calls.fail(time, &error);
    assert_eq!(calls.next(time), WaitsUntil(time + SECOND));
}

#[test]
fn the_handler_is_made_anew_once_a_step_has_brought_no_answer() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(waits_of(SECOND).bisect(false));
    let mut anew = Vec::new();
    for second in 0..4 {
        calls.fail(SECOND * second, &error);
        assert_eq!(
            calls.next(SECOND * (second + 1)),
            Called(4, Some(calls.name))
        );
        anew.push(calls.search.needs_new_handler());
    }
    assert_eq!(anew, [false, false, true, true]);
}

#[test]
fn an_attempt_ahead_of_schedule_uses_up_none_of_a_piece() {
    let error = BatchError::transient("lost");
    let retry = Retry::attempts(3).backoff(SECOND * 20, SECOND * 20);
    let mut calls = Calls::new(retry.bisect(false).split_on_retry(true));
    calls.fail(Duration::ZERO, &error);
    assert_eq!(calls.next(Duration::ZERO), WaitsUntil(SECOND * 20));
    calls.search.outage.flush(calls.start + SECOND);
    assert_eq!(calls.next(SECOND), Called(2, None), "the first half");
    assert_eq!(calls.fail(SECOND * 2, &error), 0);
    assert_eq!(calls.next(SECOND * 2), WaitsUntil(SECOND * 20));
    assert!(matches!(calls.next(SECOND * 20), Called(2, _)));
    assert_eq!(calls.fail(SECOND * 21, &error), 0, "the second of three");
}

#[test]
fn the_handler_is_made_anew_while_calls_are_refused_and_nothing_says_until_when() {
    for (wait, expected) in [(None, [false, true, true]), (Some(SECOND), [false; 3])] {
        let refused = BatchError::unavailable("down");
        let refused = match wait {
            Some(wait) => refused.retry_after(wait),
            None => refused,
        };
        let mut calls = Calls::new(waits_of(SECOND));
        let mut anew = Vec::new();
        for second in 0..3 {
            calls.fail(SECOND * second, &refused);
            let next = calls.next(SECOND * (second + 1));
            assert_eq!(next, Called(4, Some(calls.name)));
            anew.push(calls.search.needs_new_handler());
        }
        assert_eq!(anew, expected, "{wait:?}");
    }
}

#[test]
fn a_search_goes_on_behind_a_call_whose_rows_were_all_rejected() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(waits_of(Duration::ZERO));
    calls.fail(Duration::ZERO, &error);
    assert_eq!(calls.next(Duration::ZERO), Called(4, Some(calls.name)));
    calls.fail(Duration::ZERO, &error);
    assert_eq!(calls.next(Duration::ZERO), Called(2, None));
    calls.fail(Duration::ZERO, &error);
    assert_eq!(calls.next(Duration::ZERO), Called(1, None));
    calls.rows.clear();
    calls.search.all_rejected(Purpose::Group, false);
    // The bad row may have been the one that was rejected.
    assert_eq!(calls.next(Duration::ZERO), Called(3, None));
}

/// Or else a trickle would call a backend that is away once a row, and use up counted attempts.
#[test]
fn of_the_rows_that_come_into_line_during_a_wait_one_is_called() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(Retry::attempts(5).backoff(SECOND, SECOND).bisect(false));
    let mut of_the_batch = 1;
    calls.fail(Duration::ZERO, &error);
    for second in 1..=4 {
        calls.has_line = false;
        assert_eq!(
            calls.next(SECOND * second),
            Called(4, Some(calls.name)),
            "after {of_the_batch} attempts"
        );
        of_the_batch += 1;
        let failed = calls.fail(SECOND * second, &error);
        assert_eq!(failed, if of_the_batch < 5 { 0 } else { 4 });
        if failed > 0 {
            break;
        }
        assert_eq!(
            calls.next(SECOND * second),
            WaitsUntil(SECOND * (second + 1))
        );
        calls.has_line = true;
        assert_eq!(calls.next(SECOND * second), CallsFromLine);
        let number = 4 + u64::from(second);
        calls.rows = vec![Row {
            item: number,
            memo: Memo::new(number, None),
        }];
        calls.purpose = Purpose::FromLine;
        assert_eq!(calls.fail(SECOND * second, &error), 0);
        assert_eq!(
            calls.next(SECOND * second),
            WaitsUntil(SECOND * (second + 1)),
            "the next one waits in line"
        );
    }
}

#[test]
fn a_row_in_line_is_not_called_before_its_time_where_the_batch_has_witnesses_of_its_own() {
    let error = BatchError::transient("lost");
    let mut calls = Calls::new(waits_of(SECOND));
    calls.fail(Duration::ZERO, &error);
    // The whole again, a half, the first row: nothing answers.
    for next in [
        Called(4, Some(calls.name)),
        Called(2, None),
        Called(1, None),
    ] {
        assert_eq!(calls.next(SECOND), next);
        calls.fail(SECOND, &error);
    }
    calls.has_line = true;
    assert_eq!(calls.next(SECOND), WaitsUntil(SECOND * 2));
}

#[test]
fn a_row_that_holds_the_line_does_not_fail_at_the_first_failure_behind_it() {
    let error = BatchError::transient("lost");
    for bisect in [true, false] {
        let retry = waits_of(SECOND).keep_order(true).bisect(bisect);
        let mut calls = Calls::new(retry);
        calls.fail(Duration::ZERO, &error);
        assert_eq!(calls.next(SECOND), Called(4, Some(calls.name)));
        // The first row is asked for again, the others went through.
        let row = calls.rows.swap_remove(0);
        calls.rows.clear();
        calls.search.succeeded(calls.purpose, 4);
        calls.search.hold(vec![row], calls.start + SECOND * 2);
        assert_eq!(calls.next(SECOND * 2), Called(1, None));
        assert_eq!(calls.fail(SECOND * 2, &error), 0, "bisect: {bisect}");
    }
}

#[test]
fn no_attempt_begins_behind_the_limit_in_time_however_long_the_last_call_took() {
    for error in [
        BatchError::transient("lost"),
        BatchError::unavailable("down"),
    ] {
        let retry = waits_of(SECOND / 2).total_limit(SECOND).bisect(false);
        let mut calls = Calls::new(retry);
        calls.fail(Duration::ZERO, &error);
        assert_eq!(calls.next(SECOND / 2), Called(4, Some(calls.name)));
        let long = Failure {
            service_time: SECOND * 3,
            ..failure(&error)
        };
        assert_eq!(calls.fail_as(SECOND * 7 / 2, long), 4, "{error}");
    }
}
