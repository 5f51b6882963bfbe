//! From valid settings to two running threads.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Builder, Sizes};
use crate::batch::Handler;
use crate::batcher::Batcher;
use crate::batcher::close::Core;
use crate::batcher::threads::Latch;
use crate::batcher::threads::Thread;
use crate::batcher::watched::Watched;
use crate::flush::backlog::Backlog;
use crate::flush::close_report::OnClose;

use crate::control::controller::Controller;
use crate::control::limits::Control;
use crate::control::limits::Limits;

use crate::batcher::producer::Producer;
use crate::batcher::sensor::Sampled;
use crate::error::BuildError;
use crate::exchange::published::SetpointCell;
use crate::exchange::reporter::Reporter;
use crate::exchange::ring::Ring;
use crate::flush::dead_letters::FailedRows;
use crate::flush::flusher::{Chance, Flusher};
use crate::flush::lane::Lane;
use crate::flush::retry::Rules;
use crate::flush::workers::HandlerSlot;
use crate::journal::Journal;
use crate::observer::{Observer, Source};
use crate::policy::setpoint::Setpoint;
use crate::policy::{Policy, Zone};
use crate::queue::gate::GateSettings;
use crate::queue::weigher::Weigher;
use crate::snapshot::Identity;
use crate::sync::{
    Arc, Condvar, JoinHandle, Mutex, Parker, Shared, belong_to, next_serial, now, random_seed,
    spawn,
};
use crate::unwind::message;
use crate::wakeup::Doorbell;

impl<T: Send + 'static> Builder<T> {
    pub(super) fn start<H, F>(self, sizes: &Sizes, make: F) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
        F: FnOnce() -> Result<HandlerSlot<H>, Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let start = now();
        let serial = next_serial();
        let seed = random_seed();
        let (parker, alarm_parker) = (Parker::new(), Parker::new());
        let doorbell = Arc::new(Doorbell::new(&parker));
        let (ring, reader) = Ring::new(self.feedback_capacity);
        let reporter = Arc::new(Reporter::new(
            ring,
            self.custom,
            Doorbell::new(&alarm_parker),
        ));
        let first = Setpoint {
            batch_size: sizes.initial,
            linger: self.linger,
            pause_ratio: 0.0,
            probe: None,
            zone: Zone::Unknown,
            score: None,
            reason: "the initial size".into(),
        };
        let setpoint = Arc::new(SetpointCell::new(first, Arc::clone(&doorbell)));
        let limits = Limits::new(sizes.min, sizes.max, self.linger);
        let control = Control::new(limits, Arc::clone(&setpoint), start, sizes.capacity);
        let name = self.name.unwrap_or_else(|| self.thread_name.clone());
        let identity = Identity {
            name: name.clone(),
            idempotent: self.idempotent,
            retry: self.retry.bound(),
        };
        let journal = Shared::new(Journal::new(start).with(self.listeners));
        let control = Arc::new(control.of(identity, &journal));
        let weigher = self.weigher.map(|(limit, weigh)| {
            // The sums are signed: above this lies nothing that could be distinguished from a sum
            // below zero.
            let most = isize::MAX as usize;
            Weigher {
                weight: weigh,
                limit: limit.min(most),
                queue_limit: self.max_queue_weight.map(|limit| limit.min(most)),
                refuse_too_heavy: self.refuse_too_heavy,
            }
        });
        let failed_rows = FailedRows {
            has_hook: self.on_failed.is_some(),
            keep: self.keep_failed,
        };
        let settings = GateSettings {
            capacity: sizes.capacity,
            weigher,
            wait_overrides_linger: self.wait_overrides_linger,
            stall_timeout: self.stall_timeout,
        };
        let lane = Lane::new(settings, doorbell, serial, |outlet| {
            Backlog::new(outlet, failed_rows, seed, start)
        });
        let lane = Arc::new(lane.of(&journal));
        let watched = Shared::new(Watched {
            lane: Arc::clone(&lane),
            reporter: Arc::clone(&reporter),
            control: Arc::clone(&control),
        });
        let source = Shared::clone(&watched) as Shared<dyn Source>;
        let observer = Observer::new(name, journal, source);
        let settled = observer.clone();
        let settle = move || settled.settle(&*watched);
        let flusher = Flusher {
            lane: Arc::clone(&lane),
            setpoint: Arc::clone(&setpoint),
            reporter: Arc::clone(&reporter),
            parker,
            on_failed: self.on_failed,
            rules: Rules {
                retry: self.retry,
                idempotent: self.idempotent,
            },
            chance: Chance(seed),
        };
        let on_close = Arc::new(Mutex::new(self.on_close));
        let flusher = start_flusher(
            &self.thread_name,
            flusher,
            Arc::clone(&on_close),
            serial,
            (make, settle),
        )?;
        let controller = Controller {
            control: Arc::clone(&control),
            reporter: Arc::clone(&reporter),
            reader,
            parker: alarm_parker,
            interval: self.load_check_interval,
        };
        let controller = start_controller(&self.thread_name, controller, serial, self.policy);
        let (controller, problem) = match controller {
            Ok(thread) => (thread, None),
            Err(problem) => (never_started(), Some(problem)),
        };
        let core = Core {
            lane,
            reporter,
            control,
            flusher,
            controller,
            on_close,
        };
        let problem = problem.or_else(|| {
            let start = |sensor: Sampled| {
                let (reporter, ended) = (&core.reporter, &core.controller.ended);
                sensor.start(&self.thread_name, Arc::clone(reporter), Arc::clone(ended))
            };
            self.sensors
                .into_iter()
                .find_map(|sensor| start(sensor).err())
        });
        match problem {
            None => {
                let producer = Producer::new(&core.lane);
                let (close_timeout, drop_patience) = (self.close_timeout, self.drop_patience);
                Ok(Batcher {
                    core,
                    setpoint,
                    observer,
                    producer,
                    close_timeout,
                    drop_patience,
                })
            }
            Some(problem) => {
                drop(core.shutdown(self.close_timeout));
                observer.end();
                Err(problem)
            }
        }
    }
}

/// Whether the handler was made, or why not.
type Made = (Mutex<Option<Result<(), BuildError>>>, Condvar);

fn start_flusher<T, H, F, E>(
    name: &str,
    mut flusher: Flusher<T>,
    on_close: Arc<Mutex<Option<OnClose<T>>>>,
    serial: u64,
    (make, settle): (F, E),
) -> Result<Thread, BuildError>
where
    T: Send + 'static,
    H: Handler<T> + 'static,
    F: FnOnce() -> Result<HandlerSlot<H>, Box<dyn Error + Send + Sync>> + Send + 'static,
    E: FnOnce() + Send + 'static,
{
    let ended = Arc::new(Latch::new());
    let made: Arc<Made> = Arc::new((Mutex::new(None), Condvar::new()));
    let (at_end, tell) = (Arc::clone(&ended), Arc::clone(&made));
    let body = move || {
        belong_to(serial);
        let (made, handler) = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(handler)) => (Ok(()), Some(handler)),
            Ok(Err(error)) => (
                Err(BuildError::Handler {
                    message: error.to_string(),
                    source: Some(error),
                }),
                None,
            ),
            Err(panic) => (
                Err(BuildError::Handler {
                    message: message(panic),
                    source: None,
                }),
                None,
            ),
        };
        *tell.0.lock() = Some(made);
        tell.1.notify_all();
        drop(tell);
        match handler {
            Some(mut handler) => {
                flusher.run_to_the_end(&mut handler);
                flusher.finish(handler, &on_close);
            }
            None => flusher.finish((), &on_close),
        }
        settle();
        drop(on_close);
    };
    let handle =
        spawn(&format!("flush-{name}"), body, move || at_end.open()).map_err(|source| {
            BuildError::Thread {
                name: "flusher",
                source,
            }
        })?;
    let thread = Thread {
        ended,
        handle: Mutex::new(Some(handle)),
    };
    let mut result = made.0.lock();
    loop {
        match result.take() {
            Some(Ok(())) => return Ok(thread),
            Some(Err(problem)) => return Err(problem),
            None => result = made.1.wait_until(result, None),
        }
    }
}

fn start_controller(
    name: &str,
    controller: Controller,
    serial: u64,
    policy: Box<dyn Policy>,
) -> Result<Thread, BuildError> {
    let ended = Arc::new(Latch::new());
    let at_end = Arc::clone(&ended);
    // Before anybody can add: otherwise batches could be over, and the policy not notified, before
    // the thread has begun.
    controller.tell_cadence(&*policy);
    let body = move || {
        belong_to(serial);
        controller.run(policy);
    };
    let handle: JoinHandle =
        spawn(&format!("ctl-{name}"), body, move || at_end.open()).map_err(|source| {
            BuildError::Thread {
                name: "controller",
                source,
            }
        })?;
    Ok(Thread {
        ended,
        handle: Mutex::new(Some(handle)),
    })
}

/// In the place of a thread that did not start, for the close of the other.
fn never_started() -> Thread {
    let ended = Arc::new(Latch::new());
    ended.open();
    Thread {
        ended,
        handle: Mutex::new(None),
    }
}
