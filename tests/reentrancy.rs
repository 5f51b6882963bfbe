//! The batcher's own threads may make every call. It works, or it returns `Reentrant` at once.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use load_aware_batcher::{
    AddError, Batch, BatchError, Batcher, Cadence, Decision, FlushError, LoadFeedback, Outcome,
    Policy, Producer, Retry, Setpoint, Ticket, Window,
};
use testkit::{LONG, ends, fixed, until, wait_for};

/// The batcher as its own threads have it.
type Own = Arc<OnceLock<Arc<Batcher<u64>>>>;

/// Every public call, from a thread of the batcher's own, with the queue full.
fn call_everything(own: &Own) {
    let batcher = wait_for(own);
    let producer = batcher.producer();
    while producer.try_add(0).is_ok() {}
    assert_eq!(producer.try_add(1), Err(AddError::Full(1)));
    assert_eq!(producer.add(2), Err(AddError::Reentrant(2)));
    assert_eq!(batcher.add(2), Err(AddError::Reentrant(2)));
    assert_eq!(producer.add_timeout(3, LONG), Err(AddError::Reentrant(3)));
    assert_eq!(producer.submit(4).err(), Some(AddError::Reentrant(4)));
    // There is no place for a chunk, although there are permits.
    assert_eq!(
        producer.add_many([5, 6]),
        Err(AddError::Reentrant(vec![5, 6]))
    );
    assert_eq!(
        producer.add_many_timeout([5, 6], LONG),
        Err(AddError::Reentrant(vec![5, 6]))
    );
    assert_eq!(
        producer.try_add_many([5, 6]),
        Err(AddError::Full(vec![5, 6]))
    );
    assert_eq!(producer.flush(LONG), Err(FlushError::Reentrant));
    assert_eq!(batcher.flush(Duration::ZERO), Err(FlushError::Reentrant));
    producer.request_flush();
    let stats = batcher.stats();
    assert_eq!(stats.added, stats.handled + stats.failed + stats.pending);
    batcher.report(LoadFeedback::new().cpu_load(0.5));
    batcher.reconfigure(|limits| limits.linger = LONG).unwrap();
    assert!(
        batcher
            .reconfigure(|limits| limits.max_batch_size = 0)
            .is_err()
    );
    let _ = (
        batcher.decisions(),
        batcher.take_failed(),
        format!("{batcher:?} {producer:?}"),
    );
}

/// The same, and then the calls that close the batcher.
fn close_and_call_everything(own: &Own) {
    call_everything(own);
    let batcher = wait_for(own);
    let report = batcher.shutdown(LONG);
    assert!(
        report.reentrant
            && !report.is_clean()
            && report.unsent.is_empty()
            && report.failed.is_empty()
    );
    let producer = batcher.producer();
    assert!(producer.is_closed());
    assert_eq!(producer.add(7), Err(AddError::Closed(7)));
    assert_eq!(producer.add_many([8]), Err(AddError::Closed(vec![8])));
    assert_eq!(producer.flush(LONG), Err(FlushError::Reentrant));
    assert!(batcher.shutdown(LONG).reentrant);
}

#[test]
fn every_call_from_the_handler_works_or_is_reentrant() {
    ends(|| {
        let own = Own::default();
        let (inside, mut calls) = (Arc::clone(&own), 0);
        let batcher = fixed(4)
            .queue_capacity(4)
            .linger(Duration::ZERO)
            .spawn(move |_: &mut Batch<u64>| {
                calls += 1;
                match calls {
                    1 => call_everything(&inside),
                    2 => close_and_call_everything(&inside),
                    _ => {}
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let batcher = Arc::new(batcher);
        let _ = own.set(Arc::clone(&batcher));
        let _ = batcher.add(9);
        until(&batcher, |_| batcher.producer().is_closed());
        let report = batcher.shutdown(LONG);
        // A failed assertion in the handler counts as a panic.
        assert_eq!(batcher.stats().handler_panics, 0);
        assert!(report.is_clean() && report.handled > 4, "{report:?}");
    });
}

#[test]
fn every_call_from_the_hook_works_or_is_reentrant() {
    ends(|| {
        let own = Own::default();
        let (inside, mut calls) = (Arc::clone(&own), 0);
        let batcher = fixed(1)
            .queue_capacity(4)
            .retry(Retry::none())
            .on_failed(move |_| {
                calls += 1;
                match calls {
                    1 => call_everything(&inside),
                    2 => close_and_call_everything(&inside),
                    _ => {}
                }
            })
            .spawn(move |_: &mut Batch<u64>| Err(BatchError::permanent("no")))
            .unwrap();
        let batcher = Arc::new(batcher);
        let _ = own.set(Arc::clone(&batcher));
        let _ = batcher.add(9);
        until(&batcher, |_| batcher.producer().is_closed());
        let report = batcher.shutdown(LONG);
        assert_eq!(
            (
                batcher.stats().hook_panics,
                report.failed.len(),
                report.timed_out
            ),
            (0, 0, false)
        );
        assert!(report.failed_total > 4);
    });
}

/// Makes every call on the controller's thread, and sends a message when it is done.
struct Caller(Own, Option<mpsc::Sender<()>>);

impl Policy for Caller {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        if let Some(done) = self.1.take() {
            close_and_call_everything(&self.0);
            done.send(()).unwrap();
        }
        Decision::hold(current, "calls")
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryBatch
    }
}

#[test]
fn every_call_from_the_policy_works_or_is_reentrant() {
    ends(|| {
        let own = Own::default();
        let (done, called) = mpsc::channel();
        let (handler, director) = testkit::directed();
        let batcher = fixed(4)
            .queue_capacity(4)
            .load_check_interval(Duration::from_millis(1))
            .policy(Caller(Arc::clone(&own), Some(done)))
            .spawn(handler)
            .unwrap();
        // The handler holds a batch, so the queue stays full.
        batcher.add_many([1, 2, 3, 4]).unwrap();
        director.call();
        let batcher = Arc::new(batcher);
        let _ = own.set(Arc::clone(&batcher));
        called.recv_timeout(LONG).expect("no assertion failed");
        drop(director);
        let report = batcher.shutdown(LONG);
        assert_eq!(batcher.stats().policy_panics, 0);
        assert!(report.is_clean(), "{report:?}");
    });
}

#[test]
fn a_ticket_that_its_own_thread_waits_for_is_reentrant_until_it_has_its_outcome() {
    ends(|| {
        let tickets: Arc<Mutex<Vec<Ticket>>> = Arc::default();
        let (inside, (tell, told)) = (Arc::clone(&tickets), mpsc::channel());
        let batcher = fixed(1)
            .spawn(move |batch: &mut Batch<u64>| {
                for ticket in inside.lock().unwrap().drain(..) {
                    tell.send((
                        batch[0],
                        ticket.try_wait(),
                        ticket.wait_timeout(LONG),
                        ticket.wait(),
                    ))?;
                }
                Ok(LoadFeedback::new())
            })
            .unwrap();
        let mut guard = tickets.lock().unwrap();
        guard.push(batcher.submit(1).unwrap());
        drop(guard);
        let reentrant = (1, None, Some(Outcome::Reentrant), Outcome::Reentrant);
        assert_eq!(told.recv_timeout(LONG).unwrap(), reentrant);
        let second = batcher.submit(2).unwrap();
        while second.try_wait().is_none() {
            std::thread::yield_now();
        }
        tickets.lock().unwrap().push(second);
        batcher.add(3).unwrap();
        let done = Outcome::Handled;
        assert_eq!(
            told.recv_timeout(LONG).unwrap(),
            (3, Some(done.clone()), Some(done.clone()), done)
        );
    });
}

#[test]
fn every_call_from_the_hook_for_the_report_comes_back() {
    ends(|| {
        for on_own_thread in [false, true] {
            let owner: Arc<Mutex<Option<Batcher<u64>>>> = Arc::default();
            let producer: Arc<OnceLock<Producer<u64>>> = Arc::default();
            let (inside, own, (tell, told)) =
                (Arc::clone(&owner), Arc::clone(&producer), mpsc::channel());
            let batcher = fixed(1)
                .close_timeout(LONG)
                .on_close(move |report| {
                    let producer = wait_for(&own);
                    assert_eq!(producer.add(1), Err(AddError::Closed(1)));
                    assert_eq!(producer.add_many([1, 2]), Err(AddError::Closed(vec![1, 2])));
                    producer.request_flush();
                    let flush = producer.flush(LONG);
                    tell.send((report.handled, flush)).unwrap();
                })
                .spawn(move |_: &mut Batch<u64>| {
                    drop(inside.lock().unwrap().take());
                    Ok(LoadFeedback::new())
                })
                .unwrap();
            let _ = producer.set(batcher.producer());
            let mut place = owner.lock().unwrap();
            batcher.add(1).unwrap();
            if on_own_thread {
                *place = Some(batcher);
                drop(place);
            } else {
                drop(place);
                drop(batcher);
            }
            let flush = if on_own_thread {
                FlushError::Reentrant
            } else {
                FlushError::Closed
            };
            assert_eq!(told.recv_timeout(LONG).unwrap(), (1, Err(flush)));
        }
    });
}

/// Adds and flushes when it is dropped, on whichever thread that is.
struct Chain(
    u32,
    Arc<OnceLock<Producer<Chain>>>,
    mpsc::Sender<(u32, bool)>,
);

impl Drop for Chain {
    fn drop(&mut self) {
        if self.0 > 0 {
            let producer = wait_for(&self.1);
            let next = Chain(self.0 - 1, Arc::clone(&self.1), self.2.clone());
            let accepted = producer
                .try_add(next)
                .map_err(|refused| std::mem::forget(refused.into_inner()))
                .is_ok();
            let _ = self.2.send((
                self.0,
                accepted && producer.flush(LONG) == Err(FlushError::Reentrant),
            ));
        }
    }
}

#[test]
fn an_item_may_add_another_when_it_is_dropped() {
    ends(|| {
        let own: Arc<OnceLock<Producer<Chain>>> = Arc::default();
        let (tell, told) = mpsc::channel();
        let batcher = fixed(1)
            .spawn(|_: &mut Batch<Chain>| Ok(LoadFeedback::new()))
            .unwrap();
        let _ = own.set(batcher.producer());
        batcher.add(Chain(5, own, tell)).unwrap();
        assert_eq!(until(&batcher, |stats| stats.handled == 6).drop_panics, 0);
        assert!(
            told.try_iter()
                .eq([(5, true), (4, true), (3, true), (2, true), (1, true)])
        );
    });
}
