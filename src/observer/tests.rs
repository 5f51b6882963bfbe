//! The numbers that stay, where a flusher ends at the worst moment.

use std::time::Instant;

use super::*;
use crate::sync::Mutex;

/// What happens in the middle of a snapshot.
type Meanwhile = Box<dyn FnOnce(&Counted) + Send>;

/// A batcher whose calls that have come back are counted here.
struct Counted {
    handled: Mutex<u64>,
    /// What happens once a snapshot was taken, before it is returned: once.
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Counted {
    fn new() -> Shared<Self> {
        Shared::new(Self {
            handled: Mutex::new(0),
            meanwhile: Mutex::new(None),
        })
    }

    fn meanwhile(&self, happens: impl FnOnce(&Counted) + Send + 'static) {
        *self.meanwhile.lock() = Some(Box::new(happens));
    }

    /// A flusher ends, with an item handled.
    fn ends(&self, observer: &Observer) {
        *self.handled.lock() += 1;
        observer.settle(self);
    }
}

impl Source for Counted {
    fn stats(&self) -> Stats {
        let mut stats = crate::metrics::tests::stats();
        stats.handled = *self.handled.lock();
        let happens = self.meanwhile.lock().take();
        if let Some(happens) = happens {
            happens(self);
        }
        stats
    }
}

fn observer(source: &Shared<Counted>) -> Observer {
    let journal = Shared::new(Journal::new(Instant::now()));
    let source = Shared::clone(source) as Shared<dyn Source>;
    Observer::new("counted".to_owned(), journal, source)
}

#[test]
fn a_flusher_that_ends_while_the_last_numbers_are_read_is_in_them() {
    let source = Counted::new();
    let observer = observer(&source);
    let own = observer.clone();
    source.meanwhile(move |source| source.ends(&own));
    observer.end();
    assert_eq!(observer.stats().handled, 1);
}

#[test]
fn of_two_flushers_that_end_at_once_the_last_numbers_have_both() {
    let source = Counted::new();
    let observer = observer(&source);
    observer.end();
    let own = observer.clone();
    source.meanwhile(move |source| source.ends(&own));
    source.ends(&observer);
    assert_eq!(observer.stats().handled, 2);
}
