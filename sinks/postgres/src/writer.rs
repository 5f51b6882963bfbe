//! Writes batches: each is one transaction, by the fastest way that can do what was asked for.
//!
//! A way that meets what it cannot handle rolls back, and the next way begins a transaction of its
//! own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use load_aware_batcher::classify::Stage;
use load_aware_batcher::{Batch, BatchError, Handler, LoadFeedback};
use postgres::{Client, Transaction};

use crate::column::Column;
use crate::connection::Link;
use crate::doubts::{Doubts, Refused};
use crate::encoded::Encoded;
use crate::failure::{Failure, of_user};
use crate::load::Timeouts;
use crate::plan::{Merge, Plan};
use crate::transaction::{Prepared, Sending, Way, check_alive};
use crate::trial::Trial;

/// The user's own part of the transaction.
pub(crate) type BeforeCommit<T> =
    dyn Fn(&mut Transaction<'_>, &Batch<T>) -> Result<(), BatchError> + Send + Sync;

/// From one removal of old batch ids to the next.
const PRUNE: Duration = Duration::from_secs(60);

/// What all writers of a sink share.
pub(crate) struct Shared<T> {
    pub(crate) columns: Vec<Arc<dyn Column<T>>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) doubts: Arc<Doubts>,
    pub(crate) before_commit: Option<Arc<BeforeCommit<T>>>,
    pub(crate) keep_batches: Duration,
}

/// The handler of a [`Postgres`](crate::Postgres) sink: one connection.
pub struct Writer<T> {
    link: Link,
    shared: Shared<T>,
    prepared: Prepared,
    trial: Trial,
    pruned: Option<Instant>,
}

/// One attempt at a batch.
struct Attempt {
    rows: Vec<usize>,
    way: Way,
    /// Rows that the server refuses are left out.
    by_halves: bool,
}

enum Outcome {
    Stored(Refused),
    /// An earlier attempt was stored and only its answer lost.
    WasStored,
}

impl<T> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Handler<T> for Writer<T> {
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        self.prune()?;
        let result = self.write(batch);
        // How loaded the server is, the sensor reports: asking here would cost every batch a round
        // trip.
        match result {
            Err(error) if self.link.is_closed() => Err(error.handler_broken()),
            result => result.map(|()| LoadFeedback::new()),
        }
    }
}

impl<T> Writer<T> {
    pub(crate) fn new(link: Link, shared: Shared<T>) -> Self {
        Self {
            link,
            shared,
            prepared: Prepared::default(),
            trial: Trial::default(),
            pruned: None,
        }
    }

    fn write(&mut self, batch: &Batch<T>) -> Result<(), BatchError> {
        let plan = Arc::clone(&self.shared.plan);
        let (encoded, refused) = Encoded::new(batch, &self.shared.columns, &plan);
        let mut attempt = Attempt {
            rows: encoded.order(plan.merge),
            way: self.first_way(batch),
            by_halves: false,
        };
        loop {
            let failure = match self.attempt(batch, &encoded, &attempt) {
                Ok(Outcome::WasStored) => {
                    let left_out = self.shared.doubts.take(batch.id());
                    reject(batch, left_out.unwrap_or_default());
                    return Ok(());
                }
                Ok(Outcome::Stored(mut more)) => {
                    if attempt.way == Way::Copy && plan.merge != Merge::None {
                        self.trial.was_clean();
                    }
                    more.extend(refused);
                    self.shared.doubts.take(batch.id());
                    reject(batch, more);
                    return Ok(());
                }
                Err((failure, more)) => {
                    if matches!(failure.code(), Some("57014" | "55P03")) {
                        self.shared.timeouts.count();
                    }
                    if self.next_way(&mut attempt, &failure) {
                        continue;
                    }
                    (failure, more)
                }
            };
            let (failure, mut more) = failure;
            let is_misread = failure.code() == Some("22P03");
            let error = failure.into_error();
            if is_misread && !plan.still_fits(&mut self.link) {
                // The table was altered. A new connection asks for its types.
                return Err(BatchError::transient(error.to_string()).handler_broken());
            }
            let safe_to_repeat = plan.merge != Merge::None || plan.batches.is_some();
            if error.is_in_doubt() && safe_to_repeat {
                more.extend(refused);
                self.shared.doubts.keep(batch.id(), more);
            } else if error.is_permanent()
                && !error.is_handler_broken()
                && plan.batches.is_some()
                && !attempt.by_halves
                && !self.link.is_closed()
            {
                // Such a batch is never split by the batcher.
                attempt.by_halves = true;
                // Of rows with one key the one that is written may be the one that is refused.
                attempt.rows = encoded.order(Merge::None);
                attempt.way = match plan.merge {
                    Merge::None => attempt.way,
                    Merge::First | Merge::Last => Way::InsertDistinct,
                };
                continue;
            }
            return Err(error);
        }
    }

    fn first_way(&mut self, batch: &Batch<T>) -> Way {
        let plan = &self.shared.plan;
        let copies = plan.copy.is_some()
            && (plan.merge == Merge::None
                // What is in doubt is probably there.
                || (!self.shared.doubts.holds(batch.id()) && self.trial.is_due()));
        if copies { Way::Copy } else { Way::Insert }
    }

    /// Whether there is another way for this failure; the attempt is changed to it.
    fn next_way(&mut self, attempt: &mut Attempt, failure: &Failure) -> bool {
        if attempt.by_halves || self.link.is_closed() {
            return false;
        }
        let plan = Arc::clone(&self.shared.plan);
        attempt.way = match (attempt.way, plan.merge, failure.code()) {
            (_, Merge::None, _) => return false,
            (Way::Copy, merge, Some("23505")) if self.is_of_key(failure) => {
                self.trial.met_conflict();
                match merge {
                    Merge::First if plan.present.is_some() => Way::CopyRest,
                    _ => Way::Insert,
                }
            }
            (Way::CopyRest, _, Some("23505")) if self.is_of_key(failure) => Way::Insert,
            (Way::Insert, _, Some("21000")) => Way::InsertDistinct,
            _ => return false,
        };
        true
    }

    /// Whether a duplicate is one of the key's own index.
    fn is_of_key(&mut self, failure: &Failure) -> bool {
        let plan = &self.shared.plan;
        let Some(index) = failure.constraint() else {
            return false;
        };
        if !plan.partitioned {
            return plan.key_indexes.iter().any(|(_, name)| name == index);
        }
        let oids: Vec<u32> = plan.key_indexes.iter().map(|(oid, _)| *oid).collect();
        let partition = "SELECT EXISTS (SELECT FROM unnest($1::oid[]) AS k (oid),
            pg_partition_tree(k.oid::regclass) AS t JOIN pg_class c ON c.oid = t.relid WHERE c.relname = $2::text)";
        let found = self.link.query_one(partition, &[&oids, &index]);
        // Without an answer the duplicate is reported.
        found.is_ok_and(|row| row.get(0))
    }

    fn attempt(
        &mut self,
        batch: &Batch<T>,
        encoded: &Encoded,
        attempt: &Attempt,
    ) -> Result<Outcome, (Failure, Refused)> {
        let shared = &self.shared;
        let mut sending = Sending {
            plan: &shared.plan,
            prepared: &mut self.prepared,
            encoded,
        };
        let mut refused = Refused::new();
        // Dropped on every early return: that rolls back.
        let mut transaction = match self.link.transaction() {
            Ok(transaction) => transaction,
            Err(error) => return Err((Failure::Driver(error, Stage::Statement), refused)),
        };
        let mut fill = || {
            if !sending.mark(&mut transaction, batch.id().as_u128())? {
                return Ok(false);
            }
            if attempt.by_halves {
                // What would fail at the commit shows with its row.
                transaction
                    .batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
                    .map_err(Failure::at(Stage::Statement))?;
                sending.send_halves(&mut transaction, &attempt.rows, attempt.way, &mut refused)?;
            } else {
                sending.send(&mut transaction, &attempt.rows, attempt.way)?;
            }
            shared.before_commit(&mut transaction, batch)?;
            Ok(true)
        };
        match fill() {
            Ok(true) => {}
            Ok(false) => return Ok(Outcome::WasStored),
            Err(failure) => return Err((failure, refused)),
        }
        match transaction.commit() {
            Ok(()) => Ok(Outcome::Stored(refused)),
            Err(error) => Err((Failure::Driver(error, Stage::Commit), refused)),
        }
    }

    /// Removes old batch ids, outside the batch's transaction: two writers would wait for each
    /// other.
    fn prune(&mut self) -> Result<(), BatchError> {
        let Some(batches) = &self.shared.plan.batches else {
            return Ok(());
        };
        if self.pruned.is_some_and(|pruned| pruned.elapsed() < PRUNE) {
            return Ok(());
        }
        self.pruned = Some(Instant::now());
        let client: &mut Client = &mut self.link;
        let age = self.shared.keep_batches.as_secs_f64();
        match client.execute(&batches.prune, &[&age]) {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = Failure::Driver(error, Stage::Statement).into_error();
                // What stands in the way of a removal need not stand in the batch's.
                if error.is_handler_broken() {
                    Err(error)
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl<T> Shared<T> {
    fn before_commit(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch<T>,
    ) -> Result<(), Failure> {
        let Some(before_commit) = &self.before_commit else {
            return Ok(());
        };
        before_commit(transaction, batch).map_err(|error| Failure::Batch(of_user(error)))?;
        check_alive(transaction).map_err(Failure::at(Stage::Statement))
    }
}

fn reject<T>(batch: &Batch<T>, refused: Refused) {
    for (index, error) in refused {
        batch.reject(index, error);
    }
}
