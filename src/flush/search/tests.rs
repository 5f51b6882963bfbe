//! The search in simulated time: no thread, no sleep, no clock.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::batch::rows::Memo;

#[path = "tests/cases.rs"]
mod cases;
#[path = "tests/evidence.rs"]
mod evidence;
#[path = "tests/ids.rs"]
mod ids;
#[path = "tests/waits.rs"]
mod waits;

const MS: Duration = Duration::from_millis(1);

/// What a backend answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Unclassified,
    Transient,
    Permanent,
    Unavailable,
    Misconfigured,
    InDoubt,
}

impl Fault {
    fn error(self) -> BatchError {
        match self {
            Self::Unclassified => BatchError::new("a fault"),
            Self::Transient => BatchError::transient("a fault"),
            Self::Permanent => BatchError::permanent("a fault"),
            Self::Unavailable => BatchError::unavailable("down"),
            Self::Misconfigured => BatchError::misconfigured("no such table"),
            Self::InDoubt => BatchError::in_doubt("no answer"),
        }
    }
}

/// A backend in simulated time, and a batch of rows numbered from 0 with more rows in line.
struct World {
    retry: Retry,
    idempotent: bool,
    rows: usize,
    in_line: usize,
    bad: BTreeSet<u64>,
    fault: Fault,
    /// When the backend is away, and what it answers then.
    away: Vec<(Duration, Duration)>,
    away_fault: Fault,
    /// When somebody flushes.
    flushes: Vec<Duration>,
    /// Calls of more rows fail at once.
    limit: usize,
    call_time: Duration,
    close: Option<(Duration, Duration)>,
    /// If any: what the calls get, in turn, whatever they hold.
    script: Vec<Option<Fault>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            idempotent: false,
            rows: 1_000,
            in_line: 0,
            bad: BTreeSet::new(),
            fault: Fault::Unclassified,
            away: Vec::new(),
            away_fault: Fault::Transient,
            flushes: Vec::new(),
            limit: usize::MAX,
            call_time: MS,
            close: None,
            script: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Report {
    handled: Vec<u64>,
    failed: Vec<u64>,
    in_outage: Vec<u64>,
    calls: usize,
    waits: usize,
    time: Duration,
    gave_up: Vec<u64>,
    /// Rows from the line that are left to the next batch.
    guests: Vec<u64>,
    refused_len: Option<usize>,
    ids: Vec<(BatchId, Vec<u64>, u32)>,
    /// Which calls ended in doubt.
    in_doubt: Vec<bool>,
}

impl World {
    fn bad(mut self, rows: impl IntoIterator<Item = u64>) -> Self {
        self.bad = rows.into_iter().collect();
        self
    }

    fn answer(&self, rows: &[u64], time: Duration) -> Option<Fault> {
        let is_away = self
            .away
            .iter()
            .any(|(from, to)| (*from..*to).contains(&time));
        if is_away {
            return Some(self.away_fault);
        }
        if rows.len() > self.limit {
            return Some(Fault::Unclassified);
        }
        rows.iter()
            .any(|row| self.bad.contains(row))
            .then_some(self.fault)
    }

    fn run(&self) -> Report {
        let start = Instant::now();
        let (mut report, mut time) = (Report::default(), Duration::ZERO);
        let mut line: VecDeque<u64> =
            (self.rows as u64..(self.rows + self.in_line) as u64).collect();
        let mut flushes: VecDeque<Duration> = self.flushes.iter().copied().collect();
        let mut next_id = 1;
        let mut id = || {
            next_id += 1;
            BatchId::new(0, next_id)
        };
        let fresh = (0..self.rows as u64)
            .map(|number| Row {
                item: number,
                memo: Memo::new(number, None),
            })
            .collect();
        let mut call: Option<(Vec<Row<u64>>, Purpose, Name)> = Some((
            fresh,
            Purpose::Fresh,
            Name {
                id: id(),
                attempts: 1,
            },
        ));
        let mut search: Option<Search<u64>> = None;
        let mut chance = 1u64;
        loop {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let circumstances = |time: Duration, has_line| Circumstances {
                now: start + time,
                chance: chance ^ chance >> 32,
                retry: &self.retry,
                idempotent: self.idempotent,
                closing: self.close.is_some_and(|(from, _)| time >= from),
                deadline: self.close.map(|(from, length)| start + from + length),
                has_line,
            };
            if let Some((mut rows, purpose, name)) = call.take() {
                let numbers: Vec<u64> = rows.iter().map(|row| row.item).collect();
                report.calls += 1;
                report.ids.push((name.id, numbers.clone(), name.attempts));
                let scripted = self
                    .script
                    .get((report.calls - 1) % self.script.len().max(1))
                    .copied();
                let fault = scripted.unwrap_or_else(|| self.answer(&numbers, time));
                time += self.call_time;
                report.in_doubt.push(fault == Some(Fault::InDoubt));
                rows.iter_mut().for_each(|row| {
                    row.memo.calls += 1;
                    row.memo.in_doubt |= fault == Some(Fault::InDoubt);
                });
                match fault {
                    None => {
                        report.handled.extend(numbers);
                        let Some(search) = &mut search else { break };
                        search.succeeded(purpose, rows.len());
                        report.refused_len = search.refused_len().map(|(len, _)| len);
                    }
                    Some(fault) => {
                        let error = fault.error();
                        let at = circumstances(time, !line.is_empty());
                        let failure = Failure {
                            error: &error,
                            service_time: self.call_time,
                            early: false,
                            known_misconfigured: false,
                            while_closing: at.closing,
                            is_cut: false,
                        };
                        let search = search.get_or_insert_with(|| {
                            Search::new(name, error.clone(), &self.retry, at.now)
                        });
                        let verdict = search.failed(rows, (purpose, name), &failure, &at);
                        let guests = verdict.guests.iter().map(|row| row.item);
                        report.guests.extend(guests);
                        let failed = verdict.rows.iter().map(|row| row.item);
                        if verdict.outage {
                            report.in_outage.extend(failed)
                        } else {
                            report.failed.extend(failed)
                        }
                    }
                }
            }
            let Some(search) = &mut search else { break };
            while flushes.front().is_some_and(|flush| *flush <= time) {
                flushes.pop_front();
                search.outage.flush(start + time);
            }
            match search.next(&circumstances(time, !line.is_empty())) {
                Next::Done => break,
                Next::GiveUp => {
                    let rows = std::mem::take(&mut search.rows)
                        .into_iter()
                        .chain(search.aside.drain(..));
                    report.gave_up = rows.map(|row| row.item).collect();
                    break;
                }
                Next::Wait { until, .. } => {
                    let until = until.duration_since(start);
                    let flush = flushes.front().copied().filter(|flush| *flush < until);
                    let close = self
                        .close
                        .map(|(from, _)| from)
                        .filter(|from| (time..until).contains(from) && *from > time);
                    report.waits += usize::from(flush.is_none());
                    time = flush
                        .into_iter()
                        .chain(close)
                        .min()
                        .unwrap_or(until)
                        .max(time);
                }
                Next::CallFromLine => {
                    let number = line.pop_front().expect("a row is in line");
                    let row = Row {
                        item: number,
                        memo: Memo::new(number, None),
                    };
                    call = Some((
                        vec![row],
                        Purpose::FromLine,
                        Name {
                            id: id(),
                            attempts: 1,
                        },
                    ));
                }
                Next::Call {
                    rows,
                    purpose,
                    name,
                } => {
                    let Name { id, attempts } = name.unwrap_or_else(|| Name {
                        id: id(),
                        attempts: 0,
                    });
                    call = Some((
                        rows,
                        purpose,
                        Name {
                            id,
                            attempts: attempts + 1,
                        },
                    ));
                }
            }
            assert!(report.calls < 100_000, "it ends");
        }
        report.time = time;
        self.check(&report);
        report
    }

    /// What holds in every run: each row ends once, and an id names one set of rows.
    fn check(&self, report: &Report) {
        let ends = [
            &report.handled,
            &report.failed,
            &report.in_outage,
            &report.gave_up,
            &report.guests,
        ];
        let mut all: Vec<u64> = ends.into_iter().flatten().copied().collect();
        all.sort_unstable();
        let in_line_called = all.len().saturating_sub(self.rows) as u64;
        let expected: Vec<u64> = (0..self.rows as u64 + in_line_called).collect();
        assert_eq!(all, expected, "each row has one end");
        let mut names = std::collections::HashMap::new();
        for (id, rows, attempts) in &report.ids {
            let (known, calls) = names.entry(id).or_insert((rows, 0));
            *calls += 1;
            assert_eq!(
                (*known, *calls),
                (rows, *attempts),
                "an id names one set of rows, and counts its calls"
            );
        }
        if !self.retry.bisects() {
            self.check_doubts(report);
        }
    }

    /// A table of ids shows what was applied: whatever was in doubt under an id is called under no
    /// other.
    fn check_doubts(&self, report: &Report) {
        let mut doubts = std::collections::HashMap::new();
        for ((id, rows, _), in_doubt) in report.ids.iter().zip(&report.in_doubt) {
            for row in rows {
                let known = doubts.get(row).copied().unwrap_or(id);
                assert_eq!(
                    known, id,
                    "row {row} was in doubt under another id: {:?}",
                    report.ids
                );
                if *in_doubt {
                    doubts.insert(row, id);
                }
            }
        }
    }
}

fn price(n: usize, k: usize) -> f64 {
    k as f64 * (n as f64 / k as f64).log2() + 4.0 * k as f64
}

fn class() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Unclassified),
        Just(Fault::Transient),
        Just(Fault::Permanent)
    ]
}

/// A batch's length, and bad rows at random places or in a stretch.
fn batch(most: usize) -> impl Strategy<Value = (usize, BTreeSet<u64>)> {
    (1..=most).prop_flat_map(|n| {
        let scattered = proptest::collection::btree_set(0..n as u64, 0..=n.min(12));
        let dense =
            (proptest::collection::vec(any::<u8>(), n), 1..=200u8).prop_map(|(dice, share)| {
                (0..dice.len() as u64)
                    .filter(|row| dice[*row as usize] < share)
                    .collect()
            });
        let stretch = (0..n as u64, 1..=60u64)
            .prop_map(move |(from, len)| (from..(from + len).min(n as u64)).collect());
        (Just(n), prop_oneof![scattered, stretch, dense])
    })
}

/// Scenarios 40 and 41.
#[test]
fn a_stretch_of_bad_rows_takes_no_good_row_with_it() {
    for fault in [Fault::Unclassified, Fault::Transient, Fault::Permanent] {
        for attempts in [1, 2, 5] {
            for from in (0..980).step_by(7).chain(970..=980) {
                let world = World {
                    retry: Retry::attempts(attempts),
                    fault,
                    ..World::default()
                }
                .bad(from..from + 20);
                let report = world.run();
                let mut failed = [report.failed, report.in_outage].concat();
                failed.sort_unstable();
                assert!(
                    failed.iter().copied().eq(from..from + 20),
                    "{fault:?}, {attempts}: {failed:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Scenario 41.
    #[test]
    fn while_the_backend_answers_only_bad_rows_fail((rows, bad) in batch(5_000), fault in class(), in_line in 0..3usize) {
        let world = World { rows, fault, in_line, ..World::default() };
        let world = World { bad, ..world };
        let report = world.run();
        let failed: BTreeSet<u64> = report.failed.iter().chain(&report.in_outage).copied().collect();
        if report.in_outage.is_empty() {
            prop_assert_eq!(&failed, &world.bad);
        } else {
            // Where hardly any row is good, no witness may have answered until patience ended: the
            // limit that is stated.
            let bad_in_outage = report.in_outage.iter().filter(|row| world.bad.contains(row)).count();
            let good_in_outage = report.in_outage.len() - bad_in_outage;
            prop_assert!(failed.is_superset(&world.bad));
            prop_assert!(good_in_outage == 0 || bad_in_outage * 10 > report.in_outage.len() * 6, "{:?}", report);
        }
    }

    /// The price is that of the mean; a draw may cost half as much again.
    #[test]
    fn the_search_costs_what_it_says((rows, bad) in batch(5_000), fault in class()) {
        let world = World { rows, fault, ..World::default() };
        let world = World { bad, ..world };
        let report = world.run();
        let k = world.bad.len();
        if k > 0 && report.in_outage.is_empty() {
            let most = 1.5 * price(rows, k) + 3.0 * report.waits as f64 + 10.0;
            prop_assert!(report.calls as f64 <= most, "{} rows, {k} bad: {} calls for {most}", rows, report.calls);
        }
    }

    #[test]
    fn whatever_the_calls_are_answered_it_ends(
        rows in 1..40usize,
        in_line in 0..3usize,
        attempts in 1..5u32,
        (keep_order, bisect, split_on_retry) in any::<(bool, bool, bool)>(),
        script in proptest::collection::vec(
            prop_oneof![
                Just(None), Just(Some(Fault::Unclassified)), Just(Some(Fault::Transient)), Just(Some(Fault::Permanent)),
                Just(Some(Fault::Unavailable)), Just(Some(Fault::Misconfigured)), Just(Some(Fault::InDoubt)),
            ],
            1..8,
        ),
        idempotent in any::<bool>(),
    ) {
        let retry = Retry::attempts(attempts).keep_order(keep_order).bisect(bisect).split_on_retry(split_on_retry);
        for retry in [retry, retry.for_at_least(Duration::from_secs(5))] {
            let report = World { retry, idempotent, rows, in_line, script: script.clone(), ..World::default() }.run();
            prop_assert!(report.calls < 5_000, "{} calls", report.calls);
        }
    }

    /// Connections die all the time, before or after the commit; each row ends handled, under ids
    /// that a table can know.
    #[test]
    fn a_batch_without_parts_fails_no_row_while_attempts_are_left(
        rows in 1..300usize,
        in_line in 0..3usize,
        (keep_order, split_on_retry) in any::<(bool, bool)>(),
        script in proptest::collection::vec(
            prop_oneof![Just(Fault::Transient), Just(Fault::InDoubt), Just(Fault::Unavailable), Just(Fault::Unclassified)],
            0..60,
        ),
        answers in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let retry = Retry::attempts(u32::MAX).bisect(false).split_on_retry(split_on_retry).keep_order(keep_order);
        // From then on the backend answers for good.
        let script = script.into_iter().zip(answers).map(|(fault, answer)| (!answer).then_some(fault));
        let script = script.chain(std::iter::repeat_n(None, 5_000)).collect();
        let report = World { retry, idempotent: true, rows, in_line, script, ..World::default() }.run();
        prop_assert_eq!((report.failed.len(), report.in_outage.len()), (0, 0), "{:?}", report.ids);
    }

    /// Scenario 51.
    #[test]
    fn an_outage_shorter_than_patience_fails_no_good_row(
        (rows, bad) in batch(2_000),
        fault in class(),
        from in 0..200u64,
        length in 1..30_000u64,
        away_fault in prop_oneof![Just(Fault::Transient), Just(Fault::Unclassified), Just(Fault::Unavailable)],
        flushes in proptest::collection::vec(0..60_000u64, 0..200),
    ) {
        let mut flushes: Vec<Duration> = flushes.into_iter().map(Duration::from_millis).collect();
        flushes.sort_unstable();
        let away = vec![(MS * from as u32, MS * (from + length) as u32)];
        // The last row is good and more rows are in line: somebody can answer when the outage is
        // over.
        let bad = bad.into_iter().filter(|row| row % 3 == 0).collect();
        let world = World { rows, fault, away, away_fault, flushes, bad, in_line: 100, ..World::default() };
        let report = world.run();
        let failed: BTreeSet<u64> = report.failed.iter().chain(&report.in_outage).copied().collect();
        let bad: BTreeSet<u64> = world.bad.iter().copied().collect();
        prop_assert_eq!(failed, bad);
    }
}
