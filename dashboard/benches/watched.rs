//! What it costs a batcher under load to be watched.
//!
//! Three runs of each round, interleaved so that a busy machine slows all alike: an observer that is
//! scraped by `write_prometheus` once a second, the page attached with one client that reads its
//! events, and nothing twice, whose ratio is the noise. Each run measures two figures:
//!
//! - `adds`: items a second that two producers put through as fast as they can;
//! - `p99`: the 99th percentile of the time from an add to its call's end, at an even pace far below
//!   what the batcher can carry.
//!
//! `cargo bench -p load-aware-batcher-dashboard --bench watched -- [--quick] [--check]`
//!
//! `--quick` takes a minute and a half, all of it six. `--check` exits 1 if a median is beyond its
//! bound: adds at least 0.90 of those without, p99 at most 1.25 times. A quiet machine is assumed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, Fixed, LoadFeedback, Observer};
use load_aware_batcher_dashboard::Dashboard;
use testkit::pairs::{Pairs, Report, Target};

const BATCH: usize = 1_000;
const PRODUCERS: usize = 2;
/// Between two scrapes.
const SCRAPE: Duration = Duration::from_secs(1);
/// Long enough for two scrapes and four frames of the page.
const RUN: Duration = Duration::from_millis(2_200);
/// Items a second of a paced run.
const PACE: u64 = 20_000;
/// The bounds of `--check`: beyond what two runs of nothing differ by on a quiet machine.
const ADDS_MIN: f64 = 0.90;
const P99_MAX: f64 = 1.25;
const LONG: Duration = Duration::from_secs(60);

/// What watches the batcher, until it is dropped.
enum Watch {
    Nothing,
    Exporter(mpsc::Sender<()>, Option<JoinHandle<()>>),
    Page(
        #[expect(dead_code, reason = "the page ends with it")] Dashboard,
        TcpStream,
        Option<JoinHandle<()>>,
    ),
}

#[derive(Clone, Copy)]
enum By {
    Nothing,
    Exporter,
    Page,
}

impl By {
    fn attach(self, observer: Observer) -> Watch {
        match self {
            Self::Nothing => Watch::Nothing,
            Self::Exporter => {
                let (end, ended) = mpsc::channel();
                let scrapes = thread::spawn(move || {
                    let mut text = String::new();
                    while ended.recv_timeout(SCRAPE) == Err(RecvTimeoutError::Timeout) {
                        text.clear();
                        observer.stats().write_prometheus(&mut text).unwrap();
                        assert!(text.contains("batcher_items_added_total"));
                    }
                });
                Watch::Exporter(end, Some(scrapes))
            }
            Self::Page => {
                let dashboard = Dashboard::start([observer]).unwrap();
                let stream = TcpStream::connect(dashboard.address()).unwrap();
                let host = dashboard.address();
                write!(&stream, "GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
                let reader = BufReader::new(stream.try_clone().unwrap());
                let client = thread::spawn(move || {
                    let frames = reader.lines().map_while(Result::ok);
                    assert!(frames.filter(|line| line.starts_with("data: ")).count() > 2);
                });
                Watch::Page(dashboard, stream, Some(client))
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let thread = match self {
            Self::Nothing => None,
            Self::Exporter(end, thread) => {
                let _ = end.send(());
                thread.take()
            }
            Self::Page(_, stream, thread) => {
                let _ = stream.shutdown(Shutdown::Both);
                thread.take()
            }
        };
        if let Some(thread) = thread {
            thread.join().expect("what watches has seen something");
        }
    }
}

struct Figures {
    /// Millions a second.
    adds: f64,
    /// Microseconds.
    p99: f64,
}

fn measured(by: By) -> Figures {
    Figures {
        adds: adds(by),
        p99: p99(by),
    }
}

fn adds(by: By) -> f64 {
    let batcher = Batcher::builder()
        .initial_batch_size(BATCH)
        .max_batch_size(BATCH)
        .policy(Fixed(BATCH))
        .spawn(|batch: &mut Batch<u64>| {
            std::hint::black_box(&batch[..]);
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let watch = by.attach(batcher.observer());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            let producer = batcher.producer();
            scope.spawn(move || {
                while begun.elapsed() < RUN {
                    (0..1_000).for_each(|item| producer.add(item).unwrap());
                }
            });
        }
    });
    batcher.flush(LONG).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    drop(watch);
    batcher.stats().handled as f64 / seconds / 1e6
}

fn p99(by: By) -> f64 {
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let noted = Arc::clone(&times);
    let batcher = Batcher::builder()
        .initial_batch_size(BATCH)
        .max_batch_size(BATCH)
        .policy(Fixed(BATCH))
        .linger(Duration::ZERO)
        .spawn(move |batch: &mut Batch<Instant>| {
            // A backend's call.
            thread::sleep(Duration::from_micros(500));
            let mut times = noted.lock().unwrap();
            times.extend(batch.iter().map(Instant::elapsed));
            Ok(LoadFeedback::new())
        })
        .unwrap();
    let watch = by.attach(batcher.observer());
    let begun = Instant::now();
    let mut added = 0;
    while begun.elapsed() < RUN {
        let due = (begun.elapsed().as_secs_f64() * PACE as f64) as u64;
        while added < due {
            batcher.add(Instant::now()).unwrap();
            added += 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
    batcher.flush(LONG).unwrap();
    drop(watch);
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    times.sort_unstable();
    let place = (times.len() - 1) * 99 / 100;
    times[place].as_secs_f64() * 1e6
}

fn main() -> ExitCode {
    let (mut rounds, mut check) = (19, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => rounds = 5,
            "--check" => check = true,
            // Cargo's own.
            "--bench" => {}
            _ => {
                eprintln!("unknown argument {argument}");
                return ExitCode::from(2);
            }
        }
    }
    let ways = [
        ("nothing again", By::Nothing),
        ("scraped once a second", By::Exporter),
        ("the page with a client", By::Page),
    ];
    let (mut all_adds, mut all_p99s): ([Pairs; 3], [Pairs; 3]) = Default::default();
    for _ in 0..rounds {
        let alone = measured(By::Nothing);
        for (place, (_, by)) in ways.into_iter().enumerate() {
            let watched = measured(by);
            all_adds[place].push(watched.adds, alone.adds);
            all_p99s[place].push(watched.p99, alone.p99);
        }
    }
    let mut report = Report::default();
    for (place, (name, by)) in ways.into_iter().enumerate() {
        // The noise has no bound of its own.
        let bound = |target| match by {
            By::Nothing => Target::None,
            By::Exporter | By::Page => target,
        };
        let (adds, p99s) = (&all_adds[place], &all_p99s[place]);
        let name_of = |figure| format!("{figure}, {name}:");
        report.line(
            &name_of("adds"),
            adds,
            "M items/s",
            bound(Target::AtLeast(ADDS_MIN)),
        );
        report.line(&name_of("p99"), p99s, "µs", bound(Target::AtMost(P99_MAX)));
    }
    let missed = report.missed();
    for line in missed {
        println!("MISSED {line}");
    }
    if check && !missed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
