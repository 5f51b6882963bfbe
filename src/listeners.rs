//! Who is called when something happens: a call, a decision, a wait, a stall, the close.
//!
//! Events are queued and delivered in their order, outside every lock of the batcher. One thread
//! delivers at a time. A thread that finds another one delivering leaves its event in the queue,
//! and the other one checks the queue again before it stops. So a listener may use the batcher, and
//! only the thread that runs a listener waits for it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::events::{BackoffEvent, CallEvent, CloseSummary, DecisionRecord, StallEvent};
use crate::sync::PlainMutex;
use crate::unwind::{drop_each, message};

/// Events that wait at most; one that finds this many is dropped.
const WAITING_MAX: usize = 1_024;

/// Is told what happens, once a call, a decision, a wait, a stall and a close; never once an item.
///
/// From [`Builder::listener`](crate::Builder::listener). Each method does nothing unless it is
/// written. They are called one at a time, in the order of the events, on the flusher's or the
/// controller's thread, and [`closed`](Self::closed) on the thread that closes. A slow listener
/// delays the next batch; an event that finds 1 024 others waiting is dropped. A panic is caught
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
}

impl Listeners {
    pub(crate) fn new(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self(PlainMutex::new(State {
            idle: Some(listeners),
            waiting: VecDeque::new(),
            is_over: false,
            panics: 0,
        }))
    }

    /// Queues an event.
    pub(crate) fn push(&self, told: Told) {
        let mut state = self.0.lock();
        if !state.is_over && state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(told);
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
        Told::Closed(summary) => listener.closed(summary),
    }
}
