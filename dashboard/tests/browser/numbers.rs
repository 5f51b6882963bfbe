//! Every number of the header, each of them other than 0 somewhere.

use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, Fixed, LoadFeedback, Observer, Retry};
use load_aware_batcher_dashboard::Dashboard;
use testkit::{NEVER, directed, fixed, until};

use crate::page::{SOON, total};
use crate::webdriver::{Page, Tested};

/// The totals of the page are those of the snapshot.
fn the_same(page: &Page, observer: &Observer) -> Tested {
    let stats = observer.stats();
    let refused = &stats.refused;
    let refusals = refused.full + refused.timeout + refused.closed + refused.stalled;
    for (name, number) in [
        ("added", stats.added),
        ("handled", stats.handled),
        ("failed", stats.failed),
        ("in doubt", stats.in_doubt),
        ("pending", stats.pending),
        ("refused", refusals),
        ("abandoned", stats.abandoned),
        ("panics", stats.handler_panics + stats.hook_panics),
    ] {
        page.until(&total(name, number))?;
    }
    page.until("document.querySelector('[data-total=account]').textContent === '✓'")
}

#[test]
fn every_total_is_that_of_stats_for_rows_that_fail_panics_refusals_and_what_is_left_behind()
-> Tested {
    // The first call panics and leaves its rows in doubt. Of the next nine rows two are rejected, one
    // of them in doubt. The hook panics at each failed row.
    let mut calls = 0;
    let troubled = fixed(9)
        .name("troubled")
        .retry(Retry::none())
        .on_failed(|_| std::panic::resume_unwind(Box::new("the hook")))
        .spawn(move |batch: &mut Batch<u64>| {
            calls += 1;
            if calls == 1 {
                std::panic::resume_unwind(Box::new("the handler"));
            }
            for index in 0..batch.len() {
                match batch[index] {
                    13 => batch.reject(index, BatchError::permanent("no")),
                    15 => batch.reject(index, BatchError::in_doubt("perhaps")),
                    _ => {}
                }
            }
            Ok(LoadFeedback::new())
        })?;
    troubled.add_many(1..=18)?;
    let seen = until(&troubled, |stats| stats.pending == 0);
    assert_eq!((seen.failed, seen.handler_panics), (11, 1));
    assert!(seen.in_doubt > 0 && seen.hook_panics > 0);
    let _ = troubled.shutdown(SOON);
    assert!(troubled.add(10).is_err());

    let (handler, director) = directed();
    let hung = fixed(2).name("hung").queue_capacity(3).spawn(handler)?;
    hung.add_many([1, 2])?;
    director.call();
    while hung.try_add(3).is_ok() {}

    let observers = [troubled.observer(), hung.observer()];
    let dashboard = Dashboard::start(observers.iter().cloned())?;
    let Some(page) = Page::wide(&dashboard.url())? else {
        return Ok(());
    };
    the_same(&page, &observers[0])?;
    page.press("2")?;
    the_same(&page, &observers[1])?;
    assert!(observers[1].stats().refused.full > 0);
    let _ = hung.shutdown(Duration::ZERO);
    assert_eq!(observers[1].stats().abandoned, 2);
    the_same(&page, &observers[1])?;
    page.until("document.getElementById('state').textContent === 'abandoned'")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_thresholds_of_the_policy_are_in_the_load_chart_though_the_reason_names_none() -> Tested {
    use load_aware_batcher::LoadThreshold;
    let batcher = Batcher::builder()
        .name("orders")
        .linger(NEVER)
        .policy(LoadThreshold::new().thresholds(0.25, 0.8))
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
    let dashboard = Dashboard::start([batcher.observer()])?;
    let Some(page) = Page::wide(&dashboard.url())? else {
        return Ok(());
    };
    // Nothing was decided by a score yet.
    let newest = |line: usize| format!("plots.get('load').u.data[{line}].at(-1)");
    page.until(&format!("{} === 0.25 && {} === 0.8", newest(2), newest(3)))?;
    batcher.reconfigure(|limits| limits.policy(Fixed(9)))?;
    page.until(&format!("{} === null && {} === null", newest(2), newest(3)))?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}
