//! What the crate is for, as a picture: a minute against a backend that another workload takes over,
//! under three policies.
//!
//! `cargo run --release --example load_spike [-- --pattern constant|sine|spikes|gradual|spike]
//! [--out FILE]`
//!
//! In virtual time, so it takes a second and is the same every time. Draws `docs/load_spike.svg`
//! and prints a summary.

use std::error::Error;
use std::time::Duration;

use load_aware_batcher::sim::{Backend, Load, Report, Simulation};
use load_aware_batcher::{
    CostModel, Fixed, LoadThreshold, Policy, Reason, Sample, Setpoint, Signals, Window, Zone,
};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const END: Duration = Duration::from_secs(60);
/// Seconds a point of the curves stands for.
const BIN: f64 = 1.0;
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);

struct Contender {
    name: &'static str,
    colour: RGBColor,
    report: Report,
}

/// A curve: a value a bin, none where no call ended.
type Curve = Vec<Option<f64>>;

fn pattern(name: &str) -> Option<(Load, &'static str)> {
    let seconds = Duration::from_secs;
    Some(match name {
        "constant" => (Load::Constant(0.2), "another workload takes 20 %"),
        "sine" => (
            Load::Sine {
                low: 0.1,
                high: 0.8,
                period: seconds(30),
            },
            "another workload takes 10 to 80 %",
        ),
        "spikes" => (
            Load::Spikes {
                base: 0.2,
                peak: 0.85,
                every: seconds(15),
                lasting: seconds(4),
            },
            "another workload takes 85 %",
        ),
        "gradual" => (
            Load::Ramp {
                from: 0.2,
                to: 0.85,
                begin: seconds(15),
                end: seconds(45),
            },
            "another workload takes more and more",
        ),
        "spike" => (
            Load::spike(0.2, 0.85, seconds(30), seconds(15)),
            "another workload takes 85 %",
        ),
        _ => return None,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut name, mut out) = ("spike".to_owned(), "docs/load_spike.svg".to_owned());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--pattern", Some(value)) => name = value,
            ("--out", Some(value)) => out = value,
            _ => {
                return Err(
                    "known are --pattern constant|sine|spikes|gradual|spike and --out FILE".into(),
                );
            }
        }
    }
    let (load, story) =
        pattern(&name).ok_or("the pattern is one of constant, sine, spikes, gradual, spike")?;
    let backend = Backend::new().load(load.clone());
    let minute = Simulation::new(backend).duration(END).max_batch_size(500);
    // Half of what the backend allows, as a user would say who knows of its timeout; without, it
    // finds out at a price.
    let bounded = CostModel::new().max_batch_time(Duration::from_millis(200));
    let policies = [
        Contender {
            name: "Fixed(50)",
            colour: RGBColor(0x8a, 0x8a, 0x8a),
            report: minute.run(Fixed(50)),
        },
        Contender {
            name: "LoadThreshold",
            colour: RGBColor(0xd9, 0x6c, 0x06),
            report: minute.run(LoadThreshold::new()),
        },
        Contender {
            name: "CostModel",
            colour: RGBColor(0x0b, 0x5f, 0xa5),
            report: minute.run(bounded),
        },
    ];
    println!(
        "{:<16}{:>12}{:>10}{:>12}",
        "", "handled", "lost", "of oracle"
    );
    for policy in &policies {
        let report = &policy.report;
        let share = 100.0 * report.share_of_oracle();
        println!(
            "{:<16}{:>12}{:>10}{share:>10.0} %",
            policy.name,
            report.handled(),
            report.failed()
        );
    }
    draw(&out, &load, story, &policies)?;
    println!("drawn: {out}");
    Ok(())
}

/// Whatever `of` makes of the calls that ended in each bin.
fn curve(report: &Report, of: impl Fn(&[&load_aware_batcher::sim::Call]) -> Option<f64>) -> Curve {
    let bins = (END.as_secs_f64() / BIN) as usize;
    let mut calls = vec![Vec::new(); bins];
    for call in report.calls() {
        calls[((call.at.as_secs_f64() / BIN) as usize).min(bins - 1)].push(call);
    }
    calls.iter().map(|calls| of(calls)).collect()
}

/// Items per second, each call's spread over the time it took.
fn spread(report: &Report, of: impl Fn(&load_aware_batcher::sim::Call) -> usize) -> Curve {
    let mut sums = vec![0.0; (END.as_secs_f64() / BIN) as usize];
    for call in report.calls() {
        let (end, took) = (call.at.as_secs_f64(), call.service_time.as_secs_f64());
        for (bin, sum) in sums.iter_mut().enumerate() {
            let (from, to) = (bin as f64 * BIN, (bin + 1) as f64 * BIN);
            let within = (end.min(to) - (end - took).max(from)).max(0.0);
            *sum += of(call) as f64 * within / took / BIN;
        }
    }
    sums.into_iter().map(Some).collect()
}

/// The load score as `LoadThreshold` computes it.
fn score(signals: Signals) -> Option<f64> {
    let samples = [Sample {
        signals,
        batch: None,
    }];
    let window = Window {
        samples: &samples,
        lost: 0,
        now: Duration::ZERO,
        is_check: true,
        min_batch_size: 1,
        max_batch_size: 500,
        linger: Duration::ZERO,
        min_concurrency: 1,
        max_concurrency: 1,
        custom: &[],
    };
    let at = Setpoint {
        batch_size: 50,
        linger: Duration::ZERO,
        pause_ratio: 0.0,
        probe: None,
        concurrency: 1,
        zone: Zone::Unknown,
        score: None,
        reason: Reason::from("none"),
    };
    LoadThreshold::new().decide(&window, &at).score
}

fn draw(
    out: &str,
    load: &Load,
    story: &str,
    policies: &[Contender; 3],
) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = std::path::Path::new(out).parent() {
        std::fs::create_dir_all(folder)?;
    }
    let root = SVGBackend::new(out, (960, 900)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = ("sans-serif", 23).into_font().color(&INK);
    root.draw(&Text::new(
        "One backend, three policies of batch size",
        (20, 16),
        title,
    ))?;
    let small = ("sans-serif", 15).into_font().color(&INK);
    let caption = format!(
        "A call costs 20 ms and an item 1 ms; calls over 400 ms fail. CostModel is allowed 200 ms. Shaded: {story}."
    );
    root.draw(&Text::new(caption, (20, 48), small))?;
    let (_, panels) = root.split_vertically(76);
    let panels = panels.split_evenly((4, 1));
    let panel = |place: usize, title: &str, top: f64, curves: Vec<Curve>| {
        draw_panel(
            &panels[place],
            title,
            top,
            load,
            policies,
            &curves,
            place == 3,
        )
    };
    let all = |of: &dyn Fn(&Report) -> Curve| {
        policies
            .iter()
            .map(|policy| of(&policy.report))
            .collect::<Vec<_>>()
    };
    panel(
        0,
        "Items handled per second",
        800.0,
        all(&|report| spread(report, |call| call.len - call.failed)),
    )?;
    panel(
        1,
        "Items lost per second",
        400.0,
        all(&|report| spread(report, |call| call.failed)),
    )?;
    panel(2, "Batch size, in items", 400.0, {
        all(&|report| {
            curve(report, |calls| {
                calls.last().map(|call| call.batch_size as f64)
            })
        })
    })?;
    panel(3, "Load score that the backend reports, 0 to 1", 1.0, {
        all(&|report| {
            curve(report, |calls| {
                let scores: Vec<_> = calls
                    .iter()
                    .filter_map(|call| score(call.signals))
                    .collect();
                (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
            })
        })
    })?;
    root.present()?;
    Ok(())
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    top: f64,
    load: &Load,
    policies: &[Contender; 3],
    curves: &[Curve],
    is_last: bool,
) -> Result<(), Box<dyn Error>> {
    let end = END.as_secs_f64();
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17).into_font().color(&INK))
        .margin_left(12)
        .margin_right(150)
        .x_label_area_size(if is_last { 34 } else { 20 })
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    // The other workload: the darker, the more it takes.
    for bin in 0..(end / 0.25) as usize {
        let from = bin as f64 * 0.25;
        let share = load.at(Duration::from_secs_f64(from));
        let colour = RGBColor(0xc8, 0x32, 0x32).mix(((share - 0.2) * 0.25).max(0.0));
        chart.draw_series([Rectangle::new(
            [(from, 0.0), (from + 0.25, top)],
            colour.filled(),
        )])?;
    }
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.5));
    mesh.y_labels(5)
        .x_labels(7)
        .label_style(("sans-serif", 13).into_font().color(&INK));
    let digits = if top > 1.0 { 0 } else { 1 };
    let (value, second) = (
        |value: &f64| format!("{value:.digits$}"),
        |second: &f64| format!("{second:.0}"),
    );
    mesh.y_label_formatter(&value).x_label_formatter(&second);
    if is_last {
        mesh.x_desc("seconds")
            .axis_desc_style(("sans-serif", 14).into_font().color(&INK));
    }
    mesh.draw()?;
    let mut labels: Vec<(f64, &Contender)> = Vec::new();
    for (policy, curve) in policies.iter().zip(curves) {
        let points: Vec<(f64, f64)> = curve
            .iter()
            .enumerate()
            .filter_map(|(bin, value)| {
                value.map(|value| ((bin as f64 + 0.5) * BIN, value.min(top)))
            })
            .collect();
        labels.push((points.last().map_or(0.0, |point| point.1), policy));
        chart.draw_series(LineSeries::new(points, policy.colour.stroke_width(2)))?;
    }
    // Each name beside the end of its curve, pushed apart where the curves end together.
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let apart = top * 0.13;
    for place in 1..labels.len() {
        labels[place].0 = labels[place].0.max(labels[place - 1].0 + apart);
    }
    for (height, policy) in labels {
        let style = TextStyle::from(("sans-serif", 15).into_font())
            .color(&policy.colour)
            .pos(Pos::new(HPos::Left, VPos::Center));
        let (x, y) = chart.backend_coord(&(end, height.min(top)));
        let (left, upper) = area.get_base_pixel();
        area.draw(&Text::new(policy.name, (x - left + 8, y - upper), style))?;
    }
    Ok(())
}
