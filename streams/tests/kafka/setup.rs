//! A topic, a table, and what is asked of both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use load_aware_batcher_rusqlite::{OnConflict, Sqlite, rusqlite};
use load_aware_batcher_streams::load_aware_batcher::Batcher;
use load_aware_batcher_streams::rdkafka::ClientConfig;
use load_aware_batcher_streams::rdkafka::consumer::{BaseConsumer, Consumer as _};
use load_aware_batcher_streams::rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use load_aware_batcher_streams::rdkafka::mocking::MockCluster;
use load_aware_batcher_streams::rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer,
};
use load_aware_batcher_streams::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use load_aware_batcher_streams::{Consumer, Delivery, KafkaSource, Options, RecordId};

pub const TOPIC: &str = "in";
pub const GROUP: &str = "g";
pub const DEAD: &str = "in.g.dead";
pub const PARTITIONS: i32 = 4;
/// The number that the table refuses.
pub const REFUSED: i64 = -1;
/// The mock keeps the first member of a group waiting for 3 s, and forgets a member whose session ends
/// meanwhile.
pub const SESSION_MS: &str = "5000";
/// A net, not a measure.
pub const LONG: Duration = Duration::from_secs(120);

pub struct Row {
    pub partition: i32,
    pub offset: i64,
    pub n: i64,
}

pub fn decode(delivery: &Delivery<RecordId>) -> Result<Row, String> {
    Ok(Row {
        partition: delivery.id.partition,
        offset: delivery.id.offset,
        n: delivery.parse("value")?,
    })
}

pub fn sink(database: &Path) -> Sqlite<Row> {
    Sqlite::open(database)
        .table("rows")
        .column("partition", |row: &Row| &row.partition)
        .column("offset", |row| &row.offset)
        .column("n", |row| &row.n)
        .on_conflict(OnConflict::Ignore)
}

pub fn options() -> Options {
    Options::new().capacity(500)
}

pub fn source(brokers: &str) -> KafkaSource {
    KafkaSource::new(brokers, TOPIC, GROUP)
        .set("session.timeout.ms", SESSION_MS)
        .set("heartbeat.interval.ms", "200")
        .commit_every(Duration::from_millis(50))
}

pub fn consumer(source: KafkaSource, database: &Path) -> Consumer {
    let batcher = Batcher::builder().queue_capacity(500).sink(sink(database));
    let batcher = batcher.expect("the table fits");
    Consumer::start(source, batcher, options(), decode).expect("it starts")
}

/// A mock cluster with the topic and that of the dead letters, and an empty table.
pub struct Setup {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    pub database: PathBuf,
    _folder: tempfile::TempDir,
}

impl Setup {
    pub fn new() -> Self {
        let cluster = MockCluster::new(3).expect("a mock cluster");
        cluster.create_topic(TOPIC, PARTITIONS, 3).expect("a topic");
        cluster.create_topic(DEAD, 1, 3).expect("a topic");
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("rows");
        let table = "CREATE TABLE rows (partition INTEGER, offset INTEGER, n INTEGER CHECK (n <> -1), \
             PRIMARY KEY (partition, offset)) WITHOUT ROWID";
        let connection = rusqlite::Connection::open(&database).expect("a database");
        connection.execute(table, []).expect("a table");
        Self {
            producer: client(&cluster).create().expect("a producer"),
            cluster,
            database,
            _folder: folder,
        }
    }

    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Adds one record with each number, to the partitions in turn.
    pub fn produce(&self, numbers: impl IntoIterator<Item = i64>) {
        for (partition, n) in (0..PARTITIONS).cycle().zip(numbers) {
            self.add(partition, &n.to_string());
        }
        self.producer.flush(LONG).expect("the mock answers");
    }

    /// Adds one record, which is there after the next `produce`.
    pub fn add(&self, partition: i32, value: &str) {
        let headers = OwnedHeaders::new().insert(Header {
            key: "by",
            value: Some("setup"),
        });
        let record = BaseRecord::to(TOPIC).partition(partition).key("k");
        let record = record.payload(value).headers(headers);
        let sent = self.producer.send(record);
        sent.map_err(|(error, _)| error).expect("room in the queue");
    }

    /// Partition, offset and number of each row.
    pub fn stored(&self) -> BTreeSet<(i32, i64, i64)> {
        let connection = rusqlite::Connection::open(&self.database).expect("a database");
        connection.busy_timeout(LONG).expect("a time to wait");
        let mut statement = connection
            .prepare("SELECT partition, offset, n FROM rows")
            .expect("the rows");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let rows = rows.expect("the rows").collect::<Result<_, _>>();
        rows.expect("the rows")
    }

    /// What the group has committed for each partition; 0 for nothing.
    pub fn committed(&self) -> Vec<i64> {
        let mut config = client(&self.cluster);
        // Asks and does not join.
        let asks: BaseConsumer = config.set("group.id", GROUP).create().expect("a client");
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(TOPIC, 0, PARTITIONS - 1);
        let offsets = asks.committed_offsets(partitions, LONG);
        let offsets = offsets.expect("the mock answers");
        let offset = |offset: Offset| match offset {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        let offsets = offsets.elements_for_topic(TOPIC);
        offsets
            .iter()
            .map(|element| offset(element.offset()))
            .collect()
    }

    /// The dead letters: key, value and headers of each.
    pub fn dead(&self) -> Vec<Letter> {
        let mut config = client(&self.cluster);
        let reads: BaseConsumer = config.set("group.id", "reads").create().expect("a client");
        let mut partitions = TopicPartitionList::new();
        let added = partitions.add_partition_offset(DEAD, 0, Offset::Beginning);
        added.expect("a partition");
        reads.assign(&partitions).expect("a partition");
        let (_, end) = reads.fetch_watermarks(DEAD, 0, LONG).expect("its end");
        let mut letters = Vec::new();
        while (letters.len() as i64) < end {
            if let Some(message) = reads.poll(LONG) {
                let message = message.expect("a letter");
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                };
                let headers = message.headers().expect("headers");
                letters.push(Letter {
                    key: text(message.key()),
                    value: text(message.payload()),
                    headers: headers
                        .iter()
                        .map(|header| (header.key.to_owned(), text(header.value)))
                        .collect(),
                });
            }
        }
        letters
    }
}

#[derive(Debug, PartialEq)]
pub struct Letter {
    pub key: String,
    pub value: String,
    pub headers: Vec<(String, String)>,
}

fn client(cluster: &MockCluster<'static, DefaultProducerContext>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    config
}

/// The rows of `produce(0..count)` into an empty topic.
pub fn rows(count: i64) -> BTreeSet<(i32, i64, i64)> {
    let partitions = i64::from(PARTITIONS);
    (0..count)
        .map(|n| ((n % partitions) as i32, n / partitions, n))
        .collect()
}

/// Waits until this holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
