//! The sink: what the user says, and how it connects.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::ops::DerefMut;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Builder, Sensor, Sink, SinkError, Worker};
use postgres::tls::{MakeTlsConnect, TlsConnect};
use postgres::types::{ToSql, Type};
use postgres::{Client, Config, NoTls, Socket, Transaction};

use crate::column::{Column, Computed, Held};
use crate::connection::{AnyError, Link, Session, Source};
use crate::doubts::Doubts;
use crate::failure::{Problem, not_connected, text};
use crate::load::{DEADLOCKS, ServerSensor, TIMEOUTS, Timeouts};
use crate::on_conflict::OnConflict;
use crate::plan::{Plan, Wanted, Wishes};
use crate::writer::{BeforeCommit, Shared, Writer};

/// The largest batch where the user sets none.
const MAX_BATCH_SIZE: usize = 50_000;
/// The first batch where neither the user nor the policy sets its size.
const INITIAL_BATCH_SIZE: usize = 500;
/// The weight limit where the user sets none, in bytes.
const MAX_BATCH_WEIGHT: usize = 16 << 20;
/// How much the custom signals count in a load score.
const SIGNALS: [(&str, f64); 2] = [(DEADLOCKS, 0.1), (TIMEOUTS, 0.2)];

/// Writes rows of type `T` into one table of a PostgreSQL server, from version 12; for
/// [`Builder::sink`](load_aware_batcher::Builder::sink).
///
/// Each batch is one transaction. It goes by `COPY` in the binary format, in the order of the key,
/// into an ordinary or a partitioned table without rules and row-level security. Other tables get
/// one `INSERT … SELECT` a batch. So does a batch of which a key is in the table already, as
/// [`on_conflict`](Self::on_conflict) says. A row that the server refuses is reported alone.
///
/// What [`column`](Self::column) does not name takes its default. What is wrong with the address,
/// the login, the table or a column is an error of `Builder::sink`, in one sentence.
///
/// Every session gets a `statement_timeout` and a `lock_timeout`. The sink sets
/// what the user has not set on the builder: 500 rows in the first batch, at most 50 000 rows and 16 MiB a batch. It sets
/// `idempotent(true)` for [`OnConflict::Ignore`], [`OnConflict::Update`], [`OnConflict::Replace`]
/// and for [`batch_table`](Self::batch_table).
///
/// ```no_run
/// # use load_aware_batcher_postgres::load_aware_batcher::Batcher;
/// # use load_aware_batcher_postgres::Postgres;
/// struct Reading { id: i64, value: f64 }
///
/// let sink = Postgres::from_url("postgres://me:secret@localhost/shop")
///     .table("readings")
///     .column("id", |r: &Reading| &r.id)
///     .column("value", |r| &r.value);
/// let batcher = Batcher::builder().sink(sink)?;
/// batcher.add(Reading { id: 1, value: 0.5 })?;
/// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Postgres<T> {
    source: Arc<Source>,
    session: Session,
    table: Option<String>,
    names: Vec<String>,
    columns: Vec<Arc<dyn Column<T>>>,
    on_conflict: OnConflict,
    key: Option<Vec<String>>,
    batch_table: Option<String>,
    keep_batches: Duration,
    sensor: SensorChoice,
    before_commit: Option<Arc<BeforeCommit<T>>>,
    weigh: Option<Arc<Weigh<T>>>,
    timeouts: Arc<Timeouts>,
    doubts: Arc<Doubts>,
    plan: OnceLock<Arc<Plan>>,
    /// The connection that the table was checked on, for the first writer.
    checked: Mutex<Option<Link>>,
}

type Weigh<T> = dyn Fn(&T) -> usize + Send + Sync;

enum SensorChoice {
    BuiltIn,
    Own(Mutex<Option<Box<dyn Sensor>>>),
}

impl<T> Postgres<T> {
    /// Rows for the server that this configuration names. Time-outs that it sets are kept.
    ///
    /// ```
    /// use load_aware_batcher_postgres::{Postgres, postgres::Config};
    ///
    /// let mut config = Config::new();
    /// config.host("localhost").user("me").dbname("shop");
    /// let sink = Postgres::<i64>::new(config);
    /// # let _ = sink;
    /// ```
    pub fn new(config: Config) -> Self {
        Self::of(Source::Config {
            config: Box::new(config),
            by: Box::new(|config| config.connect(NoTls)),
        })
    }

    /// Rows for the server that this URL names, `postgres://user:password@host:5432/database`, or
    /// that a text such as `host=/run/postgresql user=me` names. What cannot be read is an error of
    /// `Builder::sink`.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::load_aware_batcher::Batcher;
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::from_url("mysql://localhost").table("t").column("id", |id: &i64| id);
    /// let error = Batcher::builder().sink(sink).unwrap_err();
    /// assert!(error.to_string().starts_with("cannot connect to the server: "), "{error}");
    /// ```
    pub fn from_url(url: &str) -> Self {
        match url.parse::<Config>() {
            Ok(config) => Self::new(config),
            Err(error) => Self::of(Source::BadUrl(error)),
        }
    }

    /// Rows for the server that `connect` connects to: by a pool's connections, or by connections
    /// of one's own making. Called for each connection, the sensor's too. The sink changes the
    /// settings of their sessions.
    ///
    /// ```
    /// use load_aware_batcher_postgres::{Postgres, postgres::{Client, NoTls}};
    ///
    /// let sink = Postgres::<i64>::from_fn(|| {
    ///     Client::connect("postgres://me:secret@localhost/shop", NoTls).map(Box::new)
    /// });
    /// # let _ = sink;
    /// ```
    ///
    /// A pool gives a connection to each worker and to the sensor, for as long as they run. It
    /// should be the sink's own, because of the changed settings:
    ///
    /// ```no_run
    /// use load_aware_batcher_postgres::{Postgres, postgres::NoTls};
    /// use r2d2_postgres::{PostgresConnectionManager, r2d2};
    ///
    /// let config = "postgres://me:secret@localhost/shop".parse()?;
    /// let manager = PostgresConnectionManager::new(config, NoTls);
    /// let pool = r2d2::Pool::builder().max_size(2).build(manager)?;
    /// let sink = Postgres::<i64>::from_fn(move || pool.get());
    /// # let _ = sink;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_fn<C, E>(connect: impl Fn() -> Result<C, E> + Send + Sync + 'static) -> Self
    where
        C: DerefMut<Target = Client> + Send + 'static,
        E: Into<AnyError>,
    {
        Self::of(Source::Made(Box::new(move || match connect() {
            Ok(connection) => Ok(Box::new(connection)),
            Err(error) => Err(error.into()),
        })))
    }

    /// Connects by TLS, as `sslmode` of the configuration says. Default without. Has no effect on
    /// connections of [`from_fn`](Self::from_fn).
    ///
    /// ```
    /// use load_aware_batcher_postgres::{Postgres, postgres::NoTls};
    ///
    /// // In its place the connector of a TLS library.
    /// let sink = Postgres::<i64>::from_url("postgres://me@localhost/shop").tls(NoTls);
    /// # let _ = sink;
    /// ```
    pub fn tls<M>(mut self, connector: M) -> Self
    where
        M: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        M::TlsConnect: Send,
        M::Stream: Send,
        <M::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        // Shared with nobody before the sensor starts.
        if let Some(Source::Config { by, .. }) = Arc::get_mut(&mut self.source) {
            *by = Box::new(move |config| config.connect(connector.clone()));
        }
        self
    }

    fn of(source: Source) -> Self {
        Self {
            source: Arc::new(source),
            session: Session {
                statement_timeout: Duration::from_secs(60),
                lock_timeout: Duration::from_secs(5),
                statements: Vec::new(),
            },
            table: None,
            names: Vec::new(),
            columns: Vec::new(),
            on_conflict: OnConflict::default(),
            key: None,
            batch_table: None,
            keep_batches: Duration::from_secs(24 * 3_600),
            sensor: SensorChoice::BuiltIn,
            before_commit: None,
            weigh: None,
            timeouts: Arc::default(),
            doubts: Arc::default(),
            plan: OnceLock::new(),
            checked: Mutex::default(),
        }
    }

    /// The table, a partitioned or a foreign table, or a view that takes rows. `schema.table` names
    /// a schema; without one the `search_path` decides. Names are taken as they are, in upper and
    /// lower case; a part with a dot in it stands in double quotes. Required.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::<i64>::from_url("postgres://me@localhost/shop").table("shop.\"readings.2026\"");
    /// # let _ = sink;
    /// ```
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// A column, and where a row holds its value. At least one column is required. Null is `None`
    /// of an `Option`. The type must be one that the driver writes to the column's type: that is
    /// checked at the start. A value that does not fit the column fails its row alone.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// struct Reading { id: i64, note: Option<String> }
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
    ///     .table("readings")
    ///     .column("id", |r: &Reading| &r.id)
    ///     .column("note", |r| &r.note);
    /// # let _ = sink;
    /// ```
    pub fn column<V: ?Sized + 'static>(
        mut self,
        name: impl Into<String>,
        value: impl for<'a> Fn(&'a T) -> &'a V + Send + Sync + 'static,
    ) -> Self
    where
        T: 'static,
        for<'a> &'a V: ToSql,
    {
        self.names.push(name.into());
        self.columns.push(Arc::new(Held(value)));
        self
    }

    /// A column, and how its value is made from a row. Called once a row and attempt. Counts 12
    /// bytes of the batch's weight: see [`weigh`](Self::weigh).
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
    ///     .table("words")
    ///     .column("word", |word: &String| word)
    ///     .computed("length", |word| word.len() as i32);
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
    /// With a mode other than `Fail` a batch is first tried by plain `COPY`. If a key is there
    /// already, that is rolled back. For `Ignore` the server is then asked which keys it has, and
    /// the other rows are copied. For `Update` and `Replace`, and where another writer was faster,
    /// one `INSERT … ON CONFLICT` writes the batch. After a conflict the next batch goes that way
    /// without a trial; while trials meet conflicts these are the next 2, 4, … up to 64 batches. A
    /// trial without a conflict ends that. A batch whose commit had no answer goes that way at once.
    ///
    /// ```
    /// use load_aware_batcher_postgres::{OnConflict, Postgres};
    ///
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
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

    /// The columns that tell rows apart. For a mode of [`on_conflict`](Self::on_conflict) other
    /// than `Fail` the table has a unique index on exactly these, neither partial nor deferrable.
    /// Rows are written in their order. Default the primary key, if its columns are written.
    ///
    /// With a [`concurrency`](load_aware_batcher::Builder::concurrency) over 1, rows of one key go
    /// through one connection in the order in which they were added, unless the builder says
    /// otherwise. Keys are compared as the driver sends them: a `numeric` 1.0 and 1.00 are two.
    /// Without a key the rows are unordered.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::{OnConflict, Postgres};
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
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
    /// once. Made if it is missing, with the columns `id` and `at`.
    ///
    /// Sets `idempotent(true)` and `Retry::bisect(false)` on the builder: such a batch is only ever
    /// sent again as a whole. Rows that the server refuses are still reported alone.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
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
    /// see `Retry::for_at_least`. Ids are removed with a writer's first batch and then once a
    /// minute.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// use std::time::Duration;
    ///
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
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

    /// How long a statement may take, the `COPY` of a batch too, before the server ends it and the
    /// batch is tried again. Default 60 s; at least 1 ms.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// use std::time::Duration;
    ///
    /// let sink = Postgres::<i64>::from_url("postgres://me@localhost/shop").statement_timeout(Duration::from_secs(20));
    /// # let _ = sink;
    /// ```
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.session.statement_timeout = timeout;
        self
    }

    /// How long a statement waits for a lock, on rows or on the table, before the batch is rolled
    /// back and tried again. Default 5 s; at least 1 ms.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// use std::time::Duration;
    ///
    /// let sink = Postgres::<i64>::from_url("postgres://me@localhost/shop").lock_timeout(Duration::from_secs(1));
    /// # let _ = sink;
    /// ```
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.session.lock_timeout = timeout;
        self
    }

    /// A statement for every new session of a writer, after the sink's own. Each call adds one.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::<i64>::from_url("postgres://me@localhost/shop").session("SET synchronous_commit = remote_apply");
    /// # let _ = sink;
    /// ```
    pub fn session(mut self, statement: impl Into<String>) -> Self {
        self.session.statements.push(statement.into());
        self
    }

    /// What measures the load. The default asks the server over a connection of its own: locks that
    /// are waited for (`db_locks`), sessions at work (`queue_depth`), deadlocks of the database and
    /// the writers' own time-outs (the custom signals `deadlocks` and `timeouts`, ten or more since
    /// the last sample as 1). `None` turns it off.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::<i64>::from_url("postgres://me@localhost/shop").sensor(None);
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
    /// The batch still holds the rows that the server refused. After a rollback it is called again.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
    ///     .table("log")
    ///     .column("line", |line: &String| line)
    ///     .before_commit(|transaction, batch| {
    ///         transaction.execute("UPDATE offsets SET lines = lines + $1", &[&(batch.len() as i64)])?;
    ///         Ok(())
    ///     });
    /// # let _ = sink;
    /// ```
    pub fn before_commit(
        mut self,
        call: impl Fn(&mut Transaction<'_>, &Batch<T>) -> Result<(), BatchError> + Send + Sync + 'static,
    ) -> Self {
        self.before_commit = Some(Arc::new(call));
        self
    }

    /// A row's weight in bytes, for the batch's limit of 16 MiB. The default adds up what the
    /// columns hold. Has no effect where the builder has a `max_batch_weight`.
    ///
    /// ```
    /// # use load_aware_batcher_postgres::Postgres;
    /// let sink = Postgres::from_url("postgres://me@localhost/shop")
    ///     .table("log")
    ///     .computed("line", |line: &String| line.to_uppercase())
    ///     .weigh(|line| line.len());
    /// # let _ = sink;
    /// ```
    pub fn weigh(mut self, bytes: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.weigh = Some(Arc::new(bytes));
        self
    }

    fn new_link(&self) -> Result<Link, AnyError> {
        let mut link = self.source.connect()?;
        self.session.set(&mut link)?;
        Ok(link)
    }

    /// Why there is no connection. At the start that is an error of `Builder::sink`, so it is a
    /// sentence and names the server. Later it is classified by the driver's own error.
    fn refused(&self, error: AnyError, worker: Worker) -> BatchError {
        if worker.times() > 0 {
            return not_connected(error);
        }
        BatchError::unavailable(format!(
            "cannot connect to {} for another call at once: {}",
            self.source,
            text(&*error)
        ))
    }

    fn check(&self, link: &mut Link) -> Result<Plan, Problem> {
        let accepts: Vec<_> = self
            .columns
            .iter()
            .map(|column| |ty: &Type| column.accepts(ty))
            .collect();
        let columns = self.names.iter().zip(&self.columns).zip(&accepts);
        let wishes = Wishes {
            table: self.table.as_deref(),
            columns: columns
                .map(|((name, column), accepts)| Wanted {
                    name,
                    rust_type: column.rust_type(),
                    accepts,
                })
                .collect(),
            key: self.key.as_deref(),
            on_conflict: &self.on_conflict,
            batch_table: self.batch_table.as_deref(),
        };
        Plan::check(link, &wishes)
    }
}

impl<T: Send + 'static> Sink<T> for Postgres<T> {
    type Handler = Writer<T>;

    fn configure(&self, builder: Builder<T>) -> Result<Builder<T>, SinkError> {
        let mut link = self.new_link().map_err(|error| {
            SinkError::new(format!(
                "cannot connect to {}: {}",
                self.source,
                text(&*error)
            ))
        })?;
        let plan = Arc::new(self.check(&mut link).map_err(Problem::into_sink_error)?);
        let _ = self.plan.set(Arc::clone(&plan));
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);

        let builder = builder
            .default_initial_batch_size(INITIAL_BATCH_SIZE)
            .default_max_batch_size(MAX_BATCH_SIZE);
        let builder = if plan.key.is_empty() {
            builder.default_unordered()
        } else {
            let (columns, plan) = (self.columns.clone(), Arc::clone(&plan));
            builder.default_order_by(move |row| {
                let mut hasher = DefaultHasher::new();
                for place in &plan.key {
                    columns[*place].hash(row, &plan.columns[*place].ty, &mut hasher);
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
                    let columns = columns.iter().zip(&plan.columns);
                    columns.map(|(column, is)| column.weight(row, &is.ty)).sum()
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
            for (name, weight) in SIGNALS {
                builder = builder.custom_signal(name, weight);
            }
        }
        Ok(builder)
    }

    fn connect(&self, worker: Worker) -> Result<Writer<T>, BatchError> {
        let Some(plan) = self.plan.get() else {
            return Err(BatchError::misconfigured("the sink was not configured"));
        };
        let checked = self
            .checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (link, plan) = match checked {
            Some(link) => (link, Arc::clone(plan)),
            None => {
                let mut link = self
                    .new_link()
                    .map_err(|error| self.refused(error, worker))?;
                // The table may have changed meanwhile, and that may be why there is a new
                // connection.
                let plan = self.check(&mut link).map_err(Problem::into_batch_error)?;
                (link, Arc::new(plan))
            }
        };
        let shared = Shared {
            columns: self.columns.clone(),
            plan,
            timeouts: Arc::clone(&self.timeouts),
            doubts: Arc::clone(&self.doubts),
            before_commit: self.before_commit.clone(),
            keep_batches: self.keep_batches,
        };
        Ok(Writer::new(link, shared))
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        match &self.sensor {
            SensorChoice::BuiltIn => {
                let (source, timeouts) = (Arc::clone(&self.source), Arc::clone(&self.timeouts));
                Some(Box::new(ServerSensor::new(source, timeouts)))
            }
            SensorChoice::Own(own) => own.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }
}

impl<T> fmt::Debug for Postgres<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("table", &self.table)
            .field("columns", &self.names)
            .field("on_conflict", &self.on_conflict)
            .field("key", &self.key)
            .field("batch_table", &self.batch_table)
            .finish_non_exhaustive()
    }
}
