//! Listeners get each call, decision, wait, stall and close once and in order, and cannot disturb
//! the batcher.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    BackoffEvent, Batch, BatchError, Batcher, CallEvent, CloseSummary, DecisionRecord, Fixed,
    Listener, LoadFeedback, Observer, QueueFullEvent, Retry, StallEvent,
};
use testkit::{LONG, NEVER, directed, ends, fixed, until};

/// Sends one word for each event.
struct Words(mpsc::Sender<String>);

impl Words {
    fn say(&self, words: String) {
        let _ = self.0.send(words);
    }
}

impl Listener for Words {
    fn call(&mut self, call: &CallEvent) {
        let error = call.error.as_ref().map(|error| error.text.as_str());
        self.say(format!("call {} {:?}", call.len, error));
    }

    fn decision(&mut self, decision: &DecisionRecord) {
        self.say(format!("decision {}", decision.reason));
    }

    fn backoff(&mut self, backoff: &BackoffEvent) {
        let error = backoff.error.as_ref().map(|error| error.text.as_str());
        self.say(format!("backoff {} {error:?}", backoff.failures));
    }

    fn stall(&mut self, stall: &StallEvent) {
        self.say(format!(
            "stall {}",
            if stall.lasted.is_some() {
                "ends"
            } else {
                "begins"
            }
        ));
    }

    fn queue_full(&mut self, full: &QueueFullEvent) {
        let edge = if full.lasted.is_some() {
            "ends"
        } else {
            "begins"
        };
        self.say(format!("full {edge}"));
    }

    fn closed(&mut self, summary: &CloseSummary) {
        self.say(format!("closed {} {}", summary.handled, summary.is_clean));
    }
}

fn next(words: &mpsc::Receiver<String>) -> String {
    words.recv_timeout(LONG).expect("an event")
}

/// The next event that is no decision. Decisions come from another thread.
fn next_but_decisions(words: &mpsc::Receiver<String>) -> String {
    loop {
        let word = next(words);
        if !word.starts_with("decision") {
            return word;
        }
    }
}

#[test]
fn every_listener_gets_each_call_and_the_close_once_and_in_order() {
    ends(|| {
        let ((one, ones), (other, others)) = (mpsc::channel(), mpsc::channel());
        let batcher = fixed(2)
            .listener(Words(one))
            .listener(Words(other))
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.add_many(0..5).unwrap();
        assert!(batcher.close(LONG).is_clean());
        for words in [ones, others] {
            let told: Vec<String> = words
                .iter()
                .filter(|w| !w.starts_with("decision"))
                .collect();
            // Five items in batches of two. The end of the iterator shows that the listener was
            // dropped.
            let expected = ["call 2 None", "call 2 None", "call 1 None", "closed 5 true"];
            assert_eq!(told, expected);
        }
    });
}

#[test]
fn a_backoff_is_reported_once_however_often_the_flusher_wakes_during_it() {
    ends(|| {
        let (say, words) = mpsc::channel();
        let batcher = fixed(1)
            .retry(Retry::default().longest_retry_after(NEVER))
            .listener(Words(say))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::unavailable("away").retry_after(NEVER)))
            .unwrap();
        batcher.add(1).unwrap();
        assert_eq!(next_but_decisions(&words), "call 1 Some(\"away\")");
        assert_eq!(next_but_decisions(&words), "backoff 1 Some(\"away\")");
        // Each of these wakes the flusher, and none shortens a wait that the backend asked for.
        for _ in 0..1_000 {
            batcher.request_flush();
            std::thread::yield_now();
        }
        assert!(!batcher.close(Duration::ZERO).is_clean());
        let rest: Vec<String> = words
            .iter()
            .filter(|w| !w.starts_with("decision"))
            .collect();
        assert_eq!(rest.last().unwrap(), "closed 0 false");
        assert!(
            rest[..rest.len() - 1]
                .iter()
                .all(|word| word.starts_with("call")),
            "{rest:?}"
        );
    });
}

#[test]
fn a_stall_is_reported_at_its_beginning_and_its_end() {
    ends(|| {
        let (say, words) = mpsc::channel();
        let batcher = fixed(1)
            .retry(Retry::none())
            .keep_failed(1)
            .listener(Words(say))
            .spawn(|_: &mut Batch<u64>| Err(BatchError::permanent("no")))
            .unwrap();
        batcher.add(1).unwrap();
        assert_eq!(next_but_decisions(&words), "call 1 Some(\"no\")");
        assert_eq!(next_but_decisions(&words), "stall begins");
        assert_eq!(batcher.take_failed().len(), 1);
        assert_eq!(next_but_decisions(&words), "stall ends");
    });
}

#[test]
fn a_full_queue_is_told_at_its_beginning_and_its_end_while_the_handler_hangs() {
    ends(|| {
        let ((say, words), (handler, director)) = (mpsc::channel(), directed());
        let batcher = fixed(1)
            .queue_capacity(1)
            .load_check_interval(Duration::from_millis(1))
            .listener(Words(say))
            .spawn(handler)
            .unwrap();
        batcher.add(0).unwrap();
        director.call();
        // One refusal is over at the next check.
        while batcher.try_add(0).is_ok() {}
        assert_eq!(next_but_decisions(&words), "full begins");
        assert_eq!(next_but_decisions(&words), "full ends");
        // Somebody who waits is one edge, however many checks find it so.
        let producer = batcher.producer();
        let waiting = std::thread::spawn(move || producer.add(1));
        assert_eq!(next_but_decisions(&words), "full begins");
        let before = batcher.stats().decisions.hold;
        until(&batcher, |stats| stats.decisions.hold > before + 5);
        drop(director);
        waiting.join().unwrap().unwrap();
        let full = std::iter::repeat_with(|| next_but_decisions(&words))
            .find(|word| word.starts_with("full"));
        assert_eq!(full.unwrap(), "full ends");
    });
}

#[test]
fn decisions_are_reported_those_of_reconfigure_too() {
    ends(|| {
        let (say, words) = mpsc::channel();
        let batcher = Batcher::builder()
            .listener(Words(say))
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher
            .reconfigure(|limits| {
                limits.max_batch_size(10);
                limits.policy(Fixed(5));
            })
            .unwrap();
        assert_eq!(next(&words), "decision reconfigured");
        assert_eq!(next(&words), "decision the size is fixed");

        // A larger size wakes no flusher, so this event comes from the controller.
        let (say, words) = mpsc::channel();
        let batcher = Batcher::builder()
            .initial_batch_size(10)
            .listener(Words(say))
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher
            .reconfigure(|limits| limits.policy(Fixed(50)))
            .unwrap();
        while next(&words) != "decision the size is fixed" {}
    });
}

/// Panics at each call and when it is dropped.
struct Panics;

impl Listener for Panics {
    fn call(&mut self, _: &CallEvent) {
        // Without the panic hook, which would print the panic.
        std::panic::resume_unwind(Box::new("a listener"));
    }
}

#[test]
fn a_listener_that_panics_is_counted_and_harms_nobody() {
    ends(|| {
        let (say, words) = mpsc::channel();
        let batcher = fixed(1)
            .listener(Panics)
            .listener(Words(say))
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.add_many([1, 2]).unwrap();
        assert_eq!(next_but_decisions(&words), "call 1 None");
        assert_eq!(next_but_decisions(&words), "call 1 None");
        until(&batcher, |stats| stats.hook_panics == 2);
        assert!(batcher.close(LONG).is_clean());
    });
}

/// Uses the batcher that it listens to.
struct Curious {
    observer: Arc<OnceLock<Observer>>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Listener for Curious {
    fn call(&mut self, _: &CallEvent) {
        let observer = testkit::wait_for(&self.observer);
        // By now the items of the call have their outcome.
        self.seen.lock().unwrap().push(observer.stats().handled);
        assert!(!observer.recent(0).calls.is_empty());
    }
}

#[test]
fn a_listener_may_use_the_batcher_and_finds_the_calls_outcome_there() {
    ends(|| {
        let (observer, seen) = (Arc::default(), Arc::default());
        let curious = Curious {
            observer: Arc::clone(&observer),
            seen: Arc::clone(&seen),
        };
        let batcher = fixed(3)
            .listener(curious)
            .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
            .unwrap();
        batcher.add_many(0..3).unwrap();
        assert!(observer.set(batcher.observer()).is_ok());
        assert!(batcher.close(LONG).is_clean());
        assert_eq!(*seen.lock().unwrap(), [3]);
    });
}
