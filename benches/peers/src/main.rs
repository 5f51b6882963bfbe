//! The same work through this crate, through other batchers, and through plain channels, in one
//! table.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- [--quick]`
//!
//! Each run has a process of its own, so that processor time and peak memory are those of one peer.
//! Peers take turns in each round, and each figure is the median of the rounds. Before the timed
//! runs each peer shows whether every item arrives. A timed run that lost items reports it.

mod asynchronous;
mod spans;
mod threads;
mod work;

use std::process::{Command, ExitCode};

use work::{Kind, Measured, Work};

/// A peer's name, what it is, and how it does the work.
pub struct Peer {
    name: &'static str,
    kind: Kind,
    run: fn(&Work),
}

const PEERS: &[Peer] = &[
    Peer {
        name: "load-aware-batcher add",
        kind: Kind::Ours,
        run: threads::ours_add,
    },
    Peer {
        name: "load-aware-batcher add_many(64)",
        kind: Kind::Ours,
        run: threads::ours_add_many,
    },
    Peer {
        name: "tokio mpsc + chunks_timeout",
        kind: Kind::Batcher,
        run: asynchronous::tokio_stream,
    },
    Peer {
        name: "futures-batch",
        kind: Kind::Batcher,
        run: asynchronous::futures_batch,
    },
    Peer {
        name: "opentelemetry BatchSpanProcessor",
        kind: Kind::Batcher,
        run: spans::batch_span_processor,
    },
    Peer {
        name: "batch-aint-one",
        kind: Kind::Batcher,
        run: asynchronous::batch_aint_one,
    },
    Peer {
        name: "batched-fn",
        kind: Kind::Batcher,
        run: asynchronous::batched_fn,
    },
    Peer {
        name: "emit_batcher",
        kind: Kind::Batcher,
        run: threads::emit,
    },
    Peer {
        name: "multistream-batch",
        kind: Kind::Batcher,
        run: threads::multistream,
    },
    Peer {
        name: "crossbeam-channel, drained",
        kind: Kind::Reference,
        run: threads::crossbeam,
    },
    Peer {
        name: "std sync_channel, drained",
        kind: Kind::Reference,
        run: threads::sync_channel,
    },
    Peer {
        name: "kanal, drained",
        kind: Kind::Reference,
        run: threads::kanal,
    },
    Peer {
        name: "flume, drained",
        kind: Kind::Reference,
        run: threads::flume,
    },
    Peer {
        name: "Mutex<Vec>, flushed inline",
        kind: Kind::Reference,
        run: threads::mutex_vec,
    },
    Peer {
        name: "nothing (the pacing alone)",
        kind: Kind::Nothing,
        run: threads::nothing,
    },
];

const PRODUCERS: [usize; 4] = [1, 2, 4, 8];
const RATES: [u64; 3] = [10_000, 100_000, 1_000_000];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [run, name, rest @ ..] if run == "run" => {
            let peer = PEERS
                .iter()
                .find(|peer| peer.name == name)
                .expect("a peer of this name");
            println!("{}", work::measure(&Work::parse(rest), peer.run));
            ExitCode::SUCCESS
        }
        [] => table(7, 1_000_000, 1),
        [quick] if quick == "--quick" => table(3, 200_000, 4),
        _ => {
            eprintln!("usage: peers [--quick]");
            ExitCode::from(2)
        }
    }
}

/// Runs one peer in a process of its own.
fn run(peer: &Peer, work: &Work) -> Measured {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["run", peer.name])
        .args(work.arguments())
        .output()
        .expect("it starts");
    assert!(
        output.status.success(),
        "{}: {}",
        peer.name,
        String::from_utf8_lossy(&output.stderr)
    );
    Measured::parse(&String::from_utf8_lossy(&output.stdout))
}

/// The figures of all rounds of one peer.
#[derive(Default)]
struct Row {
    full_speed: [Vec<Measured>; PRODUCERS.len()],
    paced: [Vec<Measured>; RATES.len()],
}

fn table(rounds: usize, items: u64, hurry: u64) -> ExitCode {
    println!("self-check: 2 producers, 100 000 items");
    let mut broken = false;
    for peer in PEERS.iter().filter(|peer| peer.kind != Kind::Nothing) {
        let work = Work {
            producers: 2,
            items: 100_000,
            rate: 0,
        };
        let seen = run(peer, &work);
        println!("  {:<34} {}", peer.name, seen.arrival(&work));
        broken |= peer.kind == Kind::Ours && !seen.all_arrived(&work);
    }
    let mut rows: Vec<Row> = PEERS.iter().map(|_| Row::default()).collect();
    for _ in 0..rounds {
        for (slot, producers) in PRODUCERS.into_iter().enumerate() {
            for (peer, row) in PEERS
                .iter()
                .zip(&mut rows)
                .filter(|(peer, _)| peer.kind != Kind::Nothing)
            {
                row.full_speed[slot].push(run(
                    peer,
                    &Work {
                        producers,
                        items,
                        rate: 0,
                    },
                ));
            }
        }
        for (slot, rate) in RATES.into_iter().enumerate() {
            for (peer, row) in PEERS.iter().zip(&mut rows) {
                row.paced[slot].push(run(
                    peer,
                    &Work {
                        producers: 1,
                        items: rate / 2 / hurry,
                        rate,
                    },
                ));
            }
        }
    }
    print!("\n{:<34}", "M items/s, batch 1000, item 8");
    PRODUCERS
        .iter()
        .for_each(|producers| print!(" {:>7}", format!("P={producers}")));
    print!("  {:>9} {:>9}  |", "arrived", "peak MiB");
    RATES
        .iter()
        .for_each(|rate| print!(" {:>9}", format!("{} k/s", rate / 1_000)));
    println!("  CPU ns an item, paced");
    for (peer, row) in PEERS.iter().zip(&rows) {
        print!("{:<34}", peer.name);
        for runs in &row.full_speed {
            print!(
                " {:>7}",
                cell(runs, |run| run.delivered as f64 / run.seconds / 1e6, 2)
            );
        }
        let all = row.full_speed.iter().flatten();
        let arrived = all.clone().map(|run| run.delivered as f64).sum::<f64>()
            / (all.count() as f64 * items as f64);
        let arrived = if peer.kind == Kind::Nothing {
            String::new()
        } else {
            format!("{:.1} %", arrived * 100.0)
        };
        print!(
            "  {arrived:>9} {:>9}  |",
            cell(&row.full_speed[1], |run| run.peak_kib as f64 / 1_024.0, 1)
        );
        row.paced
            .iter()
            .for_each(|runs| print!(" {:>9}", cell(runs, |run| run.cpu_ns / run.items as f64, 0)));
        println!();
    }
    if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The median over the rounds.
fn cell(runs: &[Measured], figure: impl Fn(&Measured) -> f64, digits: usize) -> String {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
        .get(figures.len() / 2)
        .map_or_else(String::new, |median| format!("{median:.digits$}"))
}
