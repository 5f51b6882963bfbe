//! An observer works from any thread, has a history, and keeps no batcher open.

use std::sync::Arc;
use std::time::Duration;

use load_aware_batcher::{
    Batch, BatchError, Batcher, ErrorClass, Fixed, LoadFeedback, Observer, Phase, Retry,
};
use testkit::{LONG, Reply, directed, ends, fixed, until};

fn all_well(builder: load_aware_batcher::Builder<u64>) -> Batcher<u64> {
    builder
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap()
}

/// Waits until the observer sees it.
fn seen(observer: &Observer, expected: impl Fn(&Observer) -> bool) {
    let begun = std::time::Instant::now();
    while !expected(observer) {
        assert!(begun.elapsed() < LONG, "not seen: {:#?}", observer.stats());
        std::thread::yield_now();
    }
}

#[test]
fn an_observer_can_be_sent_shared_and_kept() {
    fn check<O: Clone + Send + Sync + 'static>() {}
    check::<Observer>();
}

#[test]
fn observers_of_batchers_of_different_items_are_of_one_type_and_answer_after_the_end() {
    ends(|| {
        let numbers = all_well(fixed(1).name("numbers"));
        let texts = Batcher::builder()
            .name("texts")
            .spawn(|_: &mut Batch<String>| Ok(LoadFeedback::new()))
            .unwrap();
        let observers = [numbers.observer(), texts.observer().clone()];
        numbers.add(1).unwrap();
        texts.add("one".to_owned()).unwrap();
        assert!(numbers.close(LONG).is_clean() && texts.close(LONG).is_clean());
        for (observer, name) in observers.iter().zip(["numbers", "texts"]) {
            let stats = observer.stats();
            assert_eq!((observer.name(), stats.name.as_str()), (name, name));
            assert_eq!((stats.added, stats.handled, stats.pending), (1, 1, 0));
            assert_eq!((stats.phase, stats.closed.clean), (Phase::Done, 1));
        }
    });
}

#[test]
fn an_observer_does_not_keep_the_queue() {
    ends(|| {
        let token = Arc::new(());
        // The queue owns the closure that weighs.
        let of_queue = Arc::clone(&token);
        let batcher = all_well(fixed(1).max_batch_weight(9, move |_| {
            let _ = &of_queue;
            1
        }));
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        assert_eq!(Arc::strong_count(&token), 2);
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(Arc::strong_count(&token), 1);
        assert_eq!(observer.stats().handled, 1);
    });
}

#[test]
fn the_outcomes_of_an_abandoned_handler_reach_the_observer_of_a_dropped_batcher() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(1).spawn(handler).unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        director.call();
        drop(batcher);
        let stats = observer.stats();
        assert_eq!((stats.abandoned, stats.phase), (1, Phase::Abandoned));
        director.reply(Reply::Ok);
        seen(&observer, |observer| observer.stats().handled == 1);
        assert_eq!(observer.stats().abandoned, 0);
    });
}

#[test]
fn a_late_observer_has_the_history_and_gets_each_event_once() {
    ends(|| {
        let (handler, director) = directed();
        let batcher = fixed(2).retry(Retry::none()).spawn(handler).unwrap();
        batcher.add_many([1, 2]).unwrap();
        director.answer(Reply::Reject(vec![1]));
        until(&batcher, |stats| stats.failed == 1);
        batcher
            .reconfigure(|limits| limits.policy(Fixed(1)))
            .unwrap();
        let observer = batcher.observer();
        seen(&observer, |observer| {
            !observer.recent(0).failures.is_empty()
        });
        let recent = observer.recent(0);
        let call = &recent.calls[0];
        assert_eq!((call.len, call.rejected, call.attempt), (2, 1, 1));
        assert_eq!((call.cut_at, &call.error), (2, &None));
        let failure = &recent.failures[0];
        assert_eq!(failure.error.class, ErrorClass::Permanent);
        assert_eq!(
            (failure.error.text.as_str(), failure.attempts),
            ("rejected", 1)
        );
        assert_eq!(observer.decisions(), batcher.decisions());
        assert!(!recent.decisions.is_empty());

        batcher.add_many([3, 4]).unwrap();
        director.answer(Reply::Err(BatchError::in_doubt("the answer is lost")));
        seen(&observer, |observer| {
            let news = observer.recent(recent.next);
            !news.calls.is_empty() && !news.failures.is_empty()
        });
        let news = observer.recent(recent.next);
        let error = news.calls[0].error.as_ref().unwrap();
        assert_eq!((error.class, error.panicked), (ErrorClass::InDoubt, false));
        assert!(news.failures[0].in_doubt);
        let numbers = |recent: &load_aware_batcher::Recent| -> Vec<u64> {
            let calls = recent.calls.iter().map(|call| call.sequence);
            let decisions = recent.decisions.iter().map(|decision| decision.sequence);
            let failures = recent.failures.iter().map(|failure| failure.sequence);
            let mut all: Vec<u64> = calls.chain(decisions).chain(failures).collect();
            all.sort_unstable();
            all
        };
        let once: Vec<u64> = [numbers(&recent), numbers(&news)].concat();
        assert!(once.is_sorted_by(|one, next| one < next), "{once:?}");
    });
}

#[test]
fn rows_that_a_close_fails_are_among_the_recent_failures() {
    ends(|| {
        let batcher = fixed(1)
            .retry(Retry::default().backoff(testkit::NEVER, testkit::NEVER))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::transient("away")))
            .unwrap();
        let observer = batcher.observer();
        batcher.add(1).unwrap();
        until(&batcher, |stats| stats.retrying.is_some());
        let report = batcher.close(Duration::ZERO);
        assert_eq!(report.failed.len(), 1);
        seen(&observer, |observer| observer.recent(0).failures.len() == 1);
    });
}
