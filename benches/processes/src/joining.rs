//! A process that joins others at work, under the default policy.

use std::thread;

use crate::Failure;
use crate::calls::{Call, rows_per_s};
use crate::database::Database;
use crate::fairness::share_of_mean;
use crate::options::Plan;
use crate::process::Process;
use crate::run::{Account, finish, start};
use crate::way::Way;
use crate::worker::now_s;

/// The share of the mean rate that counts as a share of one's own.
pub const FAIR_SHARE: f64 = 0.8;
/// The time over which a share is taken, in seconds.
const WINDOW_S: f64 = 2.0;
/// The part at the end in which the newcomer must still have its share, in seconds.
const LAST_S: f64 = 4.0;

/// How a process fared that joined others. Its time counts from its start.
#[derive(Clone, Debug)]
pub struct Joining {
    /// How long the run went on, in seconds.
    pub lasted_s: f64,
    /// When it had a fair share for the first time, over a whole window; `None` if never.
    pub reached_s: Option<f64>,
    /// Its rate in the last part of the run, against the mean of all.
    pub last_share: f64,
    pub account: Account,
}

/// `processes − 1` are at work when one more starts.
pub fn join(database: &mut Database, processes: usize, plan: &Plan) -> Result<Joining, Failure> {
    database.renew()?;
    let mut all = start(database, 0..processes - 1, Way::Default)?;
    all.iter_mut().try_for_each(Process::go)?;
    thread::sleep(plan.before_joining);
    let joined = now_s();
    let mut newcomer = start(database, processes - 1..processes, Way::Default)?;
    newcomer.iter_mut().try_for_each(Process::go)?;
    all.append(&mut newcomer);
    let left = plan.joining.as_secs_f64() - (now_s() - joined);
    thread::sleep(std::time::Duration::from_secs_f64(left.max(0.0)));
    let ended = now_s();
    let reports = finish(all)?;
    let calls: Vec<&[Call]> = reports.iter().map(|report| &*report.calls).collect();
    Ok(Joining {
        lasted_s: ended - joined,
        reached_s: reached_s(&calls, joined, ended),
        last_share: last_share(&calls, ended - LAST_S, ended),
        account: Account::of(&reports, database.stored()?),
    })
}

/// The rate of the last process against the mean of all, between two moments.
fn last_share(calls: &[&[Call]], from: f64, to: f64) -> f64 {
    let rates: Vec<f64> = calls.iter().map(|of| rows_per_s(of, from, to)).collect();
    rates
        .last()
        .map_or(f64::NAN, |rate| share_of_mean(*rate, &rates))
}

/// The end of the first window in which the last process had a fair share, from `joined` on.
fn reached_s(calls: &[&[Call]], joined: f64, ended: f64) -> Option<f64> {
    let ends = (0..).map(|step| WINDOW_S + f64::from(step) * 0.1);
    ends.take_while(|end| joined + end <= ended).find(|end| {
        let to = joined + end;
        last_share(calls, to - WINDOW_S, to) >= FAIR_SHARE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of a second each, with these rows, from a moment on.
    fn seconds(from: f64, rows: &[u64]) -> Vec<Call> {
        let calls = rows.iter().enumerate().map(|(place, rows)| Call {
            begun_s: from + place as f64,
            ended_s: from + place as f64 + 1.0,
            rows: *rows,
        });
        calls.collect()
    }

    #[test]
    fn a_share_is_reached_at_the_end_of_the_first_window_that_has_it() {
        let others = seconds(0.0, &[100; 20]);
        // 0.8 of the mean of both is 2/3 of the other's rate: 134 rows in a window of two seconds.
        let newcomer = seconds(10.0, &[0, 20, 64, 70, 100, 100]);
        let calls = [&*others, &*newcomer];
        let reached = reached_s(&calls, 10.0, 16.0).unwrap();
        assert!((4.0..=4.1).contains(&reached), "{reached}");
        assert!((last_share(&calls, 14.0, 16.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_process_that_stays_behind_never_reaches_a_share() {
        let (others, newcomer) = (seconds(0.0, &[100; 20]), seconds(10.0, &[60; 10]));
        let calls = [&*others, &*newcomer];
        assert_eq!(reached_s(&calls, 10.0, 20.0), None);
        assert!((last_share(&calls, 16.0, 20.0) - 0.75).abs() < 1e-9);
    }
}
