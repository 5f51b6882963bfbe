//! Three batchers with the same arrivals, and a page to play with: load patterns, a backend to
//! break, and a change of policy at run time. The backend is simulated unless `--url` names a
//! database.
//!
//! ```text
//! cargo run --release -p load-aware-batcher-dashboard --example demo
//! cargo run --release -p load-aware-batcher-dashboard --example demo -- --url sqlite:demo.db
//! cargo run --release -p load-aware-batcher-dashboard --example demo -- --url postgres://me@localhost/test
//! ```

mod breakable;
mod database;
mod options;
mod postgres;
mod reading;
mod scene;
mod simulated;
mod sqlite;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use load_aware_batcher::{
    Batcher, BuildError, Builder, CostModel, Fixed, Limits, LoadThreshold, Sink,
};
use load_aware_batcher_dashboard::Dashboard;

use breakable::Breakable;
use database::{Database, Problem, TABLES, drop_tables, make_tables, said, start_neighbours};
use options::{Backend, Options, USAGE};
use reading::Reading;
use scene::{PATTERNS, RATES, Scene, feed};

const POLICIES: [&str; 4] = ["side by side", "Fixed(50)", "LoadThreshold", "CostModel"];
const NAMES: [&str; 3] = ["Fixed(50)", "LoadThreshold", "CostModel"];
/// The command line, the database or the address is at fault.
const AT_FAULT: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => return give_up(&problem),
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => give_up(&said(&*problem)),
    }
}

fn give_up(problem: &str) -> ExitCode {
    eprintln!("demo: {problem}");
    ExitCode::from(AT_FAULT)
}

fn run(options: Options) -> Result<(), Problem> {
    let (address, scene) = (options.address, Arc::new(Scene::new()));
    match options.backend {
        Backend::Simulated => show(address, &scene, |_, builder| {
            builder.spawn(simulated::handler(Arc::clone(&scene)))
        }),
        Backend::Postgres(url) => {
            let sink = |table: &str| postgres::sink(&url, table);
            in_database(address, &scene, || postgres::connect(&url), sink)
        }
        Backend::Sqlite(file) => {
            let sink = |table: &str| sqlite::sink(&file, table);
            in_database(address, &scene, || sqlite::connect(&file), sink)
        }
    }
}

/// Shows batchers that write into a database, each into a table of its own.
fn in_database<D: Database, S: Sink<Reading> + 'static>(
    address: SocketAddr,
    scene: &Arc<Scene>,
    connect: impl Fn() -> Result<D, Problem>,
    sink: impl Fn(&str) -> S,
) -> Result<(), Problem> {
    let mut own = connect()?;
    make_tables(&mut own)?;
    start_neighbours(connect()?, Arc::clone(scene));
    let shown = show(address, scene, |place, builder| {
        builder.sink(Breakable::new(sink(TABLES[place]), Arc::clone(scene)))
    });
    drop_tables(&mut own)?;
    shown
}

/// Starts the batchers and their page. Returns when somebody has pressed Enter.
fn show(
    address: SocketAddr,
    scene: &Arc<Scene>,
    start: impl Fn(usize, Builder<Reading>) -> Result<Batcher<Reading>, BuildError>,
) -> Result<(), Problem> {
    let mut batchers = Vec::new();
    for (place, name) in NAMES.into_iter().enumerate() {
        let builder = Batcher::builder()
            .name(name)
            .initial_batch_size(50)
            .max_batch_size(5000)
            .on_failed(|_| {});
        let batcher = start(place, builder)?;
        batcher.reconfigure(|limits| set(limits, name))?;
        batchers.push(batcher);
    }
    for batcher in &batchers {
        let (producer, scene) = (batcher.producer(), Arc::clone(scene));
        thread::spawn(move || feed(&producer, &scene));
    }
    let dashboard = page(address, scene, Arc::new(batchers))?;
    println!("{}  (Enter ends the demo)", dashboard.url());
    if io::stdin().read_line(&mut String::new())? == 0 {
        // There is nobody at a keyboard: until the process is ended.
        loop {
            thread::park();
        }
    }
    // What is left is written.
    scene.set_broken(false);
    Ok(())
}

/// The page owns the batchers, since a button changes their policy.
fn page(
    address: SocketAddr,
    scene: &Arc<Scene>,
    batchers: Arc<Vec<Batcher<Reading>>>,
) -> io::Result<Dashboard> {
    let builder = batchers.iter().fold(Dashboard::builder(), |it, batcher| {
        it.watch(batcher.observer())
    });
    let scenes = [(); 3].map(|()| Arc::clone(scene));
    let [of_pattern, of_rate, of_backend] = scenes;
    builder
        .bind(address)
        .control("pattern", PATTERNS, move |choice| {
            of_pattern.choose_pattern(choice);
        })
        .control("rate", RATES.map(|(name, _)| name), move |choice| {
            of_rate.choose_rate(choice);
        })
        .control("backend", ["works", "break the backend"], move |choice| {
            of_backend.set_broken(choice != "works");
        })
        .control("policy", POLICIES, move |choice| {
            for (name, batcher) in NAMES.into_iter().zip(&*batchers) {
                let policy = if choice == POLICIES[0] { name } else { choice };
                if let Err(error) = batcher.reconfigure(|limits| set(limits, policy)) {
                    eprintln!("{name}: {error}");
                }
            }
        })
        .start()
}

fn set(limits: &mut Limits, policy: &str) {
    match policy {
        "Fixed(50)" => limits.policy(Fixed(50)),
        "LoadThreshold" => limits.policy(LoadThreshold::new()),
        _ => limits.policy(CostModel::new()),
    }
}
