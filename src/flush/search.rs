//! What to call next after a batch has failed: the search for its bad rows, and the wait for a
//! backend that is away.
//!
//! A backend that is away and a bad row look alike until something answers. A call *answers* if it
//! returns `Ok` or a permanent error. A run of failures only ever causes waits, never failed rows,
//! and a row fails only on evidence that the backend was there: **while the backend answers, a good
//! row never fails because of bad rows alongside it.**
//!
//! # States
//! | state | calls | ends |
//! | --- | --- | --- |
//! | again | the whole batch once more under its id: at once if the error is unclassified and came early, else after a backoff | it fails: search |
//! | search | groups of rows from the front, halved down to the bad row, without waits | a row fails alone before anything has answered, or too many calls fail in a row: dark |
//! | dark | after each backoff: all undecided rows, the first of them alone, a witness | an answer: search. Patience ends, after one step at least: all undecided rows fail, marked as an outage |
//! | misconfigured | the whole batch five times within a second, then its first row alone | that fails alike: the batch fails |
//!
//! An `unavailable` error repeats the call after a wait, in every state. It counts as no attempt.
//!
//! **Search.** If a group fails and its first half goes through, a bad row is in the second half.
//! That half is then halved without being called as it is. It is called as it is where the group may
//! have failed for its length or in passing: the second half of the batch itself, unless the error
//! is permanent; under `split_on_retry` the second half of each group with a transient error; and
//! what is left of a group after three parts that went through in a row. Where every part of a
//! group went through, further groups begin with the length of the longest part. A row that
//! fails alone is set aside and is called again after the next answer. It fails only if it failed
//! alone on both sides of an answer. A permanent error on a single row is exact. After the k-th bad
//! row the next group has half of their mean distance, or one row if two bad rows were adjacent.
//! Each group that goes through is followed by one that is half as long again. From the second bad
//! row on, a group that fails is cut at two fifths, since it may hold several. For k bad rows of n
//! at random places this takes `k·log2(n/k) + 4k` calls, measured 0.9 to 1.1 times that in the mean
//! and at most 1.5 times; each bad row is called alone twice. (Halving all that is left takes
//! `k·log2 n`.)
//!
//! **Witness.** More than `⌈log2 n⌉ + 8` failures in a row are a stretch of bad rows or an outage.
//! A witness decides which: a single row elsewhere among the undecided rows, each time at another
//! place, or the next row in line if there is no other: one a step, at once if it comes into line
//! during the wait. If it answers, the rows that failed alone are called again at once. Two
//! witnesses are called without a wait, further ones in the dark, and up to ten more where attempts
//! are counted and used up. If a share f of the rows is bad, s witnesses miss the good rows with
//! probability f^s. A witness from the line is none of the batch's: it does not fail when the
//! batch's patience ends, and heads the next batch.
//!
//! **The last row.** A bad row at the end of a batch has no row after it that could answer. The
//! next row in line is its witness. If there is none, the following is evidence enough: a group
//! that held the row failed, every other row of the group has been handled since, and then the row
//! failed alone, and once more after a wait. A lone bad row with nothing in line is an outage until
//! patience ends.
//!
//! # Order
//! Groups are taken from the front. Rows stay in order, except rows that were set aside and
//! witnesses. Under `keep_order` there are no witnesses and nothing is set aside: a row that fails
//! alone is called again after a wait, until it goes through, or fails on the evidence for the last
//! row, or patience ends. Then it fails alone if rows before it went through since the last row
//! that failed so; else all undecided rows fail.
//!
//! # Ids
//! An id names one set of rows. The whole batch keeps its id while none of its rows is decided. A
//! row that is called alone again keeps its id too.
//!
//! # Without bisection
//! The batch is a row of pieces; at first it is one. The first piece is called until it is decided,
//! each time under its id, and then the next one is treated as a batch of its own. A piece that
//! fails as transient, and never was in doubt, is cut into two halves with ids of their own, under
//! `split_on_retry`. So rows that a call may have applied are called under that call's id only, and
//! a table of ids shows whether they are there.
//!
//! Everything here is a decision under the backlog's lock: time and chance are arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::batch::id::BatchId;
pub(crate) use crate::batch::rows::Purpose;
use crate::batch::rows::{Name, Row, Suspicion};
use crate::error::BatchError;
use crate::flush::retry::Retry;
use crate::observe::SearchCounts;

mod groups;
mod judge;
mod outage;

use outage::Pause;
pub(crate) use outage::{ATTEMPT_MIN, Outage, later};

/// Failures in a row, beyond the depth of the search, that are still taken for bad rows side by
/// side.
const ADJACENT_BAD_ROWS: u32 = 8;
/// Witnesses that are called without a wait before a run of failures is taken for an outage.
const FREE_WITNESSES: u32 = 2;
/// After so many parts of a failed group that went through in a row, what is left is called as it
/// is: a bad row in it is as likely as one in eight, unless the group failed for another reason.
const PASSED_IN_A_ROW: u32 = 3;
/// Further witnesses, where attempts are counted and used up.
const LAST_WITNESSES: u32 = 10;
/// Bad rows from which on their density is known.
const FEW: usize = 3;
/// Attempts at a batch whose error is `misconfigured`.
const MISCONFIGURED_ATTEMPTS: u32 = 5;

/// What decisions depend on.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) now: Instant,
    /// 64 random bits, for the jitter of a wait.
    pub(crate) chance: u64,
    pub(crate) retry: &'a Retry,
    pub(crate) idempotent: bool,
    /// Whether the batcher is being closed.
    pub(crate) closing: bool,
    /// The close's deadline: no attempt begins that would end later.
    pub(crate) deadline: Option<Instant>,
    /// Whether a row waits in line.
    pub(crate) has_line: bool,
}

/// A failed call, as far as decisions depend on it.
pub(crate) struct Failure<'a> {
    pub(crate) error: &'a BatchError,
    pub(crate) service_time: Duration,
    /// It came in less than half of the time that a call of its size takes.
    pub(crate) early: bool,
    /// Earlier batches failed with this `misconfigured` error.
    pub(crate) known_misconfigured: bool,
    /// It began when the batcher was already being closed.
    pub(crate) while_closing: bool,
    /// Rows of it were rejected for good: what is left is another set of rows.
    pub(crate) is_cut: bool,
}

/// The next thing to do.
pub(crate) enum Next<T> {
    /// Call these rows, under this name if they have one.
    Call {
        rows: Vec<Row<T>>,
        purpose: Purpose,
        name: Option<Name>,
    },
    /// Call the next row in line alone.
    CallFromLine,
    /// Nothing before this time; or before a row is in line, if `or_line`.
    Wait { until: Instant, or_line: bool },
    /// No further attempt fits before the close's deadline.
    GiveUp,
    /// Every row is decided.
    Done,
}

/// The rows that fail with the error of a call.
pub(crate) struct Verdict<T> {
    pub(crate) rows: Vec<Row<T>>,
    /// They fail because patience has ended.
    pub(crate) outage: bool,
    /// Rows from the line that were called as witnesses. They do not fail with this batch: the next
    /// one has a patience of its own, and they head it.
    pub(crate) guests: Vec<Row<T>>,
}

impl<T> Verdict<T> {
    const fn none() -> Self {
        Self::fail(Vec::new())
    }

    const fn fail(rows: Vec<Row<T>>) -> Self {
        Self {
            rows,
            outage: false,
            guests: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Again,
    Search,
    /// What is called next in this step.
    Dark(Purpose),
    Misconfigured,
}

/// The undecided rows of a batch. See the module's doc.
pub(crate) struct Search<T> {
    /// The id of the whole batch, the parent of its parts.
    pub(crate) parent: BatchId,
    /// Undecided rows in order, without those that are set aside.
    rows: VecDeque<Row<T>>,
    /// Rows that failed alone.
    aside: Vec<Row<T>>,
    state: State,
    /// The name of all undecided rows together, or of the first piece; `None` once their set has
    /// changed.
    whole: Option<Name>,
    /// Whether a batch has parts that are called to find its bad rows.
    bisects: bool,
    /// Without bisection: rows of the pieces after the first one, the next one last.
    behind: Vec<usize>,
    /// Length and name of the last group, while the rows are the same as then.
    group_name: Option<(usize, Name)>,
    /// Rows that were ever here, and the number of the first.
    len: usize,
    first: u64,
    /// Failed calls of the whole batch, and the time of the last.
    whole_failed: u32,
    whole_time: Duration,
    /// A bad row is among this many rows at the front; 0 if nothing is known.
    known: usize,
    /// An answer has narrowed `known`.
    narrowed: bool,
    /// What is left of the group after the next part that goes through is called as it is.
    verify: bool,
    /// Parts of the group that went through in a row, unless a row is to blame for its failure.
    passed: Option<u32>,
    /// The longest of them.
    longest_part: usize,
    /// Rows at the front that are called together next, or are being called; 0 for none.
    rest: usize,
    /// No group is longer: one that was failed, and every part of it went through.
    longest_group: usize,
    /// Rows in the next group, where nothing is known of them.
    group: usize,
    /// Bad rows found, and the number after the last one.
    found: usize,
    after_bad: Option<u64>,
    /// Failed calls since the last answer.
    run: u32,
    /// Something has answered since the batch first failed.
    answered: bool,
    free_witnesses: u32,
    /// Witnesses called in all: each has another place.
    witnesses: u32,
    pub(crate) outage: Outage,
    /// Groups that were halved to find bad rows, and batches that were split and tried again; for
    /// the statistics.
    bisections: u64,
    splits: u64,
    /// A call of a part has failed or waited: then its length was not what the backend refused.
    part_failed: bool,
}

impl<T> Search<T> {
    /// What it has done so far.
    pub(crate) fn counts(&self) -> SearchCounts {
        SearchCounts {
            bisections: self.bisections,
            splits: self.splits,
            waits_capped: self.outage.capped,
        }
    }

    /// A batch has failed for the first time. The caller goes on with [`failed`](Self::failed), for
    /// [`Purpose::Fresh`].
    pub(crate) fn new(name: Name, error: BatchError, retry: &Retry, now: Instant) -> Self {
        Self {
            parent: name.id,
            rows: VecDeque::new(),
            aside: Vec::new(),
            state: State::Again,
            whole: Some(name),
            bisects: retry.bisects(),
            behind: Vec::new(),
            group_name: None,
            len: 0,
            first: 0,
            whole_failed: 0,
            whole_time: Duration::ZERO,
            known: 0,
            narrowed: false,
            verify: false,
            passed: None,
            longest_part: 0,
            rest: 0,
            longest_group: usize::MAX,
            group: 0,
            found: 0,
            after_bad: None,
            run: 0,
            answered: false,
            free_witnesses: 0,
            witnesses: 0,
            outage: Outage::new(error, retry, now),
            bisections: 0,
            splits: 0,
            part_failed: false,
        }
    }

    /// All undecided rows, in order.
    pub(crate) fn into_rows(mut self) -> Vec<Row<T>> {
        self.gather_aside();
        self.rows.into_iter().chain(self.aside).collect()
    }

    /// Whether the handler is to be made anew before the next call: something is wrong for longer
    /// than a step, or than one refusal.
    pub(crate) fn needs_new_handler(&self) -> bool {
        let is_step = matches!(self.state, State::Dark(Purpose::Whole));
        (is_step && self.outage.has_lasted()) || self.outage.is_refused_without_a_time()
    }

    /// The length that the backend refuses: the whole batch failed twice, and then every part of it
    /// went through at once. With the time of the last call of the whole.
    pub(crate) fn refused_len(&self) -> Option<(usize, Duration)> {
        let is_decided = self.rows.is_empty() && self.aside.is_empty();
        let was_halved = self.whole_failed >= 2 && self.bisections > 0;
        let is_refused = was_halved && !self.part_failed && self.found == 0;
        (is_decided && is_refused).then_some((self.len, self.whole_time))
    }

    /// Whether every row is decided.
    pub(crate) fn is_over(&self) -> bool {
        self.rows.is_empty() && self.aside.is_empty()
    }

    pub(crate) fn next(&mut self, at: &Circumstances<'_>) -> Next<T> {
        if self.is_over() {
            return Next::Done;
        }
        let or_line =
            matches!(self.state, State::Dark(_)) && !at.retry.keeps_order() && !self.can_choose();
        match self.outage.pause(at, or_line) {
            Pause::None => {}
            Pause::Wait { until, or_line } => return Next::Wait { until, or_line },
            // The wait before the first part of a batch: that part is the attempt.
            Pause::Early if self.state == State::Search => self.outage.end_wait(),
            Pause::Early => return self.call_all(Purpose::Early),
            Pause::Line => return Next::CallFromLine,
            Pause::GiveUp => return Next::GiveUp,
        }
        match self.state {
            State::Again => self.call_all(Purpose::Whole),
            State::Misconfigured if self.whole_failed < MISCONFIGURED_ATTEMPTS => {
                self.call_all(Purpose::Whole)
            }
            State::Misconfigured => self.call_first(Purpose::First),
            State::Dark(Purpose::First) => self.call_first(Purpose::First),
            State::Dark(Purpose::Witness) => self.call_witness(at),
            State::Dark(_) => self.call_all(Purpose::Whole),
            State::Search => self.call_next(at),
        }
    }

    fn call_next(&mut self, at: &Circumstances<'_>) -> Next<T> {
        if let Some(place) = self
            .aside
            .iter()
            .position(|row| row.memo.suspicion == Suspicion::Due)
        {
            let row = self.aside.remove(place);
            return Self::call_alone(row, Purpose::Suspect);
        }
        if self.rows.is_empty() {
            // Only rows that failed alone are left, and nothing has answered since.
            if at.has_line && !at.retry.keeps_order() {
                return Next::CallFromLine;
            }
            self.outage.begin_step(at);
            self.go_dark();
            return self.next(at);
        }
        if !self.bisects {
            return self.call_all(Purpose::Whole);
        }
        if self.run > self.run_max() {
            return self.call_witness(at);
        }
        let len = match self.known {
            0 if self.rest > 0 => self.rest.min(self.rows.len()),
            0 if self.found == 0 => self.rows.len().min(self.longest_group),
            0 => self.group.min(self.longest_group).clamp(1, self.rows.len()),
            1 => 1,
            known if self.found == 0 || at.retry.splits() => known / 2,
            known => (known * 2).div_ceil(5),
        };
        if len == 1 {
            return self.call_first(Purpose::Group);
        }
        let name = self
            .group_name
            .filter(|(of, _)| *of == len)
            .map(|(_, name)| name);
        Next::Call {
            rows: self.rows.drain(..len).collect(),
            purpose: Purpose::Group,
            name,
        }
    }

    fn call_all(&mut self, purpose: Purpose) -> Next<T> {
        self.gather_aside();
        if self.rows.is_empty() || (self.rows.len() == 1 && self.whole.is_none()) {
            return self.call_first(purpose);
        }
        let len = self.piece_len();
        Next::Call {
            rows: self.rows.drain(..len).collect(),
            purpose,
            name: self.whole,
        }
    }

    /// Rows of the first piece: all undecided rows, but for those of the pieces after it.
    fn piece_len(&self) -> usize {
        self.rows.len() - self.behind.iter().sum::<usize>()
    }

    /// The first piece in two.
    fn cut_piece(&mut self) {
        self.behind.push(self.piece_len() / 2);
        self.begin_piece();
    }

    /// If the first piece is decided, the next one is treated as a batch that has not failed yet.
    fn next_piece(&mut self) {
        if self.piece_len() == 0 && self.behind.pop().is_some() {
            self.begin_piece();
        }
    }

    fn begin_piece(&mut self) {
        (self.whole, self.whole_failed, self.state) = (None, 0, State::Again);
    }

    fn call_first(&mut self, purpose: Purpose) -> Next<T> {
        let row = self
            .rows
            .pop_front()
            .unwrap_or_else(|| self.aside.remove(0));
        if self.rows.is_empty() && self.aside.is_empty() && row.memo.alone.is_none() {
            // It is all that there is.
            let name = self.whole;
            return Next::Call {
                rows: vec![row],
                purpose,
                name,
            };
        }
        Self::call_alone(row, purpose)
    }

    fn call_alone(row: Row<T>, purpose: Purpose) -> Next<T> {
        let name = row.memo.alone;
        Next::Call {
            rows: vec![row],
            purpose,
            name,
        }
    }

    /// Whether a row elsewhere than at the front can be a witness.
    fn can_choose(&self) -> bool {
        self.bisects && self.rows.len() > 1
    }

    /// A single row elsewhere than at the front, at another place each time; else the next in line;
    /// else the step ends.
    fn call_witness(&mut self, at: &Circumstances<'_>) -> Next<T> {
        if self.can_choose() && !at.retry.keeps_order() {
            let (first, others) = (1, self.rows.len() - 1);
            // The last row, which is good if the bad rows are one stretch and any good row is left;
            // then the places 1/2, 1/4, 3/4, 1/8, 5/8 …
            let share = f64::from(self.witnesses.reverse_bits()) / 2f64.powi(32);
            let place = if self.witnesses == 0 {
                others
            } else {
                first + (share * others as f64) as usize
            };
            let is_new = |place: &usize| self.rows[*place].memo.suspicion == Suspicion::None;
            let place = (place..self.rows.len())
                .chain(first..place)
                .find(is_new)
                .unwrap_or(place);
            let row = self
                .rows
                .remove(place)
                .expect("the place is within the rows");
            if place < self.known {
                self.known -= 1;
            } else if place < self.rest {
                self.rest -= 1;
            }
            self.group_name = None;
            return Self::call_alone(row, Purpose::Witness);
        }
        if at.has_line && !at.retry.keeps_order() {
            return Next::CallFromLine;
        }
        // Nobody can be asked.
        self.outage.begin_step(at);
        self.go_dark();
        self.next(at)
    }

    fn set_aside(&mut self, mut rows: Vec<Row<T>>) {
        rows.iter_mut()
            .for_each(|row| row.memo.suspicion = Suspicion::Alone);
        self.group_name = None;
        self.aside.append(&mut rows);
    }

    /// Rows of a call that stay undecided.
    fn put_back(&mut self, rows: Vec<Row<T>>, purpose: Purpose) {
        for row in rows.into_iter().rev() {
            if purpose == Purpose::Suspect || row.memo.guest {
                self.aside.insert(0, row);
            } else {
                let place = self
                    .rows
                    .partition_point(|other| other.memo.number < row.memo.number);
                self.rows.insert(place, row);
            }
        }
    }

    /// The rows that were set aside are in their places again, but for guests.
    fn gather_aside(&mut self) {
        let aside = std::mem::take(&mut self.aside);
        self.put_back(aside, Purpose::Whole);
    }

    /// These rows fail now.
    fn decided(&mut self, rows: Vec<Row<T>>) -> Verdict<T> {
        if rows.iter().any(|row| !row.memo.guest) {
            self.whole = None;
        }
        (self.group_name, self.known, self.rest) = (None, 0, 0);
        self.next_piece();
        Verdict::fail(rows)
    }

    /// Rows that the backend blames.
    fn decided_bad(&mut self, rows: Vec<Row<T>>) -> Verdict<T> {
        if let Some(row) = rows
            .first()
            .filter(|row| row.memo.suspicion == Suspicion::None)
        {
            self.found_bad(row.memo.number);
        }
        self.decided(rows)
    }

    /// All rows fail, but for those from the line.
    fn give_up(&mut self, outage: bool) -> Verdict<T> {
        self.gather_aside();
        Verdict {
            rows: std::mem::take(&mut self.rows).into(),
            outage,
            guests: std::mem::take(&mut self.aside),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "search/tests.rs"]
mod tests;
