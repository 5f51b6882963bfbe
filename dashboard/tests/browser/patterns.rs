//! Each load pattern of the demo, pressed in the page: it changes the rate curve that the page
//! draws, or what else it is meant to change.

use crate::demo::Demo;
use crate::webdriver::{Page, Tested};

/// Functions for the conditions.
///
/// `curve(control, choice)`: the arrivals of the chart since that choice of that control has been
/// in force. `part(rates, share)`: the rate that this share of them does not exceed.
/// `mean(rates)`. `flat(rates)`: they differ by little, a few stray ones aside.
const FUNCTIONS: &str = "
    window.since = (control, choice) =>
        state.frames.slice(state.frames.findLastIndex((f) => f.chosen[control] !== choice) + 1);
    window.curve = (control, choice) => {
        const begun = since(control, choice)[0]?.at ?? Infinity;
        const [x, rates] = plots.get('rate').u.data;
        return rates.filter((rate, i) => rate !== null && x[i] * 1000 > begun);
    };
    window.part = (rates, share) =>
        rates.toSorted((a, b) => a - b)[Math.floor(share * (rates.length - 1))];
    window.mean = (rates) => rates.reduce((a, b) => a + b, 0) / rates.length;
    window.flat = (rates) => part(rates, 0.9) < 1.6 * part(rates, 0.1);
";

/// Opens the page at the batcher that keeps up with every pattern.
fn opened(demo: &Demo) -> Tested<Option<Page>> {
    let Some(page) = Page::wide(&demo.url)? else {
        return Ok(None);
    };
    page.until("state.frames.length > 0")?;
    page.press("3")?;
    page.run(FUNCTIONS)?;
    Ok(Some(page))
}

#[test]
fn each_pattern_changes_the_rate_curve_as_its_name_says() -> Tested {
    let demo = Demo::start(&[])?;
    let Some(page) = opened(&demo)? else {
        return Ok(());
    };
    page.until("(r => r.length >= 8 && flat(r) && part(r, 0.5) > 1000)(curve(0, 'constant'))")?;
    page.run("window.base = part(curve(0, 'constant'), 0.5)")?;

    page.choose("spikes")?;
    page.until(
        "(r => r.length >= 16 && Math.max(...r) >= 3 * part(r, 0.5)
            && part(r, 0.5) < 1.6 * base)(curve(0, 'spikes'))",
    )?;

    page.choose("sine")?;
    // Above, and then below.
    page.until(
        "(r => {
            const top = r.findIndex((rate) => rate >= 1.5 * base);
            return top >= 0 && Math.min(...r.slice(top)) <= 0.6 * base;
        })(curve(0, 'sine'))",
    )?;

    page.choose("gradual")?;
    // From little, and each quarter above the one before.
    page.until(
        "(r => {
            const quarter = Math.floor(r.length / 4);
            const means = [0, 1, 2, 3].map((i) => mean(r.slice(i * quarter, (i + 1) * quarter)));
            return r.length >= 20 && means[0] < 0.7 * base && means[3] > 1.5 * means[0]
                && means.every((rate, i) => i === 0 || rate > means[i - 1]);
        })(curve(0, 'gradual'))",
    )?;

    page.choose("constant")?;
    page.until(
        "(r => r.length >= 8 && flat(r) && Math.abs(part(r, 0.5) / base - 1) < 0.4)\
        (curve(0, 'constant'))",
    )?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_arrival_rate_is_that_of_its_button() -> Tested {
    let demo = Demo::start(&[])?;
    let Some(page) = opened(&demo)? else {
        return Ok(());
    };
    page.until("(r => r.length >= 4 && flat(r))(curve(1, '6000/s'))")?;
    page.run("window.base = part(curve(1, '6000/s'), 0.5)")?;
    for (choice, least, most) in [
        ("600/s", 0.05, 0.2),
        ("20 000/s", 2.0, 5.0),
        ("2000/s", 0.2, 0.5),
    ] {
        page.choose(choice)?;
        page.until(&format!(
            "(r => r.length >= 4 && part(r, 0.5) > {least} * base && part(r, 0.5) < {most} * base)\
            (curve(1, '{choice}'))"
        ))?;
    }
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_neighbours_load_the_backend_and_leave_the_rate_as_it_is() -> Tested {
    let demo = Demo::start(&[])?;
    let Some(page) = opened(&demo)? else {
        return Ok(());
    };
    page.until("(r => r.length >= 8 && flat(r))(curve(0, 'constant'))")?;
    page.run("window.base = part(curve(0, 'constant'), 0.5)")?;
    page.choose("neighbours")?;
    page.until(
        "(loads => Math.max(...loads) - loads[0] > 0.3)\
        (since(0, 'neighbours').map((f) => f.batchers[2].signals.cpu_load))",
    )?;
    page.until(
        "(r => flat(r) && Math.abs(part(r, 0.5) / base - 1) < 0.4)(curve(0, 'neighbours'))",
    )?;
    // In the load chart too: the score, and the line of the signal.
    page.until("document.querySelector('#chart-load p').textContent.includes('cpu_load')")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}
