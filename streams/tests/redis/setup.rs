//! A stream, a table, and what is asked of both.

use std::time::{Duration, Instant};

use load_aware_batcher_postgres::load_aware_batcher::{Batcher, Retry};
use load_aware_batcher_postgres::postgres::{Client, Config};
use load_aware_batcher_postgres::{OnConflict, Postgres};
use load_aware_batcher_streams::redis::{Commands, Connection, Value, cmd};
use load_aware_batcher_streams::{Consumer, Delivery, EntryId, Options, RedisSource, redis};
use testkit::servers::postgres::Postgres as Database;
use testkit::servers::redis::Redis;

/// A net, not a measure.
pub const LONG: Duration = Duration::from_secs(300);
/// After this a consumer's entries are claimed by others.
pub const CLAIM: Duration = Duration::from_millis(600);

/// A row that carries the id of its entry.
pub struct Row {
    ms: i64,
    seq: i64,
    n: i64,
}

pub fn decode(delivery: &Delivery<EntryId>) -> Result<Row, String> {
    let n: i64 = delivery.parse("n")?;
    if n == ABORTS {
        // As a defect of a driver in C would.
        std::process::abort();
    }
    let part = |part: u64| i64::try_from(part).map_err(|error| error.to_string());
    Ok(Row {
        ms: part(delivery.id.ms)?,
        seq: part(delivery.id.seq)?,
        n,
    })
}

/// The number of an entry that ends its process. No other is so small.
pub const ABORTS: i64 = i64::MIN;
/// The number that the table refuses.
pub const REFUSED: i64 = -1;

pub const TABLE: &str = "CREATE TABLE rows (ms bigint, seq bigint, n bigint CHECK (n <> -1), \
     PRIMARY KEY (ms, seq))";

pub fn batcher(config: Config, capacity: usize) -> Batcher<Row> {
    let sink = Postgres::new(config)
        .table("rows")
        .column("ms", |row: &Row| &row.ms)
        .column("seq", |row| &row.seq)
        .column("n", |row| &row.n)
        .on_conflict(OnConflict::Ignore);
    let builder = Batcher::builder()
        .queue_capacity(capacity)
        .linger(Duration::from_millis(20))
        .retry(Retry::attempts(3));
    builder.sink(sink).expect("the table fits")
}

pub fn source(url: &str, name: &str) -> RedisSource {
    RedisSource::new(url, "in", "g", name).claim_idle(CLAIM)
}

pub fn options() -> Options {
    Options::new().capacity(500).keep_every(CLAIM / 4)
}

pub fn consumer(url: &str, config: Config, name: &str) -> Consumer {
    Consumer::start(source(url, name), batcher(config, 500), options(), decode).expect("it starts")
}

/// Both servers, an empty table, and a group on an empty stream.
pub struct Setup {
    pub redis: Redis,
    pub database: Database,
    pub config: Config,
}

impl Setup {
    pub fn new() -> Option<Self> {
        let redis = Redis::own(&[])?;
        let database = Database::own(&[])?;
        let (config, mut client) = database.database("streams");
        client.batch_execute(TABLE).expect("a table");
        let setup = Self {
            redis,
            database,
            config,
        };
        let _: () = setup
            .con()
            .xgroup_create_mkstream("in", "g", "0")
            .expect("a group");
        Some(setup)
    }

    pub fn con(&self) -> Connection {
        let client = redis::Client::open(self.redis.url()).expect("its address");
        client.get_connection().expect("it answers")
    }

    pub fn client(&self) -> Client {
        use load_aware_batcher_postgres::postgres::NoTls;
        self.config.connect(NoTls).expect("it answers")
    }

    pub fn pending(&self) -> u64 {
        let summary: Vec<Value> = cmd("XPENDING")
            .arg("in")
            .arg("g")
            .query(&mut self.con())
            .expect("a summary");
        redis::from_redis_value(summary[0].clone()).expect("a number")
    }

    /// Rows, and the sum of their numbers.
    pub fn stored(&self) -> (i64, i64) {
        let row = self
            .client()
            .query_one("SELECT count(*), sum(n)::bigint FROM rows", &[]);
        let row = row.expect("the rows");
        (row.get(0), row.get::<_, Option<i64>>(1).unwrap_or(0))
    }

    /// The dead letters: the number each had, and why.
    pub fn dead(&self) -> Vec<(String, String)> {
        let entries: Vec<(String, Vec<(String, String)>)> = cmd("XRANGE")
            .arg("{in}:g:dead")
            .arg("-")
            .arg("+")
            .query(&mut self.con())
            .expect("a stream");
        let field = |entry: &[(String, String)], name: &str| {
            let field = entry.iter().find(|(field, _)| field == name);
            field.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        entries
            .iter()
            .map(|(_, entry)| (field(entry, "n"), field(entry, "why")))
            .collect()
    }

    /// Entries of the stream that no row has, and of those that have none any more in the group's
    /// list of pending ones: acknowledged and not stored.
    pub fn entries(&self) -> i64 {
        self.con().xlen("in").expect("a length")
    }

    /// Whether every entry is read and acknowledged.
    pub fn is_drained(&self) -> bool {
        let groups: Vec<Vec<Value>> = cmd("XINFO")
            .arg("GROUPS")
            .arg("in")
            .query(&mut self.con())
            .expect("its groups");
        let lag: Option<u64> = groups[0].chunks(2).find_map(|pair| {
            let name: String = redis::from_redis_value(pair[0].clone()).ok()?;
            (name == "lag").then(|| redis::from_redis_value(pair[1].clone()).ok())?
        });
        lag == Some(0) && self.pending() == 0
    }
}

/// Adds entries with these numbers, in pipelines.
pub fn produce(
    con: &mut Connection,
    numbers: impl IntoIterator<Item = i64>,
) -> redis::RedisResult<()> {
    let numbers: Vec<i64> = numbers.into_iter().collect();
    for numbers in numbers.chunks(500) {
        let mut pipe = redis::pipe();
        for n in numbers {
            pipe.cmd("XADD")
                .arg("in")
                .arg("*")
                .arg("n")
                .arg(*n)
                .ignore();
        }
        pipe.query::<()>(con)?;
    }
    Ok(())
}

/// Waits until this holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
