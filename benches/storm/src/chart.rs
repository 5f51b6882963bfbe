//! The runs over time as a picture: throughput and batch size of each candidate before, during and
//! after the storm.

use std::fmt::Write as _;

use crate::candidates::Candidate;
use crate::comparison::Comparison;
use crate::run::{Plan, Run};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 150.0;
const MARGIN: f64 = 46.0;
/// The colours of the fixed sizes, from the smallest on.
const FIXED: [&str; 7] = [
    "#dddddd", "#c4c4c4", "#aaaaaa", "#909090", "#777777", "#5c5c5c", "#404040",
];
/// The seconds that one point of a line covers.
const STEP: f64 = 0.25;

/// One row for each storm and database, with the runs of the last round. Rows a second are on the
/// left, the batch size is on the right, both logarithmic.
pub fn svg(comparisons: &[Comparison<'_>], plan: &Plan) -> String {
    let seconds = (plan.warm_up + plan.before + plan.storm + plan.after).as_secs_f64();
    let storm = (
        (plan.warm_up + plan.before).as_secs_f64(),
        (plan.warm_up + plan.before + plan.storm).as_secs_f64(),
    );
    let (width, height) = (
        2.0 * (WIDTH + MARGIN) + 120.0,
        comparisons.len() as f64 * (HEIGHT + MARGIN) + MARGIN,
    );
    let mut picture = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='sans-serif' \
         font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n"
    );
    for (place, comparison) in comparisons.iter().enumerate() {
        let own: Vec<&Run> = comparison
            .candidates
            .iter()
            .filter_map(|candidate| candidate.runs.last().copied())
            .collect();
        let top = MARGIN + place as f64 * (HEIGHT + MARGIN);
        for (column, title) in ["rows a second", "batch size"].iter().enumerate() {
            let left = MARGIN + column as f64 * (WIDTH + MARGIN);
            let ceiling = if column == 0 { 6.0 } else { 4.0 };
            panel(
                &mut picture,
                (left, top),
                &format!(
                    "{}, {}: {title}",
                    comparison.backend,
                    comparison.storm.name()
                ),
                seconds,
                storm,
            );
            for (number, run) in own.iter().enumerate() {
                let points = points(run, seconds, column == 1);
                let line: Vec<String> = points
                    .iter()
                    .map(|(at, value)| {
                        let height = (value.max(1.0).log10() / ceiling).min(1.0) * HEIGHT;
                        format!(
                            "{:.1},{:.1}",
                            left + at / seconds * WIDTH,
                            top + HEIGHT - height
                        )
                    })
                    .collect();
                let colour = colour(run.candidate, number);
                let _ = writeln!(
                    picture,
                    "<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{}'/>",
                    line.join(" ")
                );
                if column == 1 {
                    let (x, y) = (left + WIDTH + 8.0, top + 12.0 + 14.0 * number as f64);
                    let _ = writeln!(
                        picture,
                        "<text x='{x}' y='{y}' fill='{colour}'>{}</text>",
                        run.candidate
                    );
                }
            }
            for power in 0..=ceiling as i32 {
                let y = top + HEIGHT - f64::from(power) / ceiling * HEIGHT;
                let _ = writeln!(
                    picture,
                    "<text x='{}' y='{}' text-anchor='end'>1e{power}</text>",
                    left - 4.0,
                    y + 4.0
                );
            }
        }
    }
    picture.push_str("</svg>\n");
    picture
}

fn colour(candidate: Candidate, number: usize) -> &'static str {
    match candidate {
        Candidate::Fixed(_) => FIXED[number % FIXED.len()],
        Candidate::Threshold => "#dd8800",
        Candidate::Model => "#cc0033",
    }
}

fn panel(
    picture: &mut String,
    (left, top): (f64, f64),
    title: &str,
    seconds: f64,
    (from, to): (f64, f64),
) {
    let x = left + from / seconds * WIDTH;
    let storm = (to - from) / seconds * WIDTH;
    let _ = writeln!(
        picture,
        "<rect x='{x:.1}' y='{top}' width='{storm:.1}' height='{HEIGHT}' fill='#fff0dd'/>"
    );
    let _ = writeln!(
        picture,
        "<rect x='{left}' y='{top}' width='{WIDTH}' height='{HEIGHT}' fill='none' stroke='#cccccc'/>"
    );
    let _ = writeln!(
        picture,
        "<text x='{left}' y='{}' font-weight='bold'>{title}</text>",
        top - 6.0
    );
}

/// One value for each step: rows a second, or the mean size of the calls that ended in it.
fn points(run: &Run, seconds: f64, sizes: bool) -> Vec<(f64, f64)> {
    (0..(seconds / STEP) as usize)
        .filter_map(|step| {
            let begin = step as f64 * STEP;
            let at = begin + STEP / 2.0;
            if !sizes {
                return Some((at, run.record.rows_per_s(begin, begin + STEP)));
            }
            let calls = run
                .record
                .calls
                .iter()
                .filter(|call| call.ended_s > begin && call.ended_s <= begin + STEP);
            let (count, rows) =
                calls.fold((0, 0), |(count, rows), call| (count + 1, rows + call.rows));
            (count > 0).then(|| (at, rows as f64 / f64::from(count)))
        })
        .collect()
}
