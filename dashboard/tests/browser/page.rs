//! The page of batchers in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
use load_aware_batcher_dashboard::Dashboard;

use crate::webdriver::{Page, Tested};

pub const SOON: Duration = Duration::from_secs(60);

/// A batcher whose backend breaks while the flag is set.
fn batcher(name: &str, broken: &Arc<AtomicBool>) -> Batcher<u64> {
    let broken = Arc::clone(broken);
    let handle = move |_: &mut Batch<u64>| {
        if broken.load(SeqCst) {
            return Err(BatchError::unavailable("the <b>backend</b> is broken"));
        }
        Ok(LoadFeedback::new().cpu_load(0.5))
    };
    Batcher::builder().name(name).spawn(handle).unwrap()
}

fn works() -> Arc<AtomicBool> {
    Arc::default()
}

pub fn desktop(dashboard: &Dashboard) -> Tested<Option<Page>> {
    Page::wide(&dashboard.url())
}

/// The total of that name is that number, as the page writes it.
pub fn total(name: &str, number: u64) -> String {
    format!(
        "document.querySelector('[data-total=\"{name}\"]')?.textContent === \
         new Intl.NumberFormat('en').format({number})"
    )
}

#[test]
fn the_totals_are_those_of_stats_and_move() -> Tested {
    let batcher = batcher("orders", &works());
    let dashboard = Dashboard::start([batcher.observer()])?;
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    for items in [1234, 56] {
        batcher.add_many(0..items)?;
        batcher.flush(SOON)?;
        let stats = batcher.stats();
        page.until(&total("added", stats.added))?;
        page.until(&total("handled", stats.handled))?;
        page.until(&total("pending", 0))?;
    }
    page.until(&total("handled", 1290))?;
    page.until("document.querySelector('[data-total=account]').textContent === '✓'")?;
    page.until("document.getElementById('state').textContent === 'open'")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn every_chart_is_drawn_and_changes() -> Tested {
    let batcher = batcher("orders", &works());
    let dashboard = Dashboard::start([batcher.observer()])?;
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    page.until("document.querySelectorAll('.chart canvas').length >= 9")?;
    // In each chart the number of opaque pixels with a colour, which the lines have and the axes
    // have not, and a sum over their places.
    page.run(
        "window.look = () => [...document.querySelectorAll('.chart canvas')].map((canvas) => {
            const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let drawn = 0, sum = 0;
            for (let i = 0; i < all.length; i += 4) {
                const of = [all[i], all[i + 1], all[i + 2]];
                if (all[i + 3] < 200 || Math.max(...of) - Math.min(...of) < 60) continue;
                drawn += 1;
                sum = (sum * 31 + i) % 1000000007;
            }
            return [drawn, sum];
        })",
    )?;
    batcher.add_many(0..500)?;
    batcher.flush(SOON)?;
    page.until(&total("handled", 500))?;
    page.until("look().every(([drawn]) => drawn > 20)")?;
    page.run("window.before = look()")?;
    batcher.add_many(0..5000)?;
    batcher.flush(SOON)?;
    page.until("look().every(([, sum], chart) => sum !== before[chart][1])")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_broken_backend_shows_with_its_error_as_text_and_goes_when_it_is_mended() -> Tested {
    let broken = works();
    let batcher = batcher("orders", &broken);
    let dashboard = Dashboard::start([batcher.observer()])?;
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    page.until("document.getElementById('state').textContent === 'open'")?;
    broken.store(true, SeqCst);
    batcher.add(1)?;
    page.until("document.getElementById('state').textContent.startsWith('failing since')")?;
    let reason = "document.getElementById('reason')";
    page.until(&format!("{reason}.textContent.includes('<b>backend</b>')"))?;
    page.until(&format!("{reason}.children.length === 0"))?;
    broken.store(false, SeqCst);
    page.until("document.getElementById('state').textContent === 'open'")?;
    page.until(&total("handled", 1))?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_page_without_its_server_is_stale_and_goes_on_when_it_is_back() -> Tested {
    let batcher = batcher("orders", &works());
    let dashboard = Dashboard::start([batcher.observer()])?;
    let address = dashboard.address();
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    page.until("state.frames.length >= 2")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    page.run("window.oldest = state.frames[0].at; window.ofRun = state.run")?;
    drop(dashboard);
    page.until("document.getElementById('state').textContent.startsWith('stale')")?;
    page.until("document.body.classList.contains('stale')")?;
    let builder = Dashboard::builder().bind(address).watch(batcher.observer());
    let _again = builder.start()?;
    page.until("state.run !== window.ofRun")?;
    page.until("document.getElementById('state').textContent === 'open'")?;
    page.until("state.frames[0].at === window.oldest && state.frames.length >= 4")?;
    assert_eq!(page.errors(true)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_reload_has_the_history() -> Tested {
    let batcher = batcher("orders", &works());
    let dashboard = Dashboard::start([batcher.observer()])?;
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    page.until("state.frames.length >= 3")?;
    let oldest = page.run("return state.frames[0].at")?;
    page.run("location.reload()")?;
    page.until(&format!(
        "window.oldest === undefined && state.frames[0]?.at === {oldest}"
    ))
}

#[test]
fn keys_choose_the_batcher_and_the_range_and_pause() -> Tested {
    let batchers = [batcher("orders", &works()), batcher("readings", &works())];
    batchers[1].add_many(0..7)?;
    batchers[1].flush(SOON)?;
    let dashboard = Dashboard::start(batchers.iter().map(Batcher::observer))?;
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    page.until(&total("handled", 0))?;
    page.press("2")?;
    page.until("document.querySelector('[aria-selected=true]').textContent === 'readings'")?;
    page.until(&total("handled", 7))?;
    page.press("+")?;
    page.until("document.getElementById('range').value === '5'")?;
    page.press("p")?;
    page.until("document.getElementById('pause').getAttribute('aria-pressed') === 'true'")?;
    page.run("document.querySelector('[role=tab][aria-selected=true]').focus()")?;
    page.press("\u{E012}")?; // the left arrow
    page.until("document.activeElement.textContent === 'orders'")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_button_of_the_program_is_pressed_and_shown_as_pressed() -> Tested {
    let broken = works();
    let batcher = batcher("orders", &broken);
    let of_button = Arc::clone(&broken);
    let dashboard = Dashboard::builder()
        .watch(batcher.observer())
        .control("backend", ["works", "broken"], move |choice| {
            of_button.store(choice == "broken", SeqCst);
        })
        .start()?;
    let Some(page) = desktop(&dashboard)? else {
        return Ok(());
    };
    let pressed = "document.querySelector('#controls [aria-pressed=true]')?.textContent";
    page.until(&format!("{pressed} === 'works'"))?;
    page.run("document.querySelector('[data-choice=broken]').click()")?;
    page.until(&format!("{pressed} === 'broken'"))?;
    assert!(broken.load(SeqCst));
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_narrow_page_does_not_scroll_sideways_and_a_dark_one_is_dark() -> Tested {
    let batchers = [batcher("orders", &works()), batcher("readings", &works())];
    let dashboard = Dashboard::start(batchers.iter().map(Batcher::observer))?;
    let Some(page) = Page::open(&dashboard.url(), 375, 700)? else {
        return Ok(());
    };
    page.until("document.querySelectorAll('.chart canvas').length >= 11")?;
    page.until("document.documentElement.scrollWidth <= 375")?;
    let brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)\
        .reduce((a, b) => a + b)";
    page.dark(false)?;
    page.until(&format!("{brightness} > 600"))?;
    page.dark(true)?;
    page.until(&format!("{brightness} < 150"))?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}
