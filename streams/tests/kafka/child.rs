//! A consumer as a process of its own: this test program again.

use std::process::{Child, Command, Stdio};

use load_aware_batcher_rusqlite::rusqlite;
use load_aware_batcher_streams::Consumer;
use load_aware_batcher_streams::load_aware_batcher::{Batch, Batcher, LoadFeedback};

use crate::setup::{LONG, Row, Setup, decode, options, source};

/// Set for the child alone.
const BROKERS: &str = "CONSUMER_BROKERS";
/// So many rows the child stores, then no more.
pub const STORES: usize = 1_000;

/// What the child runs until it is killed. In the run of all tests, where no parent has set the
/// variables, there is nothing to do.
#[test]
fn process() {
    let Ok(brokers) = std::env::var(BROKERS) else {
        return;
    };
    let database = std::env::var("CONSUMER_INTO").expect("set by the parent");
    let mut database = rusqlite::Connection::open(database).expect("a database");
    database.busy_timeout(LONG).expect("a time to wait");
    let mut stored = 0;
    let batcher = Batcher::builder()
        .idempotent(true)
        .queue_capacity(500)
        .max_batch_size(50)
        .spawn(move |batch: &mut Batch<Row>| {
            while stored + batch.len() > STORES {
                std::thread::park();
            }
            let transaction = database.transaction()?;
            for row in batch.iter() {
                let row = (row.partition, row.offset, row.n);
                transaction.execute("INSERT OR IGNORE INTO rows VALUES (?1, ?2, ?3)", row)?;
            }
            transaction.commit()?;
            stored += batch.len();
            Ok(LoadFeedback::new())
        });
    let batcher = batcher.expect("it starts");
    let consumer = Consumer::start(source(&brokers), batcher, options(), decode);
    let _consumer = consumer.expect("it starts");
    loop {
        std::thread::park();
    }
}

pub struct Process(Child);

impl Process {
    pub fn start(setup: &Setup) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child::process", "--nocapture"])
            .env(BROKERS, setup.brokers())
            .env("CONSUMER_INTO", &setup.database)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
