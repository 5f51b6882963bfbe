//! The sink: what the user says, and how it connects.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use load_aware_batcher::classify::Stage;
use load_aware_batcher::{Batch, BatchError, Builder, Sensor, Sink, SinkError, Worker};
use rusqlite::{Connection, OpenFlags, Result as DriverResult, ToSql, Transaction};

use crate::busy::{Busy, BusySensor, TIMEOUTS, busy};
use crate::column::{Column, Computed, Held, hash};
use crate::doubts::Doubts;
use crate::failure::{failed, text};
use crate::on_conflict::OnConflict;
use crate::plan::{Plan, Wishes};
use crate::writer::{BeforeCommit, Shared, Writer};

/// The largest batch where the user sets none. Measured: 50 000 rows a transaction are as fast as
/// all rows in one.
const MAX_BATCH_SIZE: usize = 50_000;
/// The first batch where neither the user nor the policy sets its size.
const INITIAL_BATCH_SIZE: usize = 500;
/// The weight limit where the user sets none, in bytes.
const MAX_BATCH_WEIGHT: usize = 16 << 20;
/// How much a share of statements that stayed busy counts in a load score.
const TIMEOUTS_WEIGHT: f64 = 0.2;

/// Writes rows of type `T` into one table of an SQLite database; for
/// [`Builder::sink`](load_aware_batcher::Builder::sink).
///
/// Each batch is one transaction. A row that SQLite refuses is reported alone, and the rest of its
/// batch is stored. A row is acknowledged when its transaction is committed and synced.
///
/// What [`column`](Self::column) does not name takes its default. What is wrong with the file, the
/// table or a column is an error of `Builder::sink`, in one sentence.
///
/// The sink sets what the user has not set on the builder: 500 rows in the first batch, at most 50 000 rows and 16 MiB a batch.
/// It sets `idempotent(true)` for [`OnConflict::Ignore`], [`OnConflict::Update`],
/// [`OnConflict::Replace`] and for [`batch_table`](Self::batch_table).
///
/// ```
/// # use load_aware_batcher_rusqlite::load_aware_batcher::Batcher;
/// # use load_aware_batcher_rusqlite::Sqlite;
/// struct Reading { id: i64, value: f64 }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// # load_aware_batcher_rusqlite::rusqlite::Connection::open(&path)?
/// #     .execute_batch("CREATE TABLE readings (id INTEGER PRIMARY KEY, value REAL)")?;
///
/// let sink = Sqlite::open(&path)
///     .table("readings")
///     .column("id", |r: &Reading| &r.id)
///     .column("value", |r| &r.value);
/// let batcher = Batcher::builder().sink(sink)?;
/// batcher.add(Reading { id: 1, value: 0.5 })?;
/// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sqlite<T> {
    source: Source,
    table: Option<String>,
    names: Vec<String>,
    columns: Vec<Arc<dyn Column<T>>>,
    on_conflict: OnConflict,
    key: Option<Vec<String>>,
    batch_table: Option<String>,
    keep_batches: Duration,
    busy_timeout: Duration,
    wal: bool,
    session: String,
    sensor: SensorChoice,
    before_commit: Option<Arc<BeforeCommit<T>>>,
    weigh: Option<Arc<Weigh<T>>>,
    busy: Arc<Busy>,
    doubts: Arc<Doubts>,
    plan: OnceLock<Arc<Plan>>,
    /// The connection that the table was checked on, for the first writer.
    checked: Mutex<Option<Connection>>,
}

type Weigh<T> = dyn Fn(&T) -> usize + Send + Sync;

enum Source {
    File(PathBuf),
    Made(Box<dyn Fn() -> DriverResult<Connection> + Send + Sync>),
}

enum SensorChoice {
    BuiltIn,
    Own(Mutex<Option<Box<dyn Sensor>>>),
}

impl<T> Sqlite<T> {
    /// Rows for the database in this file. The path may be a URI that begins with `file:`.
    ///
    /// The file is never created, so that a misspelt name is an error. Each connection gets
    /// `synchronous = FULL`: what is acknowledged survives a power cut. The journal mode stays as
    /// it is, unless [`wal`](Self::wal) is called.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::load_aware_batcher::Batcher;
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::open("/no/such.db").table("readings").column("id", |id: &i64| id);
    /// let error = Batcher::builder().sink(sink).unwrap_err();
    /// assert!(error.to_string().starts_with("cannot open the database \"/no/such.db\""));
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Self {
        Self::of(Source::File(path.as_ref().to_owned()))
    }

    /// Rows for the database that `connect` connects to: for an encrypted file, for attached
    /// databases, for functions of one's own. Called for each connection. The sink replaces the
    /// connection's busy handler.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::load_aware_batcher::Batcher;
    /// use load_aware_batcher_rusqlite::Sqlite;
    /// use load_aware_batcher_rusqlite::rusqlite::Connection;
    ///
    /// let connect = || {
    ///     let connection = Connection::open_in_memory()?;
    ///     connection.execute_batch("ATTACH ':memory:' AS archive; CREATE TABLE archive.ids (id)")?;
    ///     Ok(connection)
    /// };
    /// let sink = Sqlite::from_fn(connect).table("archive.ids").column("id", |id: &i64| id);
    /// let batcher = Batcher::builder().sink(sink)?;
    /// # Ok::<(), load_aware_batcher_rusqlite::load_aware_batcher::BuildError>(())
    /// ```
    pub fn from_fn(connect: impl Fn() -> DriverResult<Connection> + Send + Sync + 'static) -> Self {
        Self::of(Source::Made(Box::new(connect)))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            table: None,
            names: Vec::new(),
            columns: Vec::new(),
            on_conflict: OnConflict::default(),
            key: None,
            batch_table: None,
            keep_batches: Duration::from_secs(24 * 3_600),
            busy_timeout: Duration::from_secs(2),
            wal: false,
            session: String::new(),
            sensor: SensorChoice::BuiltIn,
            before_commit: None,
            weigh: None,
            busy: Arc::default(),
            doubts: Arc::default(),
            plan: OnceLock::new(),
            checked: Mutex::default(),
        }
    }

    /// The table, or a view with an `INSTEAD OF` trigger. `schema.table` names an attached
    /// database; a part with a dot in it stands in double quotes. Required.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::<i64>::open("shop.db").table("main.\"readings.2026\"");
    /// # let _ = sink;
    /// ```
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// A column, and where a row holds its value. At least one column is required. Null is `None`
    /// of an `Option`. A value that the driver cannot convert fails its row alone.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// struct Reading { id: i64, note: Option<String> }
    /// let sink = Sqlite::open("shop.db")
    ///     .table("readings")
    ///     .column("id", |r: &Reading| &r.id)
    ///     .column("note", |r| &r.note);
    /// # let _ = sink;
    /// ```
    pub fn column<V: ToSql + ?Sized + 'static>(
        mut self,
        name: impl Into<String>,
        value: impl for<'a> Fn(&'a T) -> &'a V + Send + Sync + 'static,
    ) -> Self
    where
        T: 'static,
    {
        self.names.push(name.into());
        self.columns.push(Arc::new(Held(value)));
        self
    }

    /// A column, and how its value is made from a row. Called once a row and attempt, and once more
    /// to sort if the column belongs to the key. Counts 9 bytes of the batch's weight: see
    /// [`weigh`](Self::weigh).
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::open("shop.db")
    ///     .table("words")
    ///     .column("word", |word: &String| word)
    ///     .computed("length", |word| word.len() as i64);
    /// # let _ = sink;
    /// ```
    pub fn computed<V: ToSql + 'static>(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Self
    where
        T: 'static,
    {
        self.names.push(name.into());
        self.columns.push(Arc::new(Computed(value)));
        self
    }

    /// What becomes of a row whose key is in the table already. Default [`OnConflict::Fail`]. The
    /// other modes make a repeated batch harmless, and set `idempotent(true)` on the builder.
    ///
    /// ```
    /// use load_aware_batcher_rusqlite::{OnConflict, Sqlite};
    ///
    /// let sink = Sqlite::open("shop.db")
    ///     .table("words")
    ///     .column("word", |word: &String| word)
    ///     .on_conflict(OnConflict::Ignore)
    ///     .key(["word"]);
    /// # let _ = sink;
    /// ```
    pub fn on_conflict(mut self, mode: OnConflict) -> Self {
        self.on_conflict = mode;
        self
    }

    /// The columns that tell rows apart: the table has a unique index on exactly these. Rows are
    /// written in their order. Default the primary key, if its columns are written.
    ///
    /// With a [`concurrency`](load_aware_batcher::Builder::concurrency) over 1, rows of one key go
    /// through one connection in the order in which they were added, unless the builder says
    /// otherwise. SQLite has one writer at a time: more connections than one wait for one another,
    /// and bring nothing but the time between two transactions. Without a key the rows are
    /// unordered.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::{OnConflict, Sqlite};
    /// let sink = Sqlite::open("shop.db")
    ///     .table("readings")
    ///     .column("sensor", |r: &(i64, i64)| &r.0)
    ///     .column("at", |r| &r.1)
    ///     .on_conflict(OnConflict::Ignore)
    ///     .key(["sensor", "at"]);
    /// # let _ = sink;
    /// ```
    pub fn key<N: Into<String>>(mut self, columns: impl IntoIterator<Item = N>) -> Self {
        self.key = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// A table for the ids of the batches, for rows without a key. The id is stored in the same
    /// transaction as the rows, so a batch whose commit had no answer is sent again and stored
    /// once. Made if it is missing, with the columns `id` and `at`, in the database of the table.
    ///
    /// Sets `idempotent(true)` and `Retry::bisect(false)` on the builder: such a batch is only ever
    /// sent again as a whole. Rows that SQLite refuses are still reported alone.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::open("shop.db")
    ///     .table("log")
    ///     .column("line", |line: &String| line)
    ///     .batch_table("log_batches");
    /// # let _ = sink;
    /// ```
    pub fn batch_table(mut self, name: impl Into<String>) -> Self {
        self.batch_table = Some(name.into());
        self
    }

    /// How long the ids of batches are kept. Default 24 h. Must be longer than a batch is tried:
    /// see `Retry::for_at_least`. Ids are removed with a writer's first batch and then once an
    /// hour.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// use std::time::Duration;
    ///
    /// let sink = Sqlite::open("shop.db")
    ///     .table("log")
    ///     .column("line", |line: &String| line)
    ///     .batch_table("log_batches")
    ///     .keep_batches(Duration::from_secs(3_600));
    /// # let _ = sink;
    /// ```
    pub fn keep_batches(mut self, age: Duration) -> Self {
        self.keep_batches = age;
        self
    }

    /// How long a statement waits for a file that another connection has locked, before the batch
    /// is transient and waits for its next attempt. Default 2 s.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// use std::time::Duration;
    ///
    /// let sink = Sqlite::<i64>::open("shop.db").busy_timeout(Duration::from_millis(500));
    /// # let _ = sink;
    /// ```
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Whether the database is switched to the journal mode WAL, at the start. Default false: the
    /// mode stays as it is. In WAL a commit is one append and one sync, and readers go on
    /// meanwhile. The file keeps the mode.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::<i64>::open("shop.db").wal(true);
    /// # let _ = sink;
    /// ```
    pub fn wal(mut self, yes: bool) -> Self {
        self.wal = yes;
        self
    }

    /// Statements for every new connection, after the sink's own.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::<i64>::open("shop.db").session("PRAGMA foreign_keys = ON");
    /// # let _ = sink;
    /// ```
    pub fn session(mut self, statements: impl Into<String>) -> Self {
        self.session = statements.into();
        self
    }

    /// What measures the load. The default reports how often the writer found the file locked
    /// (`db_locks`) and how many statements stayed busy to the end (the custom signal `timeouts`,
    /// ten or more as 1). `None` turns it off.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::<i64>::open("shop.db").sensor(None);
    /// # let _ = sink;
    /// ```
    pub fn sensor(mut self, sensor: Option<Box<dyn Sensor>>) -> Self {
        self.sensor = SensorChoice::Own(Mutex::new(sensor));
        self
    }

    /// Called in each batch's transaction, after its rows and before the commit: for offsets or
    /// outbox rows that are stored with them. An error rolls the batch back. An error of the driver
    /// that is passed on with `?` is classified as the sink's own.
    ///
    /// The batch still holds the rows that SQLite refused. After a rollback it is called again.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::open("shop.db")
    ///     .table("log")
    ///     .column("line", |line: &String| line)
    ///     .before_commit(|transaction, batch| {
    ///         transaction.execute("UPDATE offsets SET lines = lines + ?1", [batch.len() as i64])?;
    ///         Ok(())
    ///     });
    /// # let _ = sink;
    /// ```
    pub fn before_commit(
        mut self,
        call: impl Fn(&Transaction<'_>, &Batch<T>) -> Result<(), BatchError> + Send + Sync + 'static,
    ) -> Self {
        self.before_commit = Some(Arc::new(call));
        self
    }

    /// A row's weight in bytes, for the batch's limit of 16 MiB. The default adds up what the
    /// columns hold. Has no effect where the builder has a `max_batch_weight`.
    ///
    /// ```
    /// # use load_aware_batcher_rusqlite::Sqlite;
    /// let sink = Sqlite::open("shop.db")
    ///     .table("log")
    ///     .computed("line", |line: &String| line.to_uppercase())
    ///     .weigh(|line| line.len());
    /// # let _ = sink;
    /// ```
    pub fn weigh(mut self, bytes: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.weigh = Some(Arc::new(bytes));
        self
    }

    fn new_connection(&self) -> DriverResult<Connection> {
        #[allow(unused_mut, reason = "from rusqlite 0.43 on the busy handler needs it")]
        let mut connection = match &self.source {
            Source::File(path) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                    | OpenFlags::SQLITE_OPEN_URI
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(path, flags)?;
                connection.execute_batch("PRAGMA synchronous = FULL")?;
                connection
            }
            Source::Made(connect) => connect()?,
        };
        connection.busy_handler(Some(busy as fn(i32) -> bool))?;
        // 16 MB, for all pages that a batch touches. With the default of 2 MB they are written to
        // the log before the commit and read again: measured, 5 kB a row and not 2.
        connection.execute_batch("PRAGMA cache_size = -16000")?;
        connection.execute_batch(&self.session)?;
        Ok(connection)
    }

    fn connected(&self) -> Result<Connection, SinkError> {
        let connection = self.new_connection().map_err(|error| match &self.source {
            Source::File(path) => SinkError::new(format!(
                "cannot open the database {path:?}: {}",
                text(&error)
            )),
            Source::Made(_) => SinkError::new(format!("cannot connect: {}", text(&error))),
        })?;
        if self.wal {
            let set = "PRAGMA journal_mode = WAL";
            let mode = connection.query_row(set, [], |row| row.get::<_, String>(0));
            match mode.as_deref() {
                Ok("wal" | "memory") => {}
                Ok(other) => {
                    return Err(SinkError::new(format!(
                        "the journal mode stays {other:?} and does not become WAL"
                    )));
                }
                Err(error) => {
                    return Err(SinkError::new(format!(
                        "cannot set the journal mode to WAL: {}",
                        text(error)
                    )));
                }
            }
        }
        Ok(connection)
    }

    /// A database that cannot be written is found out before the first batch.
    fn check_writable(&self, connection: &Connection) -> Result<(), SinkError> {
        let schema = self.table.as_deref().and_then(crate::name::schema_of);
        let schema = schema.as_deref().unwrap_or("main");
        match connection.is_readonly(schema) {
            Ok(true) => Err(SinkError::new(match &self.source {
                Source::File(path) => format!("the database {path:?} is read only"),
                Source::Made(_) => format!("the database {schema:?} is read only"),
            })),
            // An unknown schema is named where the table is asked for.
            _ => Ok(()),
        }
    }
}

impl<T: Send + 'static> Sink<T> for Sqlite<T> {
    type Handler = Writer<T>;

    fn configure(&self, builder: Builder<T>) -> Result<Builder<T>, SinkError> {
        let _watch = self.busy.watch(self.busy_timeout);
        let connection = self.connected()?;
        self.check_writable(&connection)?;
        let wishes = Wishes {
            table: self.table.as_deref(),
            columns: self.names.iter().map(|name| &**name).collect(),
            key: self.key.as_deref(),
            on_conflict: &self.on_conflict,
            batch_table: self.batch_table.as_deref(),
        };
        let plan = Arc::new(Plan::check(&connection, &wishes)?);
        let _ = self.plan.set(Arc::clone(&plan));
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);

        let builder = builder
            .default_initial_batch_size(INITIAL_BATCH_SIZE)
            .default_max_batch_size(MAX_BATCH_SIZE);
        let builder = if plan.sort_by.is_empty() {
            builder.default_unordered()
        } else {
            let columns = self.columns.clone();
            builder.default_order_by(move |row| {
                let mut hasher = DefaultHasher::new();
                for place in &plan.sort_by {
                    hash(&columns[*place].key(row), &mut hasher);
                }
                hasher.finish()
            })
        };
        let mut builder = match self.weigh.clone() {
            Some(weigh) => {
                builder.default_max_batch_weight(MAX_BATCH_WEIGHT, move |row| weigh(row))
            }
            None => {
                let columns = self.columns.clone();
                builder.default_max_batch_weight(MAX_BATCH_WEIGHT, move |row| {
                    columns.iter().map(|column| column.weight(row)).sum()
                })
            }
        };
        if self.on_conflict != OnConflict::Fail || self.batch_table.is_some() {
            builder = builder.idempotent(true);
        }
        if self.batch_table.is_some() {
            builder = builder.adjust_retry(|retry| retry.bisect(false));
        }
        if matches!(self.sensor, SensorChoice::BuiltIn) {
            builder = builder.custom_signal(TIMEOUTS, TIMEOUTS_WEIGHT);
        }
        Ok(builder)
    }

    fn connect(&self, _worker: Worker) -> Result<Writer<T>, BatchError> {
        let Some(plan) = self.plan.get() else {
            return Err(BatchError::misconfigured("the sink was not configured"));
        };
        let checked = self
            .checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let _watch = self.busy.watch(self.busy_timeout);
        let connection = match checked {
            Some(connection) => connection,
            None => self
                .new_connection()
                .map_err(|error| failed(error, Stage::Connect))?,
        };
        let shared = Shared {
            columns: self.columns.clone(),
            plan: Arc::clone(plan),
            busy: Arc::clone(&self.busy),
            doubts: Arc::clone(&self.doubts),
            before_commit: self.before_commit.clone(),
            busy_timeout: self.busy_timeout,
            keep_batches: self.keep_batches,
        };
        Ok(Writer::new(connection, shared))
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        match &self.sensor {
            SensorChoice::BuiltIn => Some(Box::new(BusySensor::new(Arc::clone(&self.busy)))),
            SensorChoice::Own(own) => own.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }
}

impl<T> fmt::Debug for Sqlite<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("table", &self.table)
            .field("columns", &self.names)
            .field("on_conflict", &self.on_conflict)
            .field("key", &self.key)
            .field("batch_table", &self.batch_table)
            .finish_non_exhaustive()
    }
}
