//! The account of a program that has ended. It compares how every item ended with what reports,
//! tickets and counters say.

use std::collections::HashSet;
use std::iter::Sum;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, Weak};

use load_aware_batcher::{Batcher, CloseReport, Outcome, Stats, Ticket};

use super::Program;
use super::ledger::{ACCEPTED, CALLED, DOUBT, FAILED, HANDLED, Item, Ledger, REFUSED, UNSENT};

/// How the items ended. Accounts of several programs can be added.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub programs: u64,
    pub accepted: u64,
    pub refused: u64,
    pub handled: u64,
    pub failed: u64,
    pub in_doubt: u64,
    pub unsent: u64,
    /// At the close.
    pub abandoned: u64,
    /// Failed in the call of an abandoned handler, after the report.
    pub dropped_late: u64,
    pub closes_timed_out: u64,
    /// Of the programs that ended by a shutdown.
    pub calls: u64,
    pub retries: u64,
    pub bisections: u64,
    pub panics: u64,
    /// The broken promises. Empty if there are none.
    pub violations: Vec<String>,
}

impl Sum for Account {
    fn sum<I: Iterator<Item = Self>>(accounts: I) -> Self {
        accounts.fold(Self::default(), |mut all, one| {
            all.add(one);
            all
        })
    }
}

impl Account {
    pub fn add(&mut self, mut other: Self) {
        self.programs += other.programs;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.handled += other.handled;
        self.failed += other.failed;
        self.in_doubt += other.in_doubt;
        self.unsent += other.unsent;
        self.abandoned += other.abandoned;
        self.dropped_late += other.dropped_late;
        self.closes_timed_out += other.closes_timed_out;
        self.calls += other.calls;
        self.retries += other.retries;
        self.bisections += other.bisections;
        self.panics += other.panics;
        self.violations.append(&mut other.violations);
    }
}

/// What all threads of a run share.
pub struct Shared {
    pub ledger: Arc<Ledger>,
    pub batcher: Weak<Batcher<Item>>,
    pub tickets: Mutex<Vec<(usize, usize, Ticket)>>,
    /// Items whose ticket has returned that they failed: they may be in no list.
    pub told: Mutex<HashSet<(usize, usize)>>,
    /// Each report, with the sum of its counts.
    pub reports: Mutex<Vec<(u64, CloseReport<Item>)>>,
    pub pending_max: u64,
}

impl Shared {
    pub fn reported(&self, mut report: CloseReport<Item>) {
        self.ledger.reported(&report);
        report.failed.clear();
        report.unsent.clear();
        let sum = report.handled + report.failed_total + report.unsent_total + report.abandoned;
        self.reports.lock().unwrap().push((sum, report));
    }

    pub fn account(self, program: &Program, stats: Option<Stats>) -> Account {
        let ledger = &self.ledger;
        let mut account = Account {
            programs: 1,
            ..Account::default()
        };
        let (mut missing, mut missing_doubt, mut told) = (0, 0, 0);
        let may_be_told = self.told.into_inner().unwrap();
        for (lane, flags) in ledger.lanes.iter().enumerate() {
            for (number, flags) in flags.iter().enumerate() {
                let flags = flags.load(SeqCst);
                account.accepted += u64::from(flags & ACCEPTED != 0);
                account.refused += u64::from(flags & REFUSED != 0);
                account.handled += u64::from(flags & HANDLED != 0);
                account.failed += u64::from(flags & FAILED != 0);
                account.in_doubt += u64::from(flags & FAILED != 0 && flags & DOUBT != 0);
                account.unsent += u64::from(flags & UNSENT != 0);
                if flags & ACCEPTED != 0 && flags & (HANDLED | FAILED | UNSENT) == 0 {
                    missing += 1;
                    told += u64::from(may_be_told.contains(&(lane, number)));
                    missing_doubt += u64::from(flags & DOUBT != 0);
                    if flags & CALLED == 0 {
                        ledger.violation(format!("{lane}/{number} is lost"));
                    }
                }
            }
        }
        if let Some(stats) = &stats {
            // Others may have failed late. Their tickets had an outcome since the close, and nobody
            // could take them any more.
            if stats.told > told {
                ledger.violation(format!(
                    "{} told, but tickets of {told} rows returned it",
                    stats.told
                ));
            }
            told = stats.told.min(missing);
        }
        account.dropped_late = missing - told;
        let reports = self.reports.into_inner().unwrap();
        account.abandoned = reports
            .iter()
            .map(|(_, report)| report.abandoned)
            .max()
            .unwrap_or(0);
        account.closes_timed_out = reports
            .iter()
            .filter(|(_, report)| report.timed_out)
            .count() as u64;
        // The caller that got the lists has counts of everything, all others of what they saw.
        let sums = reports.iter().map(|(sum, _)| *sum);
        if sums.clone().max() != Some(account.accepted)
            || sums.clone().any(|sum| sum > account.accepted)
        {
            ledger.violation(format!("{} accepted, but {reports:?}", account.accepted));
        }
        if account.dropped_late
            > if program.hook.is_some() {
                0
            } else {
                account.abandoned
            }
        {
            ledger.violation(format!(
                "{} dropped late, {reports:?}",
                account.dropped_late
            ));
        }
        for (lane, number, ticket) in self.tickets.into_inner().unwrap() {
            let flags = ledger.flags(lane, number);
            let told = ticket.try_wait();
            let right = match &told {
                Some(Outcome::Handled) => flags & HANDLED != 0,
                Some(Outcome::Failed(_)) => flags & (HANDLED | UNSENT | DOUBT) == 0,
                Some(Outcome::InDoubt) => {
                    let failed = flags & FAILED != 0 || may_be_told.contains(&(lane, number));
                    flags & CALLED != 0 && (failed && flags & DOUBT != 0 || account.abandoned > 0)
                }
                Some(Outcome::Unsent) => flags & UNSENT != 0,
                _ => false,
            };
            if !right {
                ledger.violation(format!(
                    "{lane}/{number} is {flags:#b}, its ticket says {told:?}"
                ));
            }
        }
        let left = (
            ledger.alive.load(SeqCst),
            ledger.dropped.load(SeqCst) as u64,
        );
        if left != (0, missing) {
            ledger.violation(format!(
                "{left:?} items still live and dropped without an end"
            ));
        }
        if let Some(stats) = stats {
            let refused = stats.refused;
            let refusals = refused.full
                + refused.timeout
                + refused.closed
                + refused.reentrant
                + refused.too_heavy
                + refused.stalled;
            let counted = [
                (stats.added, account.accepted),
                (stats.handled, account.handled),
                (stats.failed, account.failed + missing),
                (stats.in_doubt, account.in_doubt + missing_doubt),
                (stats.unsent, account.unsent),
                (stats.dropped_late, account.dropped_late),
                (stats.abandoned, 0),
                (stats.pending, 0),
                (stats.kept_failed as u64, 0),
                (refusals, ledger.refusals.load(SeqCst) as u64),
            ];
            if counted.iter().any(|(stats, ledger)| stats != ledger) {
                ledger.violation(format!("{counted:?}: {stats:?}"));
            }
            account.calls = stats.calls;
            account.retries = stats.retries;
            account.bisections = stats.bisections;
            account.panics = stats.handler_panics + stats.hook_panics;
        }
        account.failed += told;
        account.violations = ledger.violations();
        account
    }
}
