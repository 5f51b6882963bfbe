//! Streams of a real Redis Cluster, whose masters are killed and replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use load_aware_batcher_rusqlite::{OnConflict, Sqlite, rusqlite};
use load_aware_batcher_streams::load_aware_batcher::Batcher;
use load_aware_batcher_streams::redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use load_aware_batcher_streams::redis::{self, Value, cmd};
use load_aware_batcher_streams::{Consumer, Delivery, EntryId, RedisSource};
use testkit::servers::redis_cluster::RedisCluster;

use crate::lossy::{Armed, lossy};
use crate::setup::{CLAIM, LONG, options, until};

const MASTERS: usize = 3;

/// A row that carries its stream and the id of its entry.
struct Row {
    stream: String,
    ms: i64,
    seq: i64,
    n: i64,
}

type Rows = BTreeSet<(String, i64, i64, i64)>;

/// A cluster, two streams on each of its masters, each with a group, and a database.
struct Setup {
    cluster: RedisCluster,
    streams: Vec<String>,
    database: PathBuf,
    _folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Option<Self> {
        let cluster = RedisCluster::own(MASTERS)?;
        let mut of: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for number in 0.. {
            let stream = format!("in{number}");
            let streams = of.entry(cluster.owner(&stream)).or_default();
            if streams.len() < 2 {
                streams.push(stream);
            }
            if of.len() == MASTERS && of.values().all(|streams| streams.len() == 2) {
                break;
            }
        }
        let streams: Vec<String> = of.into_values().flatten().collect();
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("rows");
        let table = "CREATE TABLE rows (stream TEXT, ms INTEGER, seq INTEGER, n INTEGER, \
             PRIMARY KEY (stream, ms, seq)) WITHOUT ROWID";
        let connection = rusqlite::Connection::open(&database).expect("a database");
        connection.execute(table, []).expect("a table");
        let setup = Self {
            cluster,
            streams,
            database,
            _folder: folder,
        };
        let mut con = setup.con();
        for stream in &setup.streams {
            let mut create = cmd("XGROUP");
            create
                .arg("CREATE")
                .arg(stream)
                .arg("g")
                .arg("0")
                .arg("MKSTREAM");
            create.exec(&mut con).expect("a group");
        }
        Some(setup)
    }

    fn con(&self) -> ClusterConnection {
        connect(self.cluster.urls()).expect("it answers")
    }

    fn consumers(&self) -> Vec<Consumer> {
        let consumer = |stream: &String| consumer(self.cluster.urls(), stream, &self.database);
        self.streams.iter().map(consumer).collect()
    }

    fn stored(&self) -> Rows {
        let connection = rusqlite::Connection::open(&self.database).expect("a database");
        connection
            .busy_timeout(LONG)
            .expect("a time that it can wait");
        let mut statement = connection
            .prepare("SELECT stream, ms, seq, n FROM rows")
            .expect("the rows");
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        });
        rows.expect("the rows")
            .collect::<Result<_, _>>()
            .expect("the rows")
    }

    /// The entries of all streams.
    fn entries(&self) -> Rows {
        let mut con = self.con();
        let mut all = Rows::new();
        for stream in &self.streams {
            let entries: Vec<(String, Vec<(String, i64)>)> = cmd("XRANGE")
                .arg(stream)
                .arg("-")
                .arg("+")
                .query(&mut con)
                .expect("its entries");
            all.extend(entries.into_iter().map(|(id, fields)| {
                let id: EntryId = id.parse().expect("an id");
                (stream.clone(), id.ms as i64, id.seq as i64, fields[0].1)
            }));
        }
        all
    }

    /// Whether every entry of every stream is read and acknowledged.
    fn is_drained(&self) -> bool {
        let Ok(mut con) = connect(self.cluster.urls()) else {
            return false;
        };
        self.streams
            .iter()
            .all(|stream| open(&mut con, stream).is_ok_and(|open| open == 0))
    }
}

fn connect(urls: Vec<String>) -> redis::RedisResult<ClusterConnection> {
    ClusterClient::builder(urls)
        .response_timeout(LONG)
        .retries(0)
        .build()?
        .get_connection()
}

fn consumer(urls: Vec<String>, stream: &str, database: &Path) -> Consumer {
    let sink = Sqlite::open(database)
        .table("rows")
        .column("stream", |row: &Row| &row.stream)
        .column("ms", |row| &row.ms)
        .column("seq", |row| &row.seq)
        .column("n", |row| &row.n)
        .on_conflict(OnConflict::Ignore);
    let batcher = Batcher::builder().queue_capacity(500).sink(sink);
    let source = RedisSource::new("", stream, "g", "c")
        .cluster(urls)
        .claim_idle(CLAIM);
    let stream = stream.to_owned();
    let decode = move |delivery: &Delivery<EntryId>| {
        let n = delivery.parse("n")?;
        Ok::<_, String>(Row {
            stream: stream.clone(),
            ms: delivery.id.ms as i64,
            seq: delivery.id.seq as i64,
            n,
        })
    };
    let batcher = batcher.expect("the table fits");
    Consumer::start(source, batcher, options(), decode).expect("it starts")
}

/// How many entries of a stream are not read or not acknowledged.
fn open(con: &mut ClusterConnection, stream: &str) -> redis::RedisResult<i64> {
    let groups: Vec<BTreeMap<String, Value>> = cmd("XINFO").arg("GROUPS").arg(stream).query(con)?;
    let number = |name: &str| redis::from_redis_value::<i64>(groups[0][name].clone());
    Ok(number("lag")? + number("pending")?)
}

/// Adds one entry with each number, to the streams in turn.
fn add(con: &mut ClusterConnection, streams: &[String], numbers: &[i64]) -> redis::RedisResult<()> {
    let mut pipe = cluster_pipe();
    for (n, stream) in numbers.iter().zip(streams.iter().cycle()) {
        let command = pipe.cmd("XADD");
        command.arg(stream).arg("*").arg("n").arg(*n).ignore();
    }
    pipe.exec(con)
}

#[test]
fn six_streams_of_a_cluster_are_stored_once_while_a_master_is_killed_and_returns() {
    let Some(mut setup) = Setup::new() else {
        return;
    };
    let (done, answered) = (AtomicBool::new(false), AtomicI64::new(0));
    let (urls, streams) = (setup.cluster.urls(), setup.streams.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut con = None;
            while !done.load(Ordering::SeqCst) {
                con = con.or_else(|| connect(urls.clone()).ok());
                let n = answered.load(Ordering::SeqCst);
                let numbers: Vec<i64> = (n..n + 60).collect();
                let added = con
                    .as_mut()
                    .is_some_and(|con| add(con, &streams, &numbers).is_ok());
                match added {
                    true => answered.store(n + 60, Ordering::SeqCst),
                    // What has no answer is added again, and may be in its stream twice.
                    false => con = None,
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let more = |setup: &Setup, what: &str| {
            let before = setup.stored().len();
            until(what, || setup.stored().len() >= before + 600);
        };
        let consumers = setup.consumers();
        more(&setup, "rows are stored");
        // Back before the others miss it.
        setup.cluster.kill(1);
        setup.cluster.start(1);
        more(&setup, "rows are stored after a short absence");
        // Away until the whole cluster refuses.
        setup.cluster.kill(1);
        setup.cluster.wait("the cluster is down", |cluster| {
            !cluster.is_ok(0) && !cluster.is_ok(2)
        });
        setup.cluster.start(1);
        setup.cluster.wait_until_ok();
        more(&setup, "rows are stored after a long absence");
        done.store(true, Ordering::SeqCst);
        until("the streams are drained", || setup.is_drained());
        for consumer in consumers {
            let report = consumer.stop(LONG);
            assert!(report.is_clean && report.books.buried == 0, "{report:?}");
        }
    });
    let stored = setup.stored();
    assert_eq!(stored, setup.entries(), "each entry is one row");
    let numbers: BTreeSet<i64> = stored.iter().map(|row| row.3).collect();
    let answered = answered.load(Ordering::SeqCst);
    let lost: Vec<i64> = (0..answered).filter(|n| !numbers.contains(n)).collect();
    assert!(lost.is_empty(), "{lost:?} of {answered}");
}

#[test]
fn a_stream_whose_master_is_killed_is_drained_on_the_replica_that_takes_its_place() {
    let Some(mut setup) = Setup::new() else {
        return;
    };
    let replica = setup.cluster.add_replica_of(0);
    let of_master: Vec<String> = setup.streams[..2].to_vec();
    let client = redis::Client::open(setup.cluster.url(0)).expect("its address");
    let mut master = client.get_connection().expect("it answers");
    let mut add = |numbers: std::ops::Range<i64>| {
        let mut pipe = redis::pipe();
        for (n, stream) in numbers.zip(of_master.iter().cycle()) {
            let command = pipe.cmd("XADD").arg(stream).arg("*");
            command.arg("n").arg(n).ignore();
        }
        pipe.exec(&mut master).expect("it answers");
        // The replica has them too: 1 is how many replicas answered.
        let replicas: i64 = cmd("WAIT").arg(1).arg(0).query(&mut master).unwrap();
        assert_eq!(replicas, 1);
    };
    add(0..1_000);
    let consumers = setup.consumers();
    until("rows are stored", || !setup.stored().is_empty());
    add(1_000..6_000);
    setup.cluster.kill(0);
    setup.cluster.wait("the replica is the master", |cluster| {
        let role = cluster.ask(replica, "ROLE").unwrap_or_default();
        role.contains("master") && cluster.is_ok(replica) && cluster.is_ok(1)
    });
    until("the streams are drained", || setup.is_drained());
    for consumer in consumers {
        let report = consumer.stop(LONG);
        assert!(report.is_clean && report.books.buried == 0, "{report:?}");
    }
    let stored = setup.stored();
    assert_eq!(stored, setup.entries(), "each entry is one row");
    assert_eq!(stored.len(), 6_000);
}

#[test]
fn a_stream_that_moves_to_another_node_while_both_live_is_followed() {
    let Some(mut setup) = Setup::new() else {
        return;
    };
    let replica = setup.cluster.add_replica_of(0);
    let consumers = setup.consumers();
    let add = |setup: &Setup, numbers: std::ops::Range<i64>| {
        let numbers: Vec<i64> = numbers.collect();
        add(&mut setup.con(), &setup.streams, &numbers).expect("they answer");
        until("the streams are drained", || setup.is_drained());
    };
    add(&setup, 0..600);
    // In order: nothing is lost, and the old master answers that it is not the one any more.
    setup.cluster.told(replica, "CLUSTER FAILOVER");
    setup.cluster.wait("they have changed places", |cluster| {
        let role = cluster.ask(0, "ROLE").unwrap_or_default();
        role.contains("slave") && (0..=replica).all(|node| cluster.is_ok(node))
    });
    add(&setup, 600..1_200);
    for consumer in consumers {
        let report = consumer.stop(LONG);
        assert!(report.is_clean && report.books.buried == 0, "{report:?}");
    }
    let stored = setup.stored();
    assert_eq!(stored, setup.entries(), "each entry is one row");
    assert_eq!(stored.len(), 1_200);
}

#[test]
fn entries_whose_delivery_is_lost_on_the_way_are_stored_without_a_restart() {
    let Some(setup) = Setup::new() else { return };
    let stream = &setup.streams[0];
    let armed = Armed::default();
    let port = lossy(setup.cluster.port(0), &armed);
    let urls = vec![format!("redis://127.0.0.1:{port}/")];
    setup
        .cluster
        .told(0, &format!("CONFIG SET cluster-announce-port {port}"));
    until("the node announces the proxy", || {
        let slots = setup.cluster.ask(0, "CLUSTER SLOTS").unwrap_or_default();
        slots.contains(&format!(":{port}\r\n"))
    });
    let consumer = consumer(urls, stream, &setup.database);
    armed.arm();
    let client = redis::Client::open(setup.cluster.url(0)).expect("its address");
    let mut con = client.get_connection().expect("it answers");
    let mut pipe = redis::pipe();
    for n in 0..100 {
        let command = pipe.cmd("XADD").arg(stream).arg("*");
        command.arg("n").arg(n).ignore();
    }
    pipe.exec(&mut con).expect("it answers");
    until("all are stored", || consumer.snapshot().acknowledged == 100);
    assert!(armed.has_lost());
    let report = consumer.stop(LONG);
    assert!(report.is_clean, "{report:?}");
    let stored: Vec<i64> = setup.stored().into_iter().map(|row| row.3).collect();
    assert_eq!(stored, (0..100).collect::<Vec<i64>>());
}
