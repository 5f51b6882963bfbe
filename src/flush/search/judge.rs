//! What a call that has ended comes to: which rows fail, and what is called next.

use std::time::Instant;

use super::groups::half_as_long_again;
use super::{
    ADJACENT_BAD_ROWS, Circumstances, FREE_WITNESSES, Failure, LAST_WITNESSES,
    MISCONFIGURED_ATTEMPTS, PASSED_IN_A_ROW, Search, State, Verdict,
};
use crate::batch::rows::{Name, Purpose, Row, Suspicion};
use crate::error::ErrorClass;

impl<T> Search<T> {
    /// A call went through; what its rows come to is the caller's.
    pub(crate) fn succeeded(&mut self, purpose: Purpose, len: usize) {
        self.answered(0);
        match purpose {
            Purpose::Group if self.known > 0 => {
                self.known -= len;
                self.narrowed = true;
                self.passed = self.passed.map(|passed| passed + 1);
                self.longest_part = self.longest_part.max(len);
                let has_passed = self.passed.is_some_and(|passed| passed >= PASSED_IN_A_ROW);
                if std::mem::take(&mut self.verify) || (has_passed && self.known > 1) {
                    (self.group, self.rest, self.known) = (self.known, self.known, 0);
                }
            }
            Purpose::Group => {
                self.longest_group = if std::mem::take(&mut self.rest) > 0 {
                    self.longest_part.max(len)
                } else {
                    half_as_long_again(self.longest_group)
                };
                self.group = if self.found < 2 {
                    // With one bad row found, there may be no other.
                    self.rows.len()
                } else {
                    half_as_long_again(self.group)
                };
            }
            // It was not bad.
            Purpose::Suspect => self.found = self.found.saturating_sub(1),
            _ => {}
        }
        self.forget_whole(purpose);
        self.group_name = None;
        self.next_piece();
    }

    /// A call failed, and all of its rows were rejected for good. `answers`: its error is an answer.
    pub(crate) fn all_rejected(&mut self, purpose: Purpose, answers: bool) {
        if answers {
            self.answered(0);
        }
        self.forget_whole(purpose);
        (self.known, self.rest, self.group_name) = (0, 0, None);
        self.next_piece();
    }

    /// Rows of a call for this purpose are decided: what is left is another set of rows, unless they
    /// were none of this batch's.
    fn forget_whole(&mut self, purpose: Purpose) {
        // A row from the line is none; without bisection no other row is set aside.
        let has_parts = self.bisects && self.bisections + self.splits > 0;
        if purpose != Purpose::FromLine && (purpose != Purpose::Suspect || has_parts) {
            self.whole = None;
        }
    }

    /// Rows of a call that went through, which the handler asked for again: where order is kept,
    /// the others wait for them.
    pub(crate) fn hold(&mut self, rows: Vec<Row<T>>, until: Instant) {
        (self.known, self.rest, self.whole, self.group_name) = (0, 0, None, None);
        if !self.bisects {
            // They are a piece of their own, before those that are left.
            if !self.rows.is_empty() {
                self.behind.push(self.piece_len());
            }
            self.begin_piece();
        }
        self.put_back(rows, Purpose::Group);
        self.outage.hold(until);
    }

    /// The backend is there: a call went through, or failed for its rows. `in_hand`: rows of the
    /// call that stay undecided.
    fn answered(&mut self, in_hand: usize) {
        (self.run, self.free_witnesses, self.answered) = (0, 0, true);
        self.outage.answered();
        for row in self
            .rows
            .iter_mut()
            .chain(&mut self.aside)
            .filter(|row| row.memo.suspicion == Suspicion::Alone)
        {
            row.memo.suspicion = Suspicion::Due;
        }
        if self.state != State::Search {
            self.state = State::Search;
            (self.known, self.verify, self.rest) = (0, false, 0);
            let (due, rows) = std::mem::take(&mut self.rows)
                .into_iter()
                .partition::<Vec<_>, _>(|row| row.memo.suspicion == Suspicion::Due);
            self.aside.extend(due);
            self.rows = rows.into();
            self.group = (self.rows.len() + in_hand).div_ceil(self.found.max(1));
        }
    }

    /// A call failed. `name` is the one it had.
    pub(crate) fn failed(
        &mut self,
        mut rows: Vec<Row<T>>,
        (purpose, name): (Purpose, Name),
        failure: &Failure<'_>,
        at: &Circumstances<'_>,
    ) -> Verdict<T> {
        let class = failure.error.class();
        self.outage.failed(failure, at);
        let alone = rows.len() == 1;
        let counts = class != ErrorClass::Unavailable && purpose != Purpose::Early;
        for row in &mut rows {
            row.memo.uncounted += u32::from(!counts);
            if alone && !failure.is_cut {
                row.memo.alone = Some(name);
            }
        }
        match purpose {
            Purpose::Fresh => (self.len, self.first) = (rows.len(), rows[0].memo.number),
            Purpose::FromLine => rows[0].memo.guest = true,
            Purpose::Group if !alone && !failure.is_cut => {
                self.group_name = Some((rows.len(), name))
            }
            _ => {}
        }
        if failure.is_cut {
            (self.whole, self.group_name, self.known, self.rest) = (None, None, 0, 0);
        } else if matches!(purpose, Purpose::Whole | Purpose::Early) {
            self.whole = Some(name);
        }
        if !matches!(purpose, Purpose::Fresh | Purpose::Whole | Purpose::Early) {
            self.part_failed |=
                class != ErrorClass::Permanent && (alone || class == ErrorClass::Unavailable);
        }
        match class {
            ErrorClass::InDoubt if !at.idempotent => self.decided(rows),
            ErrorClass::Unavailable => {
                self.put_back(rows, purpose);
                if self.outage.refused(failure, at) {
                    self.give_up(true)
                } else {
                    Verdict::none()
                }
            }
            ErrorClass::Permanent => {
                self.answered(rows.len());
                if alone || !self.bisects {
                    return self.decided_bad(rows);
                }
                let len = rows.len();
                // The backend is there, which is an answer for those that failed alone as well.
                let alone = rows
                    .iter_mut()
                    .filter(|row| row.memo.suspicion == Suspicion::Alone);
                alone.for_each(|row| row.memo.suspicion = Suspicion::Due);
                self.put_back(rows, Purpose::Group);
                self.narrow(len);
                self.passed = None;
                self.bisections += 1;
                Verdict::none()
            }
            _ if failure.while_closing && !at.retry.tries_while_closing() => self.decided(rows),
            _ => self.failed_for_now(rows, purpose, failure, at),
        }
    }

    /// An error that says nothing of whether the rows or the backend are to blame.
    fn failed_for_now(
        &mut self,
        rows: Vec<Row<T>>,
        purpose: Purpose,
        failure: &Failure<'_>,
        at: &Circumstances<'_>,
    ) -> Verdict<T> {
        let len = rows.len();
        match (purpose, self.state) {
            (Purpose::Early, _) => {
                self.put_back(rows, purpose);
                Verdict::none()
            }
            (Purpose::Whole, _) if self.is_used_up(&rows, at) => self.decided(rows),
            (Purpose::Whole, State::Search)
                if len > 1 && Self::is_divisible(rows.iter(), failure, at) =>
            {
                self.put_back(rows, purpose);
                self.halve(at)
            }
            (Purpose::Fresh | Purpose::Whole, State::Again) => {
                self.put_back(rows, purpose);
                self.whole_failed += 1;
                self.whole_time = failure.service_time;
                self.whole_again(failure, at)
            }
            (Purpose::Whole, State::Misconfigured) => {
                self.put_back(rows, purpose);
                self.whole_failed += 1;
                if failure.error.is_misconfigured() {
                    if self.whole_failed < MISCONFIGURED_ATTEMPTS {
                        self.outage.wait_briefly(at);
                    } else if len == 1 || !self.bisects {
                        return self.give_up(false);
                    }
                    return Verdict::none();
                }
                self.begin_search(at)
            }
            (Purpose::First, State::Misconfigured) => {
                self.put_back(rows, purpose);
                if failure.error.is_misconfigured() {
                    self.give_up(false)
                } else {
                    self.begin_search(at)
                }
            }
            // A batch without parts failed on both sides of an answer.
            (Purpose::Whole, State::Search) if self.has_attempts_left(&rows[0], failure, at) => {
                self.put_back(rows, purpose);
                self.darken(at)
            }
            (Purpose::Whole, State::Search) => self.decided(rows),
            (Purpose::Suspect, _) if self.has_attempts_left(&rows[0], failure, at) => {
                self.run = self.run.saturating_add(1);
                self.set_aside(rows);
                Verdict::none()
            }
            (Purpose::Suspect, _) => self.decided(rows),
            (Purpose::Group, _) if len > 1 => self.group_failed(rows, failure, at),
            (Purpose::Group, _) => self.failed_alone(rows, at),
            (Purpose::Witness | Purpose::FromLine, State::Search) => {
                self.run = self.run.saturating_add(1);
                (self.witnesses, self.free_witnesses) =
                    (self.witnesses + 1, self.free_witnesses + 1);
                self.set_aside(rows);
                if self.free_witnesses >= FREE_WITNESSES || self.rows.is_empty() {
                    self.darken(at)
                } else {
                    Verdict::none()
                }
            }
            (_, State::Dark(_)) => self.failed_in_the_dark(rows, purpose, at),
            (_, _) => {
                self.put_back(rows, purpose);
                self.darken(at)
            }
        }
    }

    /// The whole batch has failed once or twice.
    fn whole_again(&mut self, failure: &Failure<'_>, at: &Circumstances<'_>) -> Verdict<T> {
        if at.retry.attempts_at_most() == Some(1) {
            return self.begin_search(at);
        }
        if failure.error.is_misconfigured() {
            if failure.known_misconfigured {
                return self.give_up(false);
            }
            self.state = State::Misconfigured;
            self.outage.wait_briefly(at);
            return Verdict::none();
        }
        let piece = self.piece_len();
        if self.whole_failed == 1
            && piece > 1
            && Self::is_divisible(self.rows.iter().take(piece), failure, at)
        {
            return self.halve(at);
        }
        if self.whole_failed == 1 {
            let at_once = failure.early && failure.error.class() == ErrorClass::Unclassified;
            if !at_once {
                self.outage.wait(at);
            }
            return Verdict::none();
        }
        self.begin_search(at)
    }

    /// Whether what failed may be split and tried again: nothing of it is in doubt.
    fn is_divisible<'a>(
        mut rows: impl Iterator<Item = &'a Row<T>>,
        failure: &Failure<'_>,
        at: &Circumstances<'_>,
    ) -> bool
    where
        T: 'a,
    {
        at.retry.splits() && failure.error.is_transient() && rows.all(|row| !row.memo.in_doubt)
    }

    /// The whole batch, or the first piece, is split and tried again after a wait.
    fn halve(&mut self, at: &Circumstances<'_>) -> Verdict<T> {
        self.splits += 1;
        self.outage.wait(at);
        if self.bisects {
            self.state = State::Search;
            (self.known, self.verify) = (self.rows.len(), true);
        } else {
            self.cut_piece();
        }
        Verdict::none()
    }

    /// Whether a piece of a batch has had its attempts.
    fn is_used_up(&self, rows: &[Row<T>], at: &Circumstances<'_>) -> bool {
        let was_cut = !self.bisects && self.splits > 0;
        was_cut
            && at
                .retry
                .attempts_at_most()
                .is_some_and(|most| rows[0].memo.attempts() >= most)
    }

    /// From the whole batch to its parts; or to waits, if there are none.
    fn begin_search(&mut self, at: &Circumstances<'_>) -> Verdict<T> {
        if self.bisects && self.rows.len() > 1 {
            self.state = State::Search;
            (self.known, self.verify) = (self.rows.len(), true);
            self.bisections += 1;
            return Verdict::none();
        }
        if let Some(row) = self
            .rows
            .front_mut()
            .filter(|_| self.bisects && self.len == 1)
        {
            row.memo.suspicion = Suspicion::Alone;
        }
        self.darken(at)
    }

    fn group_failed(
        &mut self,
        rows: Vec<Row<T>>,
        failure: &Failure<'_>,
        at: &Circumstances<'_>,
    ) -> Verdict<T> {
        let split = Self::is_divisible(rows.iter(), failure, at);
        self.run = self.run.saturating_add(1);
        *(if split {
            &mut self.splits
        } else {
            &mut self.bisections
        }) += 1;
        let len = rows.len();
        self.put_back(rows, Purpose::Group);
        self.narrow(len);
        self.verify = split;
        self.check_run(at)
    }

    /// A single row from the front failed.
    fn failed_alone(&mut self, mut rows: Vec<Row<T>>, at: &Circumstances<'_>) -> Verdict<T> {
        self.rest = 0;
        let Some(row) = rows.first_mut() else {
            return Verdict::none();
        };
        let left = at
            .retry
            .attempts_at_most()
            .is_some_and(|most| row.memo.attempts() < most);
        if row.memo.suspicion == Suspicion::Due && !left {
            // It failed alone before, and something has answered since.
            return self.decided(rows);
        }
        self.run = self.run.saturating_add(1);
        row.memo.suspicion = Suspicion::Alone;
        row.memo.convicted = self.known == 1 && self.narrowed;
        self.found_bad(row.memo.number);
        if at.retry.keeps_order() || self.is_last_and_convicted(&rows[0], at) {
            self.put_back(rows, Purpose::Group);
            return self.darken(at);
        }
        self.set_aside(rows);
        if self.answered {
            self.check_run(at)
        } else {
            self.darken(at)
        }
    }

    /// Whether a row has no other after it that could answer, and all but that is known of it.
    fn is_last_and_convicted(&self, row: &Row<T>, at: &Circumstances<'_>) -> bool {
        let is_last = self.rows.is_empty() && self.aside.is_empty() && !at.has_line;
        is_last && row.memo.convicted
    }

    fn failed_in_the_dark(
        &mut self,
        mut rows: Vec<Row<T>>,
        purpose: Purpose,
        at: &Circumstances<'_>,
    ) -> Verdict<T> {
        if rows.len() == 1 && (self.bisects || rows[0].memo.guest) {
            rows[0].memo.suspicion = Suspicion::Alone;
            let order = at.retry.keeps_order() && rows[0].memo.convicted;
            if order || self.is_last_and_convicted(&rows[0], at) {
                self.answered(0);
                return self.decided(rows);
            }
        }
        let len = rows.len();
        self.put_back(rows, purpose);
        if purpose == Purpose::FromLine && self.outage.is_waiting() {
            // It came into line during the wait, which goes on.
            return Verdict::none();
        }
        let next = match purpose {
            Purpose::Whole if len > 1 && self.bisects => Some(Purpose::First),
            Purpose::Whole | Purpose::First if self.can_ask(at) => Some(Purpose::Witness),
            _ => None,
        };
        if matches!(purpose, Purpose::Witness | Purpose::FromLine) {
            self.witnesses += 1;
        }
        let over = next.is_none() && self.outage.is_over(self.steps_max(at), at);
        match next {
            Some(next) => self.state = State::Dark(next),
            // Where attempts are counted, there may have been one witness: a few more, without
            // waits, before good rows fail.
            None if over && self.free_witnesses < LAST_WITNESSES && self.has_unasked(at) => {
                self.free_witnesses += 1;
                self.state = State::Dark(Purpose::Witness);
            }
            // Rows before it went through: it is taken for bad, so that it costs no good row after
            // it.
            None if over && self.bisects && at.retry.keeps_order() && self.answered => {
                return self.first_gives_up();
            }
            None if over => return self.give_up(true),
            None => {
                self.outage.begin_step(at);
                self.go_dark();
            }
        }
        Verdict::none()
    }

    /// The first row fails, and the rows after it have a patience of their own.
    fn first_gives_up(&mut self) -> Verdict<T> {
        let first = self.rows.pop_front().into_iter().collect();
        self.answered(0);
        self.answered = false;
        Verdict {
            outage: true,
            ..self.decided(first)
        }
    }

    /// Whether attempts are counted, and a row elsewhere has not failed alone yet.
    fn has_unasked(&self, at: &Circumstances<'_>) -> bool {
        let may_ask = self.bisects && !at.retry.keeps_order() && at.retry.patience().is_none();
        may_ask
            && self
                .rows
                .iter()
                .skip(1)
                .any(|row| row.memo.suspicion == Suspicion::None)
    }

    /// Whether a row that failed on both sides of an answer gets another call: attempts are
    /// counted, and there are some left.
    fn has_attempts_left(
        &self,
        row: &Row<T>,
        failure: &Failure<'_>,
        at: &Circumstances<'_>,
    ) -> bool {
        let left = at
            .retry
            .attempts_at_most()
            .is_some_and(|most| row.memo.attempts() < most);
        left && !failure.error.is_permanent()
    }

    /// Whether there is a witness.
    fn can_ask(&self, at: &Circumstances<'_>) -> bool {
        !at.retry.keeps_order() && (self.can_choose() || at.has_line)
    }

    /// Steps in the dark, where attempts are counted: two were made at the whole batch. With rows
    /// alongside it that may be bad, a good row gets one step more.
    fn steps_max(&self, at: &Circumstances<'_>) -> Option<u32> {
        let least = u32::from(self.bisects && self.len > 1);
        at.retry
            .attempts_at_most()
            .map(|most| most.saturating_sub(2).max(least))
    }

    pub(super) fn run_max(&self) -> u32 {
        self.len.max(1).next_power_of_two().ilog2() + ADJACENT_BAD_ROWS
    }

    fn check_run(&mut self, at: &Circumstances<'_>) -> Verdict<T> {
        let has_witness = self.free_witnesses < FREE_WITNESSES && self.can_ask(at);
        if self.run > self.run_max() && !has_witness {
            self.darken(at)
        } else {
            Verdict::none()
        }
    }

    /// Nothing answers: waits begin, if there is patience.
    fn darken(&mut self, at: &Circumstances<'_>) -> Verdict<T> {
        self.go_dark();
        if self.outage.is_over(self.steps_max(at), at) {
            // One attempt shows nothing about how long it lasts.
            return self.give_up(at.retry.attempts_at_most() != Some(1));
        }
        self.outage.begin_step(at);
        Verdict::none()
    }

    pub(super) fn go_dark(&mut self) {
        self.gather_aside();
        (self.known, self.rest, self.group_name) = (0, 0, None);
        self.state = State::Dark(Purpose::Whole);
    }
}
