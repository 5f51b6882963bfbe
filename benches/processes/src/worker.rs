//! What a worker does: it connects, waits for `go`, adds rows as fast as they are taken, and reports
//! at `stop`. It ends with its standard input, so no worker outlives the bench.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use load_aware_batcher::{
    Batch, BatchError, Batcher, Builder, Fixed, Handler, LoadFeedback, Producer, Sensor, Sink,
    SinkError, Worker,
};
use load_aware_batcher_postgres::{OnConflict, Postgres};

use crate::Failure;
use crate::calls::Call;
use crate::database::{TABLE, config};
use crate::report::Report;
use crate::way::Way;

/// The argument that makes a worker of this program.
pub const NAME: &str = "worker";
/// What is said to a worker.
pub const GO: &str = "go";
pub const STOP: &str = "stop";
/// What a worker says when it is connected.
pub const READY: &str = "ready";

/// Rows of one `add_many`.
const CHUNK: i64 = 64;
/// The keys of a process begin at its number times this.
const KEYS: i64 = 1 << 40;

struct Row {
    id: i64,
    value: f64,
    text: &'static str,
}

/// The arguments of a worker: folder of the socket, number of the process, way.
pub fn arguments(folder: &Path, number: usize, way: Way) -> Vec<String> {
    let folder = folder.display().to_string();
    vec![NAME.to_owned(), folder, number.to_string(), way.argument()]
}

/// True once the report is sent.
pub fn work(arguments: &[String]) -> Result<bool, Failure> {
    let [folder, number, way] = arguments else {
        return Err("a worker needs a folder, a number and a way".into());
    };
    let number: i64 = number.parse()?;
    let way = Way::from_argument(way).ok_or_else(|| format!("there is no way {way:?}"))?;
    let calls = Arc::<Mutex<Vec<Call>>>::default();
    let sink = Recorded {
        sink: Postgres::new(config(Path::new(folder)))
            .table(TABLE)
            .column("id", |row: &Row| &row.id)
            .column("value", |row| &row.value)
            .column("text", |row| row.text)
            .on_conflict(OnConflict::Ignore),
        calls: Arc::clone(&calls),
    };
    let batcher = match way {
        Way::Default => Batcher::builder().sink(sink)?,
        Way::Fixed(size) => Batcher::builder()
            .policy(Fixed(size))
            .max_batch_size(size)
            .sink(sink)?,
    };
    say(READY)?;
    for line in std::io::stdin().lock().lines() {
        match &*line? {
            GO => {
                let producer = batcher.producer();
                thread::spawn(move || add(&producer, number * KEYS));
            }
            STOP => {
                let report = report(&batcher, &calls);
                say(report.to_text().trim_end())?;
                return Ok(true);
            }
            other => return Err(format!("a worker does not know {other:?}").into()),
        }
    }
    // The bench is gone. To drop the batcher would be to wait for what is queued.
    std::process::exit(1)
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Until the batcher is closed.
fn add(producer: &Producer<Row>, first: i64) {
    for chunk in 0.. {
        let from = first + chunk * CHUNK;
        let rows = (from..from + CHUNK).map(|id| Row {
            id,
            value: id as f64 / 4.0,
            text: "what a sensor has to say about it",
        });
        if producer.add_many(rows).is_err() {
            return;
        }
    }
}

/// Ends the batcher at once: rows that are queued come back, the call under way ends by itself.
fn report(batcher: &Batcher<Row>, calls: &Mutex<Vec<Call>>) -> Report {
    drop(batcher.shutdown(Duration::ZERO));
    // Rows of that call count as abandoned until it has ended. They are stored, so they must count.
    while batcher.stats().abandoned > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let stats = batcher.stats();
    Report {
        handled: stats.handled,
        failed_rows: stats.failed,
        failed_calls: stats.calls - stats.ok_calls,
        batch_size: stats.batch_size,
        calls: std::mem::take(&mut *calls.lock().expect("no panic")),
    }
}

/// A sink whose calls are recorded.
struct Recorded<S> {
    sink: S,
    calls: Arc<Mutex<Vec<Call>>>,
}

struct RecordedHandler<H> {
    handler: H,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl<S: Sink<Row>> Sink<Row> for Recorded<S> {
    type Handler = RecordedHandler<S::Handler>;

    fn configure(&self, builder: Builder<Row>) -> Result<Builder<Row>, SinkError> {
        self.sink.configure(builder)
    }

    fn connect(&self, worker: Worker) -> Result<Self::Handler, BatchError> {
        Ok(RecordedHandler {
            handler: self.sink.connect(worker)?,
            calls: Arc::clone(&self.calls),
        })
    }

    fn sensor(&self) -> Option<Box<dyn Sensor>> {
        self.sink.sensor()
    }
}

impl<H: Handler<Row>> Handler<Row> for RecordedHandler<H> {
    fn handle(&mut self, batch: &mut Batch<Row>) -> Result<LoadFeedback, BatchError> {
        let begun_s = now_s();
        let result = self.handler.handle(batch);
        if result.is_ok() {
            self.calls.lock().expect("no panic").push(Call {
                begun_s,
                ended_s: now_s(),
                rows: batch.len() as u64,
            });
        }
        result
    }
}

/// Seconds since the epoch.
pub fn now_s() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}
