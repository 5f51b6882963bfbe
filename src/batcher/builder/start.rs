//! From valid settings to running threads: a flusher for each lane, and the controller.

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

use crate::batcher::lane_watch::watch;
use crate::batcher::producer::Producer;
use crate::batcher::queue_watch;
use crate::batcher::route::Route;
use crate::batcher::sensor::Sampled;
use crate::error::BuildError;
use crate::exchange::call_permits::{CallPermits, LaneEnd};
use crate::exchange::published::SetpointCell;
use crate::exchange::reporter::Reporter;
use crate::exchange::ring::Ring;
use crate::flush::dead_letters::FailedRows;
use crate::flush::flusher::{Chance, Flusher};
use crate::flush::lane::Lane;
use crate::flush::lanes::Lanes;
use crate::flush::retained::Budget;
use crate::flush::retry::Rules;
use crate::flush::workers::MakeSlot;
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
    /// Starts a lane for each of these.
    pub(super) fn start<H>(
        self,
        sizes: &Sizes,
        makes: Vec<MakeSlot<H>>,
    ) -> Result<Batcher<T>, BuildError>
    where
        H: Handler<T> + 'static,
    {
        let start = now();
        let serial = next_serial();
        let count = makes.len();
        let parkers: Vec<_> = makes.iter().map(|_| Parker::new()).collect();
        let alarm_parker = Parker::new();
        let (ring, reader) = Ring::new(self.feedback_capacity);
        let reporter = Arc::new(Reporter::new(
            ring,
            self.custom,
            Doorbell::new(&alarm_parker),
        ));
        let journal = Shared::new(Journal::new(start).with(self.listeners));
        let weigher = self.weigher.map(|(limit, weigh)| {
            // The sums are signed: above this lies nothing that could be distinguished from a sum
            // below zero.
            let most = isize::MAX as usize;
            let share = |limit: usize| limit.div_ceil(count);
            Weigher {
                weight: weigh,
                limit: limit.min(most),
                queue_limit: self
                    .max_queue_weight
                    .map(|queue| share(queue).max(limit).min(most)),
                refuse_too_heavy: self.refuse_too_heavy,
            }
        });
        let failed_rows = FailedRows {
            has_hook: self.on_failed.is_some(),
            keep: Budget::new(self.keep_failed),
        };
        let is_routed = count > 1 && !matches!(self.route, Some(Route::ByProducer));
        let lanes: Box<[_]> = parkers
            .iter()
            .enumerate()
            .map(|(place, parker)| {
                let settings = GateSettings {
                    capacity: sizes.capacity,
                    weigher: weigher.clone(),
                    is_routed,
                    wait_overrides_linger: self.wait_overrides_linger,
                    stall_timeout: self.stall_timeout,
                };
                let doorbell = Arc::new(Doorbell::new(parker));
                let lane = Lane::new(settings, doorbell, serial, count > 1, |outlet| {
                    Backlog::new(outlet, failed_rows.clone(), random_seed(), place, start)
                });
                Arc::new(lane.of(&journal))
            })
            .collect();
        let first = Setpoint {
            batch_size: sizes.initial,
            linger: self.linger,
            pause_ratio: 0.0,
            probe: None,
            concurrency: self.concurrency.min(),
            zone: Zone::Unknown,
            score: None,
            reason: "the initial size".into(),
        };
        let permits = (count > 1).then(|| {
            let ends = lanes.iter().map(lane_end).collect();
            CallPermits::new(first.concurrency, ends)
        });
        let doorbells = lanes.iter().map(|lane| Arc::clone(&lane.gate.doorbell));
        let setpoint = Arc::new(SetpointCell::new(first, doorbells.collect(), permits));
        let limits = Limits::new(sizes.min, sizes.max, self.linger, self.concurrency);
        let control = Control::new(limits, Arc::clone(&setpoint), start, sizes.capacity, count);
        let name = self.name.unwrap_or_else(|| self.thread_name.clone());
        let identity = Identity {
            name: name.clone(),
            idempotent: self.idempotent,
            retry: self.retry.bound(),
        };
        let control = Arc::new(control.of(identity, &journal));
        let lanes = Arc::new(Lanes::new(lanes, Arc::clone(&setpoint)));
        let watched = Shared::new(Watched {
            lanes: Arc::clone(&lanes),
            reporter: Arc::clone(&reporter),
            control: Arc::clone(&control),
        });
        let queue_watch = journal
            .has_listeners()
            .then(|| queue_watch::watch(&lanes, &journal));
        let source = Shared::clone(&watched) as Shared<dyn Source>;
        let observer = Observer::new(name, journal, source);
        let on_failed = self.on_failed.map(|hook| Arc::new(Mutex::new(hook)));
        let on_close = Arc::new(Mutex::new(self.on_close));
        let mut flushers = Vec::with_capacity(count);
        let mut started = Vec::with_capacity(count);
        let mut problem = None;
        for ((place, parker), make) in parkers.into_iter().enumerate().zip(makes) {
            let flusher = Flusher {
                lane: Arc::clone(&lanes.all()[place]),
                lanes: Arc::clone(&lanes),
                place,
                setpoint: Arc::clone(&setpoint),
                reporter: Arc::clone(&reporter),
                parker,
                on_failed: on_failed.clone(),
                rules: Rules {
                    retry: self.retry,
                    idempotent: self.idempotent,
                },
                chance: Chance(random_seed()),
            };
            let name = if count == 1 {
                format!("flush-{}", self.thread_name)
            } else {
                format!("flush{place}-{}", self.thread_name)
            };
            let (settled, watched) = (observer.clone(), Shared::clone(&watched));
            let make = (make, move || settled.settle(&*watched));
            match start_flusher(&name, flusher, Arc::clone(&on_close), serial, make) {
                Ok((thread, made)) => {
                    flushers.push(thread);
                    started.push(made);
                }
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
        }
        drop((on_failed, watched));
        // A lane without a flusher is at its end.
        for lane in &lanes.all()[flushers.len()..] {
            lane.lock().lifecycle.finish();
        }
        // All connect at the same time.
        for made in started {
            let made = wait_until_made(&made);
            problem = problem.or(made.err());
        }
        let controller = Controller {
            control: Arc::clone(&control),
            reporter: Arc::clone(&reporter),
            reader,
            parker: alarm_parker,
            interval: self.load_check_interval,
            watch: self.route.as_ref().and_then(|route| watch(&lanes, route)),
            queue_watch,
        };
        let controller = match problem {
            None => start_controller(&self.thread_name, controller, serial, self.policy),
            Some(problem) => Err(problem),
        };
        let (controller, problem) = match controller {
            Ok(thread) => (thread, None),
            Err(problem) => (never_started(), Some(problem)),
        };
        let core = Core {
            lanes,
            reporter,
            control,
            flushers,
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
                let route = self.route.unwrap_or(Route::ByProducer);
                let producer = Producer::of_owner(&core.lanes, route);
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

/// A lane, for the permits.
fn lane_end<T: Send + 'static>(lane: &Arc<Lane<T>>) -> LaneEnd {
    let own = Arc::clone(lane);
    LaneEnd {
        doorbell: Arc::clone(&lane.gate.doorbell),
        in_channel: Box::new(move || own.gate.items_in_channel()),
    }
}

/// Whether the handler was made, or why not.
type Made = (Mutex<Option<Result<(), BuildError>>>, Condvar);

fn start_flusher<T, H, E>(
    name: &str,
    mut flusher: Flusher<T>,
    on_close: Arc<Mutex<Option<OnClose<T>>>>,
    serial: u64,
    (make, settle): (MakeSlot<H>, E),
) -> Result<(Thread, Arc<Made>), BuildError>
where
    T: Send + 'static,
    H: Handler<T> + 'static,
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
    let handle = spawn(name, body, move || at_end.open()).map_err(|source| BuildError::Thread {
        name: "flusher",
        source,
    })?;
    let thread = Thread {
        ended,
        handle: Mutex::new(Some(handle)),
    };
    Ok((thread, made))
}

fn wait_until_made(made: &Made) -> Result<(), BuildError> {
    let mut result = made.0.lock();
    loop {
        match result.take() {
            Some(made) => return made,
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
