//! The parts of a batcher for one protocol each, connected as the builder does.

use std::time::{Duration, Instant};

use super::thread;
use crate::batch::Batch;
use crate::batcher::close::Core;
use crate::batcher::threads::Latch;
use crate::batcher::threads::Thread;
use crate::flush::backlog::Backlog;

use crate::control::controller::Controller;
use crate::control::limits::Control;
use crate::control::limits::Limits;

use crate::error::BatchError;
use crate::exchange::published::SetpointCell;
use crate::exchange::reporter::Reporter;
use crate::exchange::ring::{Reader, Ring};
use crate::feedback::LoadFeedback;
use crate::flush::dead_letters::FailedRows;
use crate::flush::flusher::{Chance, Flusher};
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::flush::lifecycle::CloseTerms;
use crate::flush::retained::Budget;
use crate::flush::retry::{Retry, Rules};
use crate::flush::workers::HandlerSlot;
use crate::policy::setpoint::Setpoint;
use crate::policy::{Concurrency, Policy, Zone};
use crate::queue::gate::GateSettings;
use crate::queue::weigher::Weigher;
use crate::sync::{Arc, Mutex, Parker, Shared, next_serial, now, spawn};
use crate::ticket::{Line, Place};
use crate::wakeup::Doorbell;

/// Later than any model lasts.
pub(super) const LONG: Duration = Duration::from_secs(3_600);

pub(super) type Outcome = Result<LoadFeedback, BatchError>;

/// A batcher whose threads have not started.
pub(super) struct Parts<T> {
    pub(super) lane: Arc<Lane<T>>,
    pub(super) lanes: Arc<Lanes<T>>,
    pub(super) setpoint: Arc<SetpointCell>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) parker: Parker,
    alarm_parker: Parker,
    reader: Reader,
    capacity: usize,
}

/// The last steps of the flusher's thread, as in the builder. `Core` waits for them.
fn thread(body: impl FnOnce() + Send + 'static) -> Thread {
    let ended = Arc::new(Latch::new());
    let at_end = Arc::clone(&ended);
    let handle = spawn("model", body, move || at_end.open());
    Thread {
        ended,
        handle: Mutex::new(Some(handle.unwrap())),
    }
}

fn no_thread() -> Thread {
    let ended = Arc::new(Latch::new());
    ended.open();
    Thread {
        ended,
        handle: Mutex::new(None),
    }
}

/// For tickets whose wait does not wake the flusher.
struct NoLine;

impl Line for NoLine {
    fn wait_for(&self, _: &Place) {}

    fn is_stalled(&self) -> bool {
        false
    }

    fn next_check(&self, deadline: Option<Instant>) -> Option<Instant> {
        deadline
    }

    fn told(&self, _: u64) {}
}

pub(super) fn no_line() -> Shared<dyn Line> {
    Shared::new(NoLine)
}

impl<T> Parts<T> {
    pub(super) fn new(capacity: usize, batch_size: usize) -> Self {
        Self::weighed(capacity, batch_size, None)
    }

    pub(super) fn weighed(capacity: usize, batch_size: usize, weigher: Option<Weigher<T>>) -> Self {
        let (parker, alarm_parker) = (Parker::new(), Parker::new());
        let doorbell = Arc::new(Doorbell::new(&parker));
        let (ring, reader) = Ring::new(1);
        let reporter = Arc::new(Reporter::new(
            ring,
            Vec::new(),
            Doorbell::new(&alarm_parker),
        ));
        let first = Setpoint {
            batch_size,
            linger: LONG,
            pause_ratio: 0.0,
            probe: None,
            concurrency: 1,
            zone: Zone::Unknown,
            score: None,
            reason: "start".into(),
        };
        let setpoint = Arc::new(SetpointCell::new(
            first,
            Box::new([Arc::clone(&doorbell)]),
            None,
        ));
        let settings = GateSettings {
            capacity,
            weigher,
            is_routed: false,
            wait_overrides_linger: true,
            // Longer than any model lasts, so that no check of the stall hides a lost wake-up.
            stall_timeout: LONG,
        };
        let lane = Arc::new(Lane::new(
            settings,
            doorbell,
            next_serial(),
            false,
            |outlet| {
                let failed = FailedRows {
                    has_hook: false,
                    keep: Budget::new(usize::MAX),
                };
                Backlog::new(outlet, failed, 0, 0, now())
            },
        ));
        let lanes = Box::new([Arc::clone(&lane)]);
        let lanes = Arc::new(Lanes::new(lanes, Arc::clone(&setpoint)));
        Self {
            lane,
            lanes,
            setpoint,
            reporter,
            parker,
            alarm_parker,
            reader,
            capacity,
        }
    }

    /// Starts the real flusher with this handler, two attempts and no backoff.
    pub(super) fn start(
        self,
        handler: impl FnMut(&mut Batch<T>) -> Outcome + Send + 'static,
    ) -> thread::JoinHandle<()>
    where
        T: Send + 'static,
    {
        thread::spawn(self.flusher(handler))
    }

    /// What the flusher's thread runs.
    fn flusher(
        self,
        handler: impl FnMut(&mut Batch<T>) -> Outcome + Send + 'static,
    ) -> impl FnOnce()
    where
        T: Send + 'static,
    {
        let Self {
            lane,
            lanes,
            setpoint,
            reporter,
            parker,
            ..
        } = self;
        let retry = Retry::attempts(2)
            .backoff(Duration::ZERO, Duration::ZERO)
            .bisect(false);
        let rules = Rules {
            retry,
            idempotent: false,
        };
        let mut flusher = Flusher {
            lane,
            lanes,
            place: 0,
            setpoint,
            reporter,
            parker,
            on_failed: None,
            rules,
            chance: Chance(0),
        };
        move || {
            let mut handler = HandlerSlot::fixed(handler);
            flusher.run_to_the_end(&mut handler);
            flusher.finish((), &Mutex::new(None));
        }
    }

    /// A whole batcher's core around the real flusher; no controller.
    pub(super) fn core(
        self,
        handler: impl FnMut(&mut Batch<T>) -> Outcome + Send + 'static,
    ) -> Arc<Core<T>>
    where
        T: Send + 'static,
    {
        let (lanes, reporter, control) = (
            Arc::clone(&self.lanes),
            Arc::clone(&self.reporter),
            self.control(),
        );
        let flusher = thread(self.flusher(handler));
        let on_close = Arc::new(Mutex::new(None));
        Arc::new(Core {
            lanes,
            reporter,
            control,
            flushers: vec![flusher],
            controller: no_thread(),
            on_close,
        })
    }

    /// A core whose handler never returns, so that nobody takes items from the queue.
    pub(super) fn stuck(self) -> Arc<Core<T>> {
        let (lanes, reporter, control) = (
            Arc::clone(&self.lanes),
            Arc::clone(&self.reporter),
            self.control(),
        );
        let on_close = Arc::new(Mutex::new(None));
        Arc::new(Core {
            lanes,
            reporter,
            control,
            flushers: vec![no_thread()],
            controller: no_thread(),
            on_close,
        })
    }

    /// A core around the real controller with this policy; no flusher.
    pub(super) fn controlled(self, policy: impl Policy + 'static) -> Arc<Core<T>> {
        let control = self.control();
        let Self {
            lane,
            lanes,
            reporter,
            alarm_parker: parker,
            reader,
            ..
        } = self;
        lane.lock().lifecycle.phase = crate::stats::Phase::Done;
        let controller = Controller {
            queue_watch: None,
            control: Arc::clone(&control),
            reporter: Arc::clone(&reporter),
            reader,
            parker,
            interval: LONG,
            watch: None,
        };
        let controller = thread(move || controller.run(Box::new(policy)));
        let on_close = Arc::new(Mutex::new(None));
        Arc::new(Core {
            lanes,
            reporter,
            control,
            flushers: vec![no_thread()],
            controller,
            on_close,
        })
    }

    fn control(&self) -> Arc<Control> {
        let limits = Limits::new(1, self.capacity, LONG, Concurrency::default());
        Arc::new(Control::new(
            limits,
            Arc::clone(&self.setpoint),
            now(),
            self.capacity,
            1,
        ))
    }
}

/// Closes as `Core` does, without a flusher. Returns all accepted items.
pub(super) fn close_and_seize<T>(lane: &Lane<T>) -> Vec<T> {
    begin_close(lane);
    lane.lock().drain_for_report().0
}

pub(super) fn begin_close<T>(lane: &Lane<T>) {
    lane.lock().close(&lane.gate, CloseTerms::default(), now());
    lane.gate.doorbell.ring();
    lane.gate.permits.wake_all();
}
