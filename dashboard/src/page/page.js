// Draws what /events sends. Every text from the server goes into `textContent`, never into HTML.
"use strict";

const KEEP_MS = 60 * 60 * 1000;
const STALE_MS = 2500;
const el = (id) => document.getElementById(id);
const make = (tag, text, className) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};
const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const seconds = (s) =>
  s == null ? "–" : s >= 1 ? `${s.toFixed(s < 10 ? 1 : 0)} s` : s >= 1e-3 ? `${(s * 1e3).toFixed(s < 1e-2 ? 1 : 0)} ms` : `${(s * 1e6).toFixed(0)} µs`;
const number = (n) => (n == null ? "–" : Math.abs(n) >= 1e4 ? short.format(n) : `${Math.round(n * 100) / 100}`);
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

const state = {
  frames: [], names: [], tab: 0, range: 2, paused: null, mark: null, run: null, controls: [], token: null,
  logs: [], lastAt: 0, connected: false,
};

// --- connection -----------------------------------------------------------------------------

let source;
function connect() {
  source = new EventSource("/events");
  source.addEventListener("hello", (event) => hello(JSON.parse(event.data)));
  source.addEventListener("log", (event) => log(JSON.parse(event.data)));
  source.onmessage = (event) => frame(JSON.parse(event.data));
  source.onerror = () => {
    state.connected = false;
    schedule();
    // After a refusal the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
}

function hello(data) {
  if (data.run !== state.run) {
    // Sequence numbers begin again; what was drawn stays.
    state.logs = data.names.map((_, i) => ({ seen: 0, decisions: state.logs[i]?.decisions ?? [], failures: state.logs[i]?.failures ?? [] }));
  }
  Object.assign(state, { run: data.run, names: data.names, controls: data.controls, token: data.token });
  state.tab = Math.min(state.tab, data.names.length - 1);
  tabs();
  controls();
  lists();
}

function frame(data) {
  state.connected = true;
  state.lastAt = Date.now();
  const last = state.frames.at(-1);
  if (last && data.at <= last.at) return;
  state.frames.push(data);
  while (state.frames[0].at < data.at - KEEP_MS) state.frames.shift();
  schedule();
}

function log(data) {
  data.forEach((news, i) => {
    const own = state.logs[i];
    if (!own) return;
    const fresh = (event) => event.sequence > own.seen;
    const last = Math.max(own.seen, ...news.decisions.map((d) => d.sequence), ...news.failures.map((f) => f.sequence));
    own.decisions = [...news.decisions.filter(fresh).reverse(), ...own.decisions].slice(0, 128);
    own.failures = [...news.failures.filter(fresh).reverse(), ...own.failures].slice(0, 50);
    own.seen = last;
  });
  lists();
}

// --- header ---------------------------------------------------------------------------------

function tabs() {
  el("tabs").replaceChildren(...state.names.map((name, i) => {
    const tab = make("button", name);
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", String(i === state.tab));
    tab.setAttribute("aria-controls", "panel");
    tab.tabIndex = i === state.tab ? 0 : -1;
    tab.onclick = () => select(i);
    return tab;
  }));
}

function select(i) {
  if (i < 0 || i >= state.names.length) return;
  const focused = el("tabs").contains(document.activeElement);
  state.tab = i;
  state.mark = null;
  tabs();
  if (focused) el("tabs").children[i].focus();
  lists();
  schedule();
}

function controls() {
  el("controls").replaceChildren(...state.controls.map((control) => {
    const row = make("div");
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", control.name);
    row.append(make("span", control.name), ...control.choices.map((choice) => {
      const button = make("button", choice);
      button.dataset.choice = choice;
      button.onclick = () => fetch("/control", {
        method: "POST", body: `${control.name}=${choice}`, headers: { "X-Dashboard-Token": state.token },
      }).catch(() => {});
      return button;
    }));
    return row;
  }));
}

function pill(now) {
  const stale = !state.connected || Date.now() - state.lastAt > STALE_MS;
  document.body.classList.toggle("stale", stale);
  const say = (text, kind) => { el("state").textContent = text; el("state").className = `pill ${kind}`; };
  if (!now) return say(stale ? "connecting" : "open", "warn");
  if (stale) return say(`stale for ${seconds((Date.now() - state.lastAt) / 1000)}`, "bad");
  if (now.failing_for != null) return say(`failing since ${seconds(now.failing_for)}`, "bad");
  if (now.stalled) return say("stalled", "bad");
  if (now.phase !== "open") return say(now.phase, now.phase === "done" ? "good" : "warn");
  say(now.producers_blocked > 0 ? "open, producers wait" : "open", now.producers_blocked > 0 ? "warn" : "good");
}

function totals(now, outRate, inRate) {
  const refused = Object.values(now.refused).reduce((a, b) => a + b, 0);
  const balanced = now.added === now.handled + now.failed + now.unsent + now.abandoned + now.pending;
  const panics = Object.values(now.panics).reduce((a, b) => a + b, 0);
  const rows = [
    ["added", now.added], ["handled", now.handled], ["failed", now.failed, now.failed && "bad"],
    ["in doubt", now.in_doubt, now.in_doubt && "bad"], ["pending", now.pending], ["refused", refused, refused && "warn"],
    ["abandoned", now.abandoned, now.abandoned && "bad"], ["panics", panics, panics && "bad"],
  ].map(([key, value, kind]) => [key, count.format(value), kind]);
  rows.push(["account", balanced ? "✓" : "✗ does not add up", balanced ? "good" : "bad"]);
  rows.push(["in/s", count.format(inRate)], ["out/s", count.format(outRate)]);
  el("totals").replaceChildren(...rows.map(([key, value, kind]) => {
    const row = make("div");
    const dd = make("dd", value, kind || "");
    dd.dataset.total = key;
    row.append(make("dt", key), dd);
    return row;
  }));
  const failing = now.failing_with ? ` Failing: ${now.failing_with}.` : "";
  el("reason").textContent = `${now.policy}, ${now.batch_size} items a batch: ${now.reason}.${failing}`;
}

// --- lists ----------------------------------------------------------------------------------

function lists() {
  const own = state.logs[state.tab] ?? { decisions: [], failures: [] };
  el("decisions").replaceChildren(...own.decisions.map((decision) => {
    const item = make("li");
    const button = make("button");
    button.append(make("time", clock(decision.at)), make("span", `${decision.from} → ${decision.to}, load ${decision.zone}: ${decision.reason}`));
    button.onclick = () => { state.mark = decision.at; schedule(); };
    item.append(button);
    return item;
  }));
  el("failures").replaceChildren(...own.failures.map((failure) => {
    const item = make("li", undefined, "row");
    const doubt = failure.in_doubt ? ", in doubt" : failure.outage ? ", outage" : "";
    item.append(make("time", clock(failure.at)), make("b", `${failure.class}${doubt} `),
      make("span", `${failure.text} (${failure.attempts} ${failure.attempts === 1 ? "attempt" : "attempts"})`));
    return item;
  }));
}

// --- charts ---------------------------------------------------------------------------------

const COLOURS = ["#3b7dd8", "#d9822b", "#2f9e63", "#c9403f", "#8a5fc7", "#0f9aa8", "#b3903a", "#c2568d"];
const ZONES = { low: "rgba(47,158,99,.14)", normal: "rgba(59,125,216,.07)", high: "rgba(201,64,63,.16)" };
const rate = (get) => (frames) => frames.map((f, i) => {
  if (i === 0) return null;
  const before = frames[i - 1];
  const by = get(f) - get(before);
  // A restarted program counts from 0 again.
  return by < 0 ? null : by / ((f.at - before.at) / 1000);
});
const value = (get) => (frames) => frames.map((f) => get(f) ?? null);
const step = (u, i, from, to) => uPlot.paths.stepped({ align: 1 })(u, i, from, to);
const all = (object) => Object.values(object).reduce((a, b) => a + b, 0);
const triggers = ["size", "linger", "wait", "flush", "close", "retry"];
const stack = (index) => rate((f) => triggers.slice(index).reduce((sum, t) => sum + f.batches[t], 0));
const results = ["transient", "permanent", "in_doubt", "unclassified", "unavailable", "misconfigured", "panicked"];

const CHARTS = [
  // One line a batcher, where there are several.
  { id: "all-out", title: "All batchers: out", unit: "items/s", each: rate((f) => f.handled + f.failed), series: [] },
  { id: "all-pending", title: "All batchers: pending", unit: "items", each: value((f) => f.pending), series: [] },
  { id: "rate", title: "Rate", unit: "items/s", series: [["in", rate((f) => f.added)], ["out", rate((f) => f.handled + f.failed)]] },
  { id: "size", title: "Batch size", unit: "items; dots are batches, rings probes, crosses failures", bounds: true, dots: true,
    series: [["in force", value((f) => f.batch_size), { paths: step, width: 2 }]] },
  { id: "load", title: "Load score", unit: "0–1, background: zone", zones: true, range: [0, 1.02],
    series: [["score", value((f) => f.score), { width: 2 }], ["low", value((f) => f.score_low), { dash: [4, 4] }], ["high", value((f) => f.score_high), { dash: [4, 4] }]],
    signals: true },
  { id: "time", title: "Call and queue wait", unit: "seconds, of the last minute", log: true,
    series: [["call p50", value((f) => f.service_time.p50)], ["call p99", value((f) => f.service_time.p99)],
      ["wait p50", value((f) => f.queue_wait.p50)], ["wait p99", value((f) => f.queue_wait.p99)], ["running call", value((f) => f.running_call_age), { dash: [3, 3] }]] },
  { id: "queue", title: "Queue", unit: "items", series: [["pending", value((f) => f.pending), { fill: "rgba(59,125,216,.2)" }], ["capacity", value((f) => f.queue_capacity), { dash: [4, 4] }], ["in flight", value((f) => f.items_in_flight)]] },
  { id: "press", title: "Producers", unit: "threads that wait, refusals/s", series: [["blocked", value((f) => f.producers_blocked), { paths: step }], ["refused/s", rate((f) => all(f.refused))]] },
  { id: "flush", title: "Batches by trigger", unit: "batches/s, stacked", series: triggers.map((t, i) => [t, stack(i), { fill: `${COLOURS[i]}66` }]) },
  { id: "calls", title: "Calls by result", unit: "calls/s", series: [["ok", rate((f) => f.results.ok)], ...results.map((r) => [r, rate((f) => f.results[r])])] },
  { id: "trouble", title: "Retries", unit: "per second", series: [["again", rate((f) => f.retries)], ["in halves", rate((f) => f.split_retries)], ["bisections", rate((f) => f.bisections)], ["panics", rate((f) => all(f.panics))]] },
];

const plots = new Map();
const palette = () => {
  const style = getComputedStyle(document.body);
  return { text: style.getPropertyValue("--faint"), line: style.getPropertyValue("--line") };
};

function overlay(chart, u) {
  const { ctx, bbox } = u;
  const x = (ms) => u.valToPos(ms / 1000, "x", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const shown = u.shown ?? [];
  shown.forEach((f, i) => {
    const left = x(f.at);
    const right = i + 1 < shown.length ? x(shown[i + 1].at) : left;
    if (chart.zones && ZONES[f.zone]) {
      ctx.fillStyle = ZONES[f.zone];
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    if (chart.bounds) {
      const top = u.valToPos(f.max_batch_size, "y", true);
      const bottom = u.valToPos(f.min_batch_size, "y", true);
      ctx.fillStyle = "rgba(128,128,128,.16)";
      ctx.fillRect(left, bbox.top, right - left, top - bbox.top);
      ctx.fillRect(left, bottom, right - left, bbox.top + bbox.height - bottom);
    }
    if (!chart.dots) return;
    for (const [at, len, , probe, failed] of f.calls) {
      const [px, py] = [x(at), u.valToPos(len, "y", true)];
      const r = 2 * devicePixelRatio;
      ctx.beginPath();
      if (failed) {
        ctx.strokeStyle = COLOURS[3];
        ctx.moveTo(px - r, py - r); ctx.lineTo(px + r, py + r); ctx.moveTo(px - r, py + r); ctx.lineTo(px + r, py - r);
        ctx.stroke();
      } else {
        ctx.arc(px, py, probe ? 1.6 * r : r * 0.8, 0, 7);
        ctx.fillStyle = ctx.strokeStyle = probe ? COLOURS[4] : COLOURS[1];
        if (probe) ctx.stroke(); else ctx.fill();
      }
    }
  });
  if (state.mark) {
    ctx.strokeStyle = COLOURS[4];
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath(); ctx.moveTo(x(state.mark), bbox.top); ctx.lineTo(x(state.mark), bbox.top + bbox.height); ctx.stroke();
  }
  ctx.restore();
}

function plot(chart, names, width) {
  const key = `${width} ${names.join()} ${chart.each ? state.tab : ""}`;
  const old = plots.get(chart.id);
  if (old?.key === key) return old;
  old?.u.destroy();
  let box = old?.box;
  if (!box) {
    box = make("div", undefined, "chart");
    box.id = `chart-${chart.id}`;
    const title = make("h2", `${chart.title} `);
    title.append(make("small", chart.unit));
    box.append(title, make("div"), make("p"));
    el("charts").append(box);
  }
  const colours = palette();
  const axis = { stroke: () => palette().text, grid: { stroke: colours.line, width: 1 }, ticks: { stroke: colours.line, width: 1 }, font: "11px system-ui" };
  const logarithmic = chart.log || chart.bounds;
  const u = new uPlot({
    width, height: 190, cursor: { sync: { key: "all" } },
    scales: { y: logarithmic ? { distr: 3, range: (u, low, high) => {
      const f = u.shown?.at(-1);
      if (chart.bounds) return f ? [f.min_batch_size * 0.7, f.max_batch_size * 1.5] : [1, 10];
      return low > 0 ? uPlot.rangeLog(low, high, 10, true) : [1e-4, 1];
    } }
      : { range: (_, low, high) => chart.range ?? [0, Math.max(1, (high ?? 1) * 1.05)] } },
    axes: [{ ...axis, space: 70, size: 30, values: (_, ticks) => ticks.map((t) => clock(t * 1000)) }, { ...axis, size: 58, values: (_, ticks) => ticks.map((t) => (t == null ? "" : chart.log ? seconds(t) : number(t))) }],
    series: [{ value: (_, t) => (t == null ? "–" : clock(t * 1000)) }, ...names.map((name, i) => ({
      label: name, stroke: COLOURS[i % COLOURS.length], width: 1.5, points: { show: false }, spanGaps: false,
      value: (_, v) => (chart.log ? seconds(v) : number(v)), ...(chart.series[i]?.[2] ?? { width: 1 }),
    }))],
    hooks: {
      // A zoom would last until the next frame.
      setSelect: [(u) => { if (u.select.width > 0 && !state.paused) pause(); }],
      drawClear: [(u) => overlay({ zones: chart.zones, bounds: chart.bounds }, u)], draw: [(u) => overlay({ dots: chart.dots }, u)],
    },
  }, [[], ...names.map(() => [])], box.children[1]);
  const made = { key, u, box };
  plots.set(chart.id, made);
  return made;
}

function caption(chart, now, inRate, outRate) {
  if (chart.id === "rate" || chart.id === "queue") {
    const gap = inRate - outRate;
    const left = now.queue_capacity - now.pending;
    // A nearly empty queue fills and empties all the time.
    const fills = gap > 1 && now.pending > now.queue_capacity / 20 && left / gap < 3600;
    return fills ? `full in ${seconds(left / gap)} at this rate` : chart.id === "queue" ? `oldest item waits ${seconds(now.oldest_item_age)}` : "";
  }
  if (chart.id === "size") return `${now.batch_size} in force, bounds ${now.min_batch_size}–${now.max_batch_size}, ${now.probes} probes`;
  if (chart.id === "load") return `zone ${now.zone}` + Object.entries(now.signals).map(([k, v]) => `, ${k} ${number(v)}`).join("");
  if (chart.id === "time") return `running call ${seconds(now.running_call_age)}, last success ${seconds(now.last_success_age)} ago`;
  if (chart.id === "press") return `${now.producers_blocked} blocked, waited ${seconds(now.producer_wait)} in all`;
  if (chart.id === "trouble") return `backoff ${seconds(now.backoff_time)}, pauses ${seconds(now.paused_time)}, stalls ${seconds(now.stalled_time)}`;
  return "";
}

// --- drawing --------------------------------------------------------------------------------

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; draw(); });
}

function draw() {
  const newest = state.frames.at(-1);
  if (!newest) return pill(null);
  pill(newest.batchers[state.tab]);
  const chosen = newest.chosen ?? [];
  [...el("controls").children].forEach((row, i) => [...row.querySelectorAll("button")].forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.choice === chosen[i]))));
  if (state.paused) return;
  // A page that has just begun is not drawn as a sliver.
  const from = Math.max(newest.at - state.range * 60000, Math.min(state.frames[0].at, newest.at - 30000));
  // Frames of an earlier run may be of fewer batchers.
  const raw = state.frames.filter((f) => f.at >= from && f.batchers.length === state.names.length);
  const frames = raw.map((f) => ({ at: f.at, ...f.batchers[state.tab] }));
  const now = frames.at(-1);
  if (!now) return;
  const last = (series) => series.slice(-6).filter((v) => v != null).reduce((a, v, _, of) => a + v / of.length, 0);
  const inRate = last(rate((f) => f.added)(frames));
  const outRate = last(rate((f) => f.handled + f.failed)(frames));
  totals(now, outRate, inRate);
  const width = Math.max(200, (el("chart-rate")?.clientWidth ?? el("charts").clientWidth) - 20);
  const several = state.names.length > 1;
  for (const chart of CHARTS) {
    if (chart.each && !several) continue;
    if (chart.each) chart.series = state.names.map((name, i) => [name, () => chart.each(raw.map((f) => ({ at: f.at, ...f.batchers[i] }))), i === state.tab ? { width: 2.5 } : {}]);
    const signals = chart.signals ? Object.keys(now.signals) : [];
    const { u, box } = plot(chart, [...chart.series.map((s) => s[0]), ...signals], width);
    const largest = {};
    for (const s of signals) largest[s] = Math.max(1, ...frames.map((f) => f.signals[s] ?? 0));
    u.shown = frames;
    // On a logarithmic axis there is no zero.
    const fit = (values) => (chart.log ? values.map((v) => (v > 0 ? v : null)) : values);
    u.setData([frames.map((f) => f.at / 1000), ...chart.series.map((s) => fit(s[1](frames))),
      ...signals.map((s) => frames.map((f) => (f.signals[s] == null ? null : f.signals[s] / largest[s])))], false);
    u.batch(() => {
      u.setScale("x", { min: from / 1000, max: newest.at / 1000 });
    });
    // Without a cursor the legend has the newest values.
    if ((u.cursor.left ?? -1) < 0) u.setLegend({ idx: frames.length - 1 });
    box.lastChild.textContent = caption(chart, now, inRate, outRate);
  }
}

// --- keys and tools -------------------------------------------------------------------------

function pause() {
  state.paused = !state.paused;
  el("pause").setAttribute("aria-pressed", String(state.paused));
  schedule();
}
function range(by) {
  const select = el("range");
  select.selectedIndex = Math.min(select.options.length - 1, Math.max(0, select.selectedIndex + by));
  state.range = Number(select.value);
  schedule();
}
el("pause").onclick = pause;
el("range").onchange = () => range(0);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.getAttribute?.("role") === "tab" && /^Arrow(Left|Right)$/.test(event.key)) {
    return select(state.tab + (event.key === "ArrowRight" ? 1 : -1));
  }
  if (event.target.tagName === "SELECT") return;
  if (/^[1-9]$/.test(event.key)) select(Number(event.key) - 1);
  else if (event.key === "p") pause();
  else if (event.key === "+") range(1);
  else if (event.key === "-") range(-1);
});
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(schedule, 100); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const p of plots.values()) p.key = ""; schedule(); });
setInterval(schedule, 500);
connect();
