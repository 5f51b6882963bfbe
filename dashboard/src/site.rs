//! What the server serves: the batchers, their history, the page and what it may change.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};

use load_aware_batcher::{Observer, Stats, metrics};

use crate::answer::Answer;
use crate::control::Control;
use crate::frame::{self, Clock};
use crate::history::History;
use crate::json::{self, Object};
use crate::request::Request;
use crate::watcher::TICK;

/// See the module's doc.
pub(crate) struct Site {
    pub(crate) observers: Vec<Observer>,
    pub(crate) history: History,
    pub(crate) controls: Vec<Control>,
    pub(crate) hosts: Vec<String>,
    /// Another one at each start: sequence numbers of an earlier run mean nothing.
    pub(crate) run: String,
    /// Asked for by what changes anything; a foreign page cannot read it.
    token: String,
}

impl Site {
    pub(crate) fn new(
        observers: Vec<Observer>,
        controls: Vec<Control>,
        hosts: Vec<String>,
    ) -> Self {
        Self {
            observers,
            history: History::default(),
            controls,
            hosts,
            run: random(),
            token: random(),
        }
    }

    /// The answer to everything but `/events`.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let path = request.path.as_str();
        match request.method.as_str() {
            "GET" => self.page(path),
            "POST" if path == "/control" && !self.controls.is_empty() => self.control(request),
            _ => Answer::refusal("405 Method Not Allowed", "only GET is answered"),
        }
    }

    fn page(&self, path: &str) -> Answer {
        const SCRIPT: &str = "text/javascript; charset=utf-8";
        const STYLE: &str = "text/css; charset=utf-8";
        match path {
            "/" => Answer::ok("text/html; charset=utf-8", include_str!("page/page.html")),
            "/page.js" => Answer::ok(SCRIPT, include_str!("page/page.js")),
            "/page.css" => Answer::ok(STYLE, include_str!("page/page.css")),
            "/uplot.js" => Answer::ok(SCRIPT, include_str!("page/uplot/uPlot.iife.min.js")),
            "/uplot.css" => Answer::ok(STYLE, include_str!("page/uplot/uPlot.min.css")),
            "/metrics" => self.metrics(),
            "/stats.json" => Answer::ok("application/json", self.stats()),
            _ => Answer::refusal("404 Not Found", "there is no such page"),
        }
    }

    fn metrics(&self) -> Answer {
        let snapshots: Vec<(&str, Stats)> = self
            .observers
            .iter()
            .map(|each| (each.name(), each.stats()))
            .collect();
        let mut text = String::new();
        match metrics::write_prometheus(&mut text, &snapshots) {
            Ok(()) => Answer::ok("text/plain; version=0.0.4; charset=utf-8", text),
            Err(_) => Answer::refusal("500 Internal Server Error", "not written"),
        }
    }

    fn stats(&self) -> String {
        let mut text = String::new();
        json::array(&mut text, &self.observers, |out, observer| {
            frame::stats(&mut Object::new(out), &observer.stats());
        });
        text
    }

    fn control(&self, request: &Request) -> Answer {
        if request.header("x-dashboard-token") != Some(&self.token) {
            return Answer::refusal(
                "403 Forbidden",
                "the token is missing or of an earlier start",
            );
        }
        let choice = self.controls.iter().any(|control| {
            let rest = request.body.strip_prefix(&control.name);
            let choice = rest.and_then(|rest| rest.strip_prefix('='));
            choice.is_some_and(|choice| control.choose(choice))
        });
        if choice {
            Answer::ok("text/plain; charset=utf-8", "done\n")
        } else {
            Answer::refusal("400 Bad Request", "there is no such choice")
        }
    }

    /// The first message of `/events`.
    pub(crate) fn hello(&self) -> String {
        let mut text = String::new();
        let mut object = Object::new(&mut text);
        object.text("run", &self.run);
        object.number("tick", TICK.as_secs_f64());
        object.array("names", &self.observers, |out, observer| {
            json::string(out, observer.name());
        });
        if !self.controls.is_empty() {
            object.text("token", &self.token);
        }
        object.array("controls", &self.controls, |out, control| {
            let mut object = Object::new(out);
            object.text("name", &control.name);
            object.array("choices", &control.choices, |out, choice| {
                json::string(out, choice)
            });
        });
        drop(object);
        text
    }

    /// The decisions and failed rows that came after `seen`, which has a number for each batcher;
    /// `None` if there are none.
    pub(crate) fn log(&self, seen: &mut [u64]) -> Option<String> {
        let mut text = String::new();
        let mut any = false;
        json::array(
            &mut text,
            self.observers.iter().zip(seen),
            |out, (observer, seen)| {
                let recent = observer.recent(*seen);
                *seen = recent.next;
                any |= !(recent.decisions.is_empty() && recent.failures.is_empty());
                let clock = Clock::of(observer);
                let mut object = Object::new(out);
                frame::decisions(&mut object, &recent.decisions, clock);
                frame::failures(&mut object, &recent.failures, clock);
            },
        );
        any.then_some(text)
    }
}

/// 128 random bits of the system, which is where the keys of a hash map come from.
fn random() -> String {
    (0..2).fold(String::new(), |mut text, _| {
        let _ = write!(text, "{:016x}", RandomState::new().build_hasher().finish());
        text
    })
}
