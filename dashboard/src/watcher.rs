//! The thread that puts a frame into the history every half a second.

use std::time::Duration;

use crate::frame::{self, Clock};
use crate::json::{self, Object};
use crate::site::Site;

pub(crate) const TICK: Duration = Duration::from_millis(500);

/// Runs until the history ends.
pub(crate) fn watch(site: &Site) {
    let mut seen = vec![0; site.observers.len()];
    loop {
        site.history.push(frame(site, &mut seen));
        if site.history.ends_within(TICK) {
            return;
        }
    }
}

fn frame(site: &Site, seen: &mut [u64]) -> String {
    let mut text = String::new();
    let mut object = Object::new(&mut text);
    object.count("at", frame::now());
    object.array(
        "batchers",
        site.observers.iter().zip(seen),
        |out, (observer, seen)| {
            let recent = observer.recent(*seen);
            *seen = recent.next;
            let mut object = Object::new(out);
            frame::stats(&mut object, &observer.stats());
            frame::calls(&mut object, &recent.calls, Clock::of(observer));
        },
    );
    object.array("chosen", &site.controls, |out, control| {
        json::string(out, control.chosen())
    });
    drop(object);
    text
}
