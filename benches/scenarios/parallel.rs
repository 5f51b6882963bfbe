//! Many calls at once: `--parallel`. Each scenario prints a table and a line a target.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use load_aware_batcher::sim::{Call, Report, Simulation};
use load_aware_batcher::{CostModel, Fixed};

use crate::runs::{quantile, secs};

mod backends;
mod rivals;

use backends::Place;
use rivals::Rival;

const RUN: Duration = secs(120);
const WARM: Duration = secs(10);
/// The runs of the grid of fixed sizes and calls at once.
const GRID_RUN: Duration = secs(16);
const GRID_WARM: Duration = secs(2);
const RANDOM_BACKENDS: u64 = 40;
const BATCHERS: usize = 8;

/// Prints the lines of the targets and counts those that are missed.
#[derive(Default)]
struct Verdicts {
    missed: u32,
}

impl Verdicts {
    fn line(&mut self, id: &str, met: bool, value: f64, limit: &str, what: &str) {
        let verdict = if met { "met" } else { "MISSED" };
        println!("{id} {verdict} {value:.3} {limit} {what}");
        self.missed += u32::from(!met);
    }

    fn most(&mut self, id: &str, value: f64, limit: f64, what: &str) {
        self.line(id, value <= limit, value, &format!("<= {limit}"), what);
    }

    fn least(&mut self, id: &str, value: f64, limit: f64, what: &str) {
        self.line(id, value >= limit, value, &format!(">= {limit}"), what);
    }
}

/// Runs everything. Returns how many targets were missed.
pub fn run(seeds: u64, first: u64) -> u32 {
    let mut verdicts = Verdicts::default();
    let seeds: Vec<u64> = (first..first + seeds).collect();
    fixed(&mut verdicts, &seeds);
    random(&mut verdicts, first);
    plateau(&mut verdicts, &seeds);
    paced(&mut verdicts, &seeds);
    batchers(&mut verdicts, &seeds);
    verdicts.missed
}

/// The results of the jobs, in their order, on all cores.
fn spread<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let result = work(job);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn simulation(place: &Place, seed: u64) -> Simulation {
    Simulation::new(place.backend.clone())
        .max_batch_size(place.size)
        .seed(seed)
}

fn after(report: &Report, from: Duration) -> impl Iterator<Item = &Call> {
    report.calls().iter().filter(move |call| call.at > from)
}

fn rate(report: &Report, from: Duration, to: Duration) -> f64 {
    report.handled_between(from, to) as f64 / (to - from).as_secs_f64()
}

fn mean_calls(report: &Report, from: Duration) -> f64 {
    let (sum, count) = after(report, from).fold((0, 0), |(sum, count), call| {
        (sum + call.concurrency, count + 1)
    });
    sum as f64 / count.max(1) as f64
}

fn median_call(report: &Report, from: Duration) -> f64 {
    let mut times: Vec<f64> = after(report, from)
        .map(|call| call.service_time.as_secs_f64())
        .collect();
    quantile(&mut times, 0.5)
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The throughput of the best fixed size with a fixed number of calls at once. Where the number of
/// cores changes, it is the best over the whole run.
fn best(place: &Place, seed: u64, run: Duration, warm: Duration) -> f64 {
    let mut sizes: Vec<usize> = [20, 100, 200, 500, 1_000, 2_000, 4_000]
        .into_iter()
        .filter(|size| *size < place.size && *size * 100 >= place.size)
        .collect();
    sizes.push(place.size);
    let calls = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16];
    let mut best: f64 = 0.0;
    for size in sizes {
        for calls in calls.into_iter().filter(|calls| *calls <= place.calls) {
            let report = simulation(place, seed)
                .duration(run)
                .concurrency(calls)
                .run(Fixed(size));
            best = best.max(rate(&report, warm, run));
        }
    }
    best
}

/// The figures of a run.
#[derive(Clone, Copy)]
struct Figures {
    /// Percent lost to the best fixed size and calls at once.
    regret: f64,
    calls: f64,
    /// Seconds.
    median: f64,
    failed_calls: f64,
    /// Seconds from the start until a mean of two seconds reaches 90 % of the best.
    start: f64,
}

fn figures(report: &Report, best: f64, run: Duration) -> Figures {
    Figures {
        regret: 100.0 * (1.0 - rate(report, WARM, run) / best),
        calls: mean_calls(report, WARM),
        median: median_call(report, WARM),
        failed_calls: after(report, WARM).filter(|call| call.failed > 0).count() as f64,
        start: start(report, best),
    }
}

fn start(report: &Report, best: f64) -> f64 {
    let calls = report.calls();
    let (mut first, mut handled) = (0, 0);
    for call in calls {
        handled += call.len - call.failed;
        while calls[first].at + secs(2) < call.at {
            handled -= calls[first].len - calls[first].failed;
            first += 1;
        }
        if call.at > secs(2) && handled as f64 / 2.0 >= 0.9 * best {
            return call.at.as_secs_f64();
        }
    }
    f64::INFINITY
}

/// Runs each rival on each backend and seed.
fn compare(places: &[Place], seeds: &[u64], run: Duration) -> Vec<[Vec<Figures>; 6]> {
    let jobs: Vec<(&Place, u64)> = places
        .iter()
        .flat_map(|place| seeds.iter().map(move |seed| (place, *seed)))
        .collect();
    let results = spread(&jobs, |(place, seed)| {
        let changes = place.name.contains("->");
        let best = if changes {
            best(place, *seed, RUN, WARM)
        } else {
            best(place, *seed, GRID_RUN, GRID_WARM)
        };
        Rival::ALL.map(|rival| {
            let report = rival.run(simulation(place, *seed).duration(run), place.calls);
            figures(&report, best, run)
        })
    });
    results
        .chunks(seeds.len())
        .map(|rows| std::array::from_fn(|rival| rows.iter().map(|row| row[rival]).collect()))
        .collect()
}

fn fixed(verdicts: &mut Verdicts, seeds: &[u64]) {
    let places = backends::fixed();
    let results = compare(&places, seeds, RUN);
    println!(
        "\nP1: percent lost to the best fixed size and calls at once (mean calls at once, median call in ms)"
    );
    print!("  {:<24}", "");
    for rival in Rival::ALL {
        print!(" {:>18}", rival.name());
    }
    println!();
    for (place, rivals) in places.iter().zip(&results) {
        print!("  {:<24}", place.name);
        for row in rivals {
            let cell = format!(
                "{:.1} ({:.1}, {:.0})",
                mean(row.iter().map(|f| f.regret)),
                mean(row.iter().map(|f| f.calls)),
                1e3 * mean(row.iter().map(|f| f.median))
            );
            print!(" {cell:>18}");
        }
        println!();
    }
    for (place, rivals) in places.iter().zip(&results) {
        let candidate = &rivals[Rival::CostModel as usize];
        let lost = mean(candidate.iter().map(|f| f.regret));
        verdicts.most(
            "P1",
            lost,
            place.regret,
            &format!("percent lost, {}", place.name),
        );
    }
    let of = |name: &str, rival: Rival, figure: fn(&Figures) -> f64| {
        let place = places.iter().position(|place| place.name == name);
        place.map_or(f64::NAN, |place| {
            mean(results[place][rival as usize].iter().map(figure))
        })
    };
    let stretch =
        |name| of(name, Rival::CostModel, |f| f.median) / of(name, Rival::OneCall, |f| f.median);
    verdicts.most(
        "P3",
        of("1 core", Rival::CostModel, |f| f.calls),
        1.3,
        "calls at once on one core",
    );
    verdicts.most(
        "P3",
        stretch("1 core"),
        1.1,
        "of the time of a call with k = 1",
    );
    let four = of("4 cores", Rival::CostModel, |f| f.calls);
    verdicts.least("P4", four, 4.0, "calls at once on four cores");
    verdicts.most("P4", four, 5.0, "calls at once on four cores");
    verdicts.most(
        "P4",
        stretch("4 cores"),
        1.1,
        "of the time of a call with k = 1",
    );
    let limit = "limit 5 connections";
    let five = of(limit, Rival::CostModel, |f| f.calls);
    verdicts.most(
        "P5",
        (five - 5.0).abs(),
        0.1,
        "calls at once away from five connections",
    );
    verdicts.most(
        "P5",
        of(limit, Rival::CostModel, |f| f.failed_calls),
        5.0,
        "refused calls",
    );
    let starts = [
        ("4 cores", 5.0),
        ("16 cores", 5.0),
        ("commit 4 ms, n <= 200", 5.0),
        ("RTT 20 ms, n <= 1000", 5.0),
        ("USL .2/.05", 5.0),
        (limit, 8.0),
        ("noise .5", 5.0),
    ];
    for (name, most) in starts {
        let seconds = of(name, Rival::CostModel, |f| f.start);
        verdicts.most("P7", seconds, most, &format!("seconds to 90 %, {name}"));
    }
}

fn random(verdicts: &mut Verdicts, first: u64) {
    let places: Vec<Place> = (0..RANDOM_BACKENDS)
        .map(|place| backends::drawn(7_000 + 1_000 * first + place))
        .collect();
    let results = compare(&places, &[first], RUN);
    println!("\nP2: {RANDOM_BACKENDS} random backends: percent lost");
    println!(
        "  {:<12} {:>8} {:>8} {:>8} {:>8} {:>16}",
        "", "mean", "median", "p90", "worst", "sum of calls, s"
    );
    for rival in Rival::ALL {
        let row = |figure: fn(&Figures) -> f64| -> Vec<f64> {
            results
                .iter()
                .map(|row| figure(&row[rival as usize][0]))
                .collect()
        };
        let mut lost = row(|f| f.regret);
        let average = mean(lost.iter().copied());
        let [median, p90, worst] = [0.5, 0.9, 1.0].map(|share| quantile(&mut lost, share));
        let sum: f64 = row(|f| f.median).iter().sum();
        println!(
            "  {:<12} {average:>8.1} {median:>8.1} {p90:>8.1} {worst:>8.1} {sum:>16.2}",
            rival.name()
        );
        if rival == Rival::CostModel {
            verdicts.most("P2", average, 6.0, "percent lost, mean");
            verdicts.most("P2", p90, 10.0, "percent lost, p90");
            verdicts.most("P2", worst, 20.0, "percent lost, worst");
        }
    }
    for (place, row) in places.iter().zip(&results) {
        let candidate = row[Rival::CostModel as usize][0];
        if candidate.regret > 10.0 {
            println!(
                "  {}: {:.1} with {:.1} calls at once; {:?}",
                place.name, candidate.regret, candidate.calls, place.backend
            );
        }
    }
}

/// Where two calls share a flush: the share of eight calls at once, ten seconds after the start.
fn plateau(verdicts: &mut Verdicts, seeds: &[u64]) {
    let flush = Duration::from_micros(4_100);
    let backend = backends::plain(2e-4, 1e-4, 2e-6, 2)
        .group_commit(flush)
        .noise(0.02);
    let place = backends::place("commit 4.1 ms, n <= 20", backend, 20, 8, 0.0);
    let shares = spread(seeds, |seed| {
        let rate = |rival: Rival| {
            let report = rival.run(simulation(&place, *seed).duration(secs(14)), 8);
            rate(&report, secs(10), secs(14))
        };
        rate(Rival::CostModel) / rate(Rival::AllCalls)
    });
    println!();
    verdicts.least(
        "P6",
        mean(shares),
        0.9,
        "of k = 8 after ten seconds, commits of 20 items",
    );
}

/// Arrivals at a part of what one connection can do.
fn paced(verdicts: &mut Verdicts, seeds: &[u64]) {
    const END: Duration = secs(16);
    const FROM: Duration = secs(8);
    let cases = [
        ("4 cores", backends::cores(4), 5_000, 93e3),
        ("RTT 20 ms, n <= 1000", backends::distant(), 1_000, 38.5e3),
        ("commit 4 ms, n <= 200", backends::commits(4), 200, 35e3),
    ];
    println!("\nP9: arrivals: p50, p99 in ms, calls a second, calls at once");
    println!(
        "  {:<24} {:>4} {:>26} {:>26} {:>26}",
        "", "load", "k = 1", "k = K", "CostModel"
    );
    let mut lines = Vec::new();
    for (name, backend, size, capacity) in cases {
        for load in [0.3, 0.8, 1.5, 2.5] {
            let place = backends::place(name, backend.clone(), size, 8, 0.0);
            let rows = spread(seeds, |seed| {
                [Rival::OneCall, Rival::AllCalls, Rival::CostModel].map(|rival| {
                    let simulation = simulation(&place, *seed)
                        .duration(END)
                        .linger(Duration::from_millis(20))
                        .arrivals_per_second(load * capacity);
                    let report = rival.run(simulation, 8);
                    let latency = |share| {
                        report
                            .latency_since(FROM, share)
                            .map_or(f64::NAN, |time| 1e3 * time.as_secs_f64())
                    };
                    let calls = after(&report, FROM).count() as f64 / 8.0;
                    [
                        latency(0.5),
                        latency(0.99),
                        calls,
                        mean_calls(&report, FROM),
                    ]
                })
            });
            let [one, all, candidate]: [[f64; 4]; 3] = std::array::from_fn(|rival| {
                std::array::from_fn(|figure| mean(rows.iter().map(|row| row[rival][figure])))
            });
            let cell = |row: [f64; 4]| {
                format!("{:.1} {:.1} {:.0} ({:.1})", row[0], row[1], row[2], row[3])
            };
            println!(
                "  {name:<24} {load:>4} {:>26} {:>26} {:>26}",
                cell(one),
                cell(all),
                cell(candidate)
            );
            lines.push((name, load, one, candidate));
        }
    }
    for (name, load, one, candidate) in lines {
        let what = |figure: &str| format!("{figure}, {name} at {load}");
        if load < 1.0 {
            verdicts.most(
                "P9",
                candidate[1] / one[1],
                1.05,
                &what("of the p99 of k = 1"),
            );
            verdicts.most(
                "P9",
                candidate[2] / one[2],
                1.05,
                &what("of the calls of k = 1"),
            );
        } else {
            verdicts.most("P10", candidate[1], 50.0, &what("ms p99"));
        }
    }
}

/// Eight batchers, one after the other, on a backend that peaks at seven calls and reports its CPU.
fn batchers(verdicts: &mut Verdicts, seeds: &[u64]) {
    const INTERVAL: Duration = secs(15);
    let end = INTERVAL * BATCHERS as u32 + secs(150);
    let from = INTERVAL * BATCHERS as u32 + secs(60);
    let place = backends::place(
        "USL",
        backends::cores(8).contention(0.05, 0.02),
        5_000,
        8,
        0.0,
    );
    let rows = spread(seeds, |seed| {
        let alone = |calls: usize| {
            let report = simulation(&place, *seed)
                .duration(GRID_RUN)
                .concurrency(calls)
                .run(CostModel::new());
            rate(&report, GRID_WARM, GRID_RUN)
        };
        let peak = (1..=8).map(alone).fold(0.0, f64::max);
        let report = Simulation::new(place.backend.clone().signals(true))
            .max_batch_size(place.size)
            .seed(*seed)
            .duration(end)
            .start_interval(INTERVAL)
            .concurrency(1..=8)
            .run_all(vec![CostModel::new().throttle_above(0.9, 0.05); BATCHERS]);
        let mut handled = [0.0; BATCHERS];
        for call in after(&report, from) {
            handled[call.batcher] += (call.len - call.failed) as f64;
        }
        let sum: f64 = handled.iter().sum();
        let squares: f64 = handled.iter().map(|items| items * items).sum();
        let total = sum / (end - from).as_secs_f64();
        [
            total / peak,
            sum * sum / (BATCHERS as f64 * squares),
            mean_calls(&report, from),
            1e3 * median_call(&report, from),
        ]
    });
    let [share, jain, calls, median] =
        std::array::from_fn(|figure| mean(rows.iter().map(|row| row[figure])));
    println!("\nP11: {BATCHERS} batchers: {calls:.2} calls at once each, {median:.0} ms a call");
    verdicts.least(
        "P11",
        share,
        0.95,
        "of the peak, 8 batchers with a load signal",
    );
    verdicts.least(
        "P11",
        jain,
        0.85,
        "fairness (Jain), 8 batchers with a load signal",
    );
}
