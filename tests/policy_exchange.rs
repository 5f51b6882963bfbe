//! A policy is replaced while the batcher runs. Whatever the old and the new one do, no thread
//! hangs, and the decisions of the old one have no effect any more.
#![cfg(not(any(loom, shuttle)))]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use load_aware_batcher::{
    Batch, Batcher, Cadence, Decision, Fixed, LoadFeedback, Policy, Setpoint, Window,
};

/// Far longer than anything here takes. Only a hang reaches it.
const HANGS: Duration = Duration::from_secs(20);

type Home = Arc<OnceLock<Weak<Batcher<u64>>>>;

fn start(home: &Home, policy: impl Policy + 'static) -> Arc<Batcher<u64>> {
    let batcher = Batcher::builder()
        .load_check_interval(Duration::from_millis(1))
        .policy(policy)
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .expect("valid settings");
    let batcher = Arc::new(batcher);
    home.set(Arc::downgrade(&batcher)).expect("set once");
    batcher
}

/// Uses its batcher when it is dropped, and sends a message.
struct LooksBack {
    home: Home,
    dropped: Sender<()>,
}

impl Policy for LooksBack {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        Decision::hold(current, "holds")
    }
}

impl Drop for LooksBack {
    fn drop(&mut self) {
        if let Some(batcher) = self.home.get().and_then(Weak::upgrade) {
            let _ = batcher.stats();
        }
        let _ = self.dropped.send(());
    }
}

#[test]
fn a_replaced_policy_may_use_its_batcher_when_it_is_dropped() {
    let home = Home::default();
    let (dropped, told) = channel();
    let batcher = start(
        &home,
        LooksBack {
            home: Arc::clone(&home),
            dropped,
        },
    );
    batcher
        .reconfigure(|limits| {
            limits.policy(Fixed(7));
        })
        .unwrap();
    told.recv_timeout(HANGS)
        .expect("dropped, outside every lock");
    assert!(!batcher.shutdown(HANGS).timed_out);
}

/// Panics in `cadence`.
struct NoCadence(Sender<()>);

impl Policy for NoCadence {
    fn decide(&mut self, _: &Window<'_>, current: &Setpoint) -> Decision {
        let _ = self.0.send(());
        Decision::hold(current, "holds")
    }

    fn cadence(&self) -> Cadence {
        panic!("no cadence")
    }
}

#[test]
fn a_new_policy_whose_cadence_panics_is_counted_and_blocks_nobody() {
    let batcher = start(&Home::default(), Fixed(7));
    let (decides, told) = channel();
    batcher
        .reconfigure(|limits| {
            limits.policy(NoCadence(decides));
        })
        .unwrap();
    told.recv_timeout(HANGS)
        .expect("it is asked to decide all the same");
    assert_eq!(batcher.stats().policy_panics, 1);
    assert!(!batcher.shutdown(HANGS).timed_out);
}

/// Sends a message when it decides, waits for the test, and then asks for a size.
struct Slow {
    decides: Sender<()>,
    go: Receiver<()>,
}

impl Policy for Slow {
    fn decide(&mut self, _: &Window<'_>, _: &Setpoint) -> Decision {
        let _ = self.decides.send(());
        let _ = self.go.recv();
        Decision::resize(99, "too late")
    }
}

#[test]
fn the_decision_of_a_policy_that_was_replaced_meanwhile_has_no_effect() {
    let ((decides, told), (go, wait)) = (channel(), channel());
    let batcher = start(&Home::default(), Slow { decides, go: wait });
    told.recv_timeout(HANGS).expect("decides");
    let (installed, told) = channel();
    let successor = LooksBack {
        home: Home::default(),
        dropped: installed,
    };
    batcher
        .reconfigure(|limits| {
            limits.policy(successor);
        })
        .unwrap();
    drop(go);
    // The successor has taken over once it can be replaced, too.
    batcher
        .reconfigure(|limits| {
            limits.policy(Fixed(7));
        })
        .unwrap();
    told.recv_timeout(HANGS).expect("exchanged");
    assert!(!batcher.shutdown(HANGS).timed_out);
    let decisions = batcher.decisions();
    assert!(
        decisions.iter().all(|decision| decision.to != 99),
        "{decisions:?}"
    );
}

#[test]
fn a_policy_that_never_came_into_force_is_dropped_outside_every_lock() {
    let home = Home::default();
    let ((decides, told), (go, wait)) = (channel(), channel());
    let batcher = start(&home, Slow { decides, go: wait });
    told.recv_timeout(HANGS).expect("decides");
    let (dropped, told) = channel();
    let never = LooksBack {
        home: Arc::clone(&home),
        dropped,
    };
    batcher
        .reconfigure(|limits| {
            limits.policy(never);
        })
        .unwrap();
    let second = Arc::clone(&batcher);
    std::thread::spawn(move || {
        second.reconfigure(|limits| {
            limits.policy(Fixed(7));
        })
    });
    told.recv_timeout(HANGS)
        .expect("dropped, outside every lock");
    drop(go);
    assert!(!batcher.shutdown(HANGS).timed_out);
}
