//! The numbers of a batcher as JSON: for `/stats.json`, for the frames of the page, and for its log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use load_aware_batcher::{
    CallEvent, DecisionRecord, ErrorClass, FailureEvent, Observer, Phase, Quantiles, Stats, Zone,
};

use crate::json::{self, Object};

/// Calls drawn of one frame. Of more, probes and failures come first and the rest is thinned.
const CALLS_MAX: usize = 32;
/// Characters of an error's text that are shown.
const TEXT_MAX: usize = 400;

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// A batcher's clock in milliseconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: f64,
}

impl Clock {
    pub(crate) fn of(observer: &Observer) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "exact for 200 000 years")]
        let now = now() as f64;
        Self {
            start: now - observer.uptime().as_secs_f64() * 1e3,
        }
    }

    fn at(self, at: Duration) -> f64 {
        (self.start + at.as_secs_f64() * 1e3).round()
    }
}

pub(crate) fn stats(object: &mut Object<'_>, stats: &Stats) {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    object.text("name", &stats.name);
    object.text("policy", stats.policy);
    object.text("phase", phase(stats.phase));
    object.count("added", stats.added);
    object.count("handled", stats.handled);
    object.count("failed", stats.failed);
    object.count("in_doubt", stats.in_doubt);
    object.count("rejected", stats.rejected);
    object.count("unsent", stats.unsent);
    object.count("abandoned", stats.abandoned);
    object.count("pending", stats.pending);
    object.size("queue_capacity", stats.queue_capacity);
    object.size("items_in_flight", stats.items_in_flight);
    object.size("producers_blocked", stats.producers_blocked);
    object.number("producer_wait", stats.producer_wait.as_secs_f64());
    object.number("oldest_item_age", seconds(stats.oldest_item_age));
    object.size("batch_size", stats.batch_size);
    object.size("min_batch_size", stats.min_batch_size);
    object.size("max_batch_size", stats.max_batch_size);
    object.size("concurrency", stats.concurrency);
    object.number("linger", stats.setpoint.linger.as_secs_f64());
    object.number("pause_ratio", stats.setpoint.pause_ratio);
    object.text("zone", zone(stats.setpoint.zone));
    object.text("reason", &stats.reason().to_string());
    object.number("score", stats.average_load);
    if let Some((low, high)) = stats.thresholds {
        object.number("score_low", low);
        object.number("score_high", high);
    }
    {
        let mut signals = object.object("signals");
        for signal in &stats.signals {
            signals.number(signal.name, signal.value);
        }
    }
    quantiles(object, "service_time", &stats.service_time);
    quantiles(object, "queue_wait", &stats.queue_wait);
    object.count("calls", stats.calls);
    object.size("calls_in_flight", stats.calls_in_flight);
    object.number("running_call_age", seconds(stats.running_call_age));
    object.number("last_success_age", seconds(stats.last_success_age));
    counts(object, stats);
    object.count("retries", stats.retries);
    object.count("split_retries", stats.split_retries);
    object.count("bisections", stats.bisections);
    object.count("probes", stats.probes);
    object.number("stalled_time", stats.stalled_time.as_secs_f64());
    object.number("paused_time", stats.paused_time.as_secs_f64());
    object.number("backoff_time", stats.backoff_time.as_secs_f64());
    object.flag("stalled", stats.stalled);
    object.size("kept_failed", stats.kept_failed);
    object.count("events_dropped", stats.events_dropped);
    object.number("failing_for", seconds(stats.retrying_age));
    if let Some(retrying) = &stats.retrying {
        object.text("failing_with", &shortened(&retrying.error.to_string()));
    }
}

fn counts(object: &mut Object<'_>, stats: &Stats) {
    {
        let mut refused = object.object("refused");
        refused.count("full", stats.refused.full);
        refused.count("timeout", stats.refused.timeout);
        refused.count("closed", stats.refused.closed);
        refused.count("reentrant", stats.refused.reentrant);
        refused.count("too_heavy", stats.refused.too_heavy);
        refused.count("stalled", stats.refused.stalled);
    }
    {
        let mut batches = object.object("batches");
        batches.count("size", stats.batches.size);
        batches.count("linger", stats.batches.linger);
        batches.count("wait", stats.batches.wait);
        batches.count("flush", stats.batches.flush);
        batches.count("close", stats.batches.close);
        batches.count("retry", stats.batches.retry);
    }
    {
        let failed = &stats.failed_calls;
        let mut results = object.object("results");
        results.count("ok", stats.ok_calls);
        results.count("transient", failed.transient);
        results.count("permanent", failed.permanent);
        results.count("in_doubt", failed.in_doubt);
        results.count("unclassified", failed.unclassified);
        results.count("unavailable", failed.unavailable);
        results.count("misconfigured", failed.misconfigured);
        results.count("panicked", failed.panicked);
    }
    let mut panics = object.object("panics");
    panics.count("handler", stats.handler_panics);
    panics.count("hook", stats.hook_panics);
    panics.count("policy", stats.policy_panics);
    panics.count("sensor", stats.sensor_panics);
    panics.count("drop", stats.drop_panics);
}

fn quantiles(object: &mut Object<'_>, key: &str, times: &Quantiles) {
    let mut object = object.object(key);
    // Zero would look measured.
    let measured = |time: Duration| (times.count > 0).then_some(time.as_secs_f64());
    object.number("p50", measured(times.p50));
    object.number("p99", measured(times.p99));
    object.number("max", measured(times.max));
    object.number("window", times.window.as_secs_f64());
}

/// The calls as `[time, length, size in force, is a probe, has failed]`.
pub(crate) fn calls(object: &mut Object<'_>, calls: &[CallEvent], clock: Clock) {
    let striking = |call: &&CallEvent| call.probe || call.error.is_some();
    let step = calls.len().div_ceil(CALLS_MAX).max(1);
    let rest = calls.iter().filter(|call| !striking(call)).step_by(step);
    let drawn = calls.iter().filter(striking).chain(rest).take(CALLS_MAX);
    object.array("calls", drawn, |out, call| {
        let flag = |yes: bool| Some(f64::from(u8::from(yes)));
        #[expect(clippy::cast_precision_loss, reason = "a length is far under 2^53")]
        let size = |size: usize| Some(size as f64);
        let row = [
            Some(clock.at(call.at)),
            size(call.len),
            size(call.cut_at),
            flag(call.probe),
            flag(call.error.is_some()),
        ];
        json::array(out, row, json::number);
    });
}

pub(crate) fn decisions(object: &mut Object<'_>, decisions: &[DecisionRecord], clock: Clock) {
    object.array("decisions", decisions, |out, decision| {
        let mut object = Object::new(out);
        object.count("sequence", decision.sequence);
        object.number("at", clock.at(decision.at));
        object.size("from", decision.from);
        object.size("to", decision.to);
        object.text("zone", zone(decision.zone));
        object.text("reason", &decision.reason.to_string());
    });
}

pub(crate) fn failures(object: &mut Object<'_>, failures: &[FailureEvent], clock: Clock) {
    object.array("failures", failures, |out, failure| {
        let mut object = Object::new(out);
        object.count("sequence", failure.sequence);
        object.number("at", clock.at(failure.at));
        object.text("class", class(failure.error.class, failure.error.panicked));
        object.text("text", &shortened(&failure.error.text));
        object.count("attempts", failure.attempts.into());
        object.flag("in_doubt", failure.in_doubt);
        object.flag("outage", failure.outage);
    });
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Open => "open",
        Phase::Closing => "closing",
        Phase::Done => "done",
        Phase::Abandoned => "abandoned",
        _ => "unknown",
    }
}

fn zone(zone: Zone) -> &'static str {
    match zone {
        Zone::Low => "low",
        Zone::Normal => "normal",
        Zone::High => "high",
        _ => "unknown",
    }
}

fn class(class: ErrorClass, panicked: bool) -> &'static str {
    match class {
        _ if panicked => "panicked",
        ErrorClass::Transient => "transient",
        ErrorClass::Permanent => "permanent",
        ErrorClass::InDoubt => "in doubt",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Misconfigured => "misconfigured",
        _ => "unclassified",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ü".repeat(TEXT_MAX + 1);
        assert_eq!(shortened(&text), format!("{}…", "ü".repeat(TEXT_MAX)));
        assert_eq!(shortened("short"), "short");
    }
}
