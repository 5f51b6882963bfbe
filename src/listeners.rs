//! Who is called when something happens: a call, a decision, a wait, a stall, a full queue, the
//! close.
//!
//! Events are queued and delivered in their order, outside every lock of the batcher. One thread
//! delivers at a time. A thread that finds another one delivering leaves its event in the queue,
//! and the other one checks the queue again before it stops. So a listener may use the batcher, and
//! only the thread that runs a listener waits for it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::events::{
    BackoffEvent, CallEvent, CloseSummary, DecisionRecord, QueueFullEvent, StallEvent,
};
use crate::sync::PlainMutex;
use crate::unwind::{drop_each, message};

/// The most events that wait. One that finds this many is dropped, unless it is the last.
const WAITING_MAX: usize = 1_024;

/// Is told what happens, once a call, a decision, a wait, a stall, a full queue and a close; never
/// once an item.
///
/// From [`Builder::listener`](crate::Builder::listener). Each method does nothing unless it is
/// written. They are called one at a time, in the order of the events, on the flusher's or the
/// controller's thread, and [`closed`](Self::closed) on the thread that closes. A slow listener
/// delays the next batch; an event that finds 1 024 others waiting is dropped and counted in
/// [`Stats::events_dropped`](crate::Stats::events_dropped), the close excepted. A panic is caught
/// and counted in [`Stats::hook_panics`](crate::Stats::hook_panics).
///
/// ```
/// use std::sync::mpsc;
/// use load_aware_batcher::{Batch, Batcher, CallEvent, CloseSummary, Listener, LoadFeedback};
///
/// struct Lines(mpsc::Sender<String>);
///
/// impl Listener for Lines {
///     fn call(&mut self, call: &CallEvent) {
///         let _ = self.0.send(format!("{} rows in {:?}", call.len, call.service_time));
///     }
///
///     fn closed(&mut self, summary: &CloseSummary) {
///         let _ = self.0.send(format!("closed, {} handled", summary.handled));
///     }
/// }
///
/// let (sender, lines) = mpsc::channel();
/// let batcher = Batcher::builder()
///     .listener(Lines(sender))
///     .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// batcher.add(1)?;
/// assert!(batcher.close(std::time::Duration::from_secs(9)).is_clean());
/// assert!(lines.recv()?.starts_with("1 rows in "));
/// assert_eq!(lines.recv()?, "closed, 1 handled");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Listener: Send {
    /// A call of the handler has returned, and its items have their outcome.
    fn call(&mut self, call: &CallEvent) {
        let _ = call;
    }

    /// A decision was put in force that changes something or says something new.
    fn decision(&mut self, decision: &DecisionRecord) {
        let _ = decision;
    }

    /// The flusher waits before another attempt.
    fn backoff(&mut self, backoff: &BackoffEvent) {
        let _ = backoff;
    }

    /// A stall begins or ends.
    fn stall(&mut self, stall: &StallEvent) {
        let _ = stall;
    }

    /// Producers begin to wait for room in the queue, or to be refused since there is none; or that is
    /// over. Noticed at the next [`load_check_interval`](crate::Builder::load_check_interval), so
    /// that an add notes nothing: what lasts for less is told too, with the checks as its bounds.
    fn queue_full(&mut self, full: &QueueFullEvent) {
        let _ = full;
    }

    /// The batcher was closed. Nothing is told after this.
    fn closed(&mut self, summary: &CloseSummary) {
        let _ = summary;
    }
}

/// An event on its way.
pub(crate) enum Told {
    Call(CallEvent),
    Decision(DecisionRecord),
    Backoff(BackoffEvent),
    Stall(StallEvent),
    QueueFull(QueueFullEvent),
    Closed(CloseSummary),
}

/// See the module's doc.
pub(crate) struct Listeners(PlainMutex<State>);

struct State {
    /// `None` while a thread delivers, and after the end.
    idle: Option<Vec<Box<dyn Listener>>>,
    waiting: VecDeque<Told>,
    is_over: bool,
    panics: u64,
    dropped: u64,
}

impl Listeners {
    pub(crate) fn new(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self(PlainMutex::new(State {
            idle: Some(listeners),
            waiting: VecDeque::new(),
            is_over: false,
            panics: 0,
            dropped: 0,
        }))
    }

    /// Queues an event.
    pub(crate) fn push(&self, told: Told) {
        let mut state = self.0.lock();
        if state.is_over {
            return;
        }
        if state.waiting.len() < WAITING_MAX || matches!(told, Told::Closed(_)) {
            state.waiting.push_back(told);
        } else {
            state.dropped += 1;
        }
    }

    /// Delivers what waits, unless another thread does.
    pub(crate) fn deliver(&self) {
        loop {
            let mut state = self.0.lock();
            if state.waiting.is_empty() {
                return;
            }
            let Some(mut listeners) = state.idle.take() else {
                return;
            };
            let told = state.waiting.pop_front();
            drop(state);
            let mut panics = 0;
            for listener in &mut listeners {
                let call = AssertUnwindSafe(|| told.iter().for_each(|told| tell(listener, told)));
                if let Err(panic) = catch_unwind(call) {
                    drop(message(panic));
                    panics += 1;
                }
            }
            let is_over = matches!(told, Some(Told::Closed(_)));
            if is_over {
                panics += drop_each(&mut listeners);
            }
            let mut state = self.0.lock();
            state.panics += panics;
            state.is_over |= is_over;
            state.idle = Some(listeners);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    pub(crate) fn panics(&self) -> u64 {
        self.0.lock().panics
    }
}

fn tell(listener: &mut Box<dyn Listener>, told: &Told) {
    match told {
        Told::Call(call) => listener.call(call),
        Told::Decision(decision) => listener.decision(decision),
        Told::Backoff(backoff) => listener.backoff(backoff),
        Told::Stall(stall) => listener.stall(stall),
        Told::QueueFull(full) => listener.queue_full(full),
        Told::Closed(summary) => listener.closed(summary),
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Words(mpsc::Sender<&'static str>);

    impl Listener for Words {
        fn stall(&mut self, _: &StallEvent) {
            let _ = self.0.send("stall");
        }

        fn closed(&mut self, _: &CloseSummary) {
            let _ = self.0.send("closed");
        }
    }

    #[test]
    fn what_finds_too_many_waiting_is_counted_and_the_close_is_told_all_the_same() {
        let (say, words) = mpsc::channel();
        let listeners = Listeners::new(vec![Box::new(Words(say))]);
        let stall = StallEvent {
            at: Duration::ZERO,
            lasted: None,
        };
        (0..WAITING_MAX + 3).for_each(|_| listeners.push(Told::Stall(stall.clone())));
        assert_eq!(listeners.dropped(), 3);
        listeners.push(Told::Closed(CloseSummary {
            at: Duration::ZERO,
            handled: 0,
            failed: 0,
            unsent: 0,
            abandoned: 0,
            timed_out: false,
            is_clean: true,
        }));
        listeners.deliver();
        let told: Vec<&str> = words.try_iter().collect();
        assert_eq!(told.len(), WAITING_MAX + 1);
        assert_eq!(told.last(), Some(&"closed"));
        listeners.push(Told::Stall(stall));
        assert_eq!(listeners.dropped(), 3, "nothing is told after the close");
    }
}
