/**
 * The fold: events of one run → its facts. No DOM, no clock, no network.
 *
 * Spans are merged by span id, and an end wins over a start; so the order in which events arrive does not matter, and
 * neither does an event that comes twice.
 */
import { instant } from "./time.js";

// Maps: a type may be any text of a user's, and an object has members of its own, such as "constructor".
const RUNS = new Map([["pipeline_started", "start"], ["pipeline_completed", "end"]]);
const TASKS = new Map([["task_started", "start"], ["task_completed", "end"], ["task_error", "end"], ["task_skipped", "end"]]);
const COMPOSITE = /^(parallel|map|loop|conditional|branch|catalog):/;
const OUTCOMES = new Set(["success", "error", "cancelled", "skipped"]);

/** Facts of a run of which nothing is known yet. */
export function noFacts() {
  return {
    spans: new Map(), // span id → span, see `newSpan`
    logs: new Map(), // span id, or "step:" and a step → events of what was written
    others: new Map(), // span id, or "" → events of types that are the user's own
    seen: new Set(), // uids of events that are no start and no end
    graphs: new Map(), // span id of a run → its graph
    changed: new Set(), // ids of spans that are new or different since a tree was drawn
    events: 0, // how many, each once
    strange: 0, // how many were no events at all
    latest: NaN, // the last instant that an event names
  };
}

/** Take one event (an object from JSON); true if it was new. */
export function addEvent(facts, event) {
  if (typeof event !== "object" || event === null || typeof event.type !== "string") {
    facts.strange += 1;
    return false;
  }
  const fresh = take(facts, event);
  if (fresh) {
    facts.events += 1;
    const time = instant(event.time ?? event.runnable?.time);
    if (!(time <= facts.latest)) facts.latest = Number.isNaN(time) ? facts.latest : time;
  }
  return fresh;
}

function take(facts, event) {
  const { type } = event;
  if (RUNS.has(type)) return takeEdge(facts, event, "run", RUNS.get(type), 2);
  if (TASKS.has(type)) return takeEdge(facts, event, "task", TASKS.get(type), 2);
  if (type === "span") return takeEdge(facts, event, "span", "end", 1);
  const uid = text(event.uid) || JSON.stringify(event);
  if (facts.seen.has(uid)) return false;
  facts.seen.add(uid);
  if (type === "task_log" || type === "log_record") push(facts.logs, spanId(event) || `step:${text(event.step)}`, event);
  else push(facts.others, spanId(event.runnable) || spanId(event), event);
  return true;
}

function push(map, key, value) {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function takeEdge(facts, event, kind, edge, rank) {
  const id = spanId(event) || text(event.uid).replace(/:(start|end)$/, "");
  if (!id) {
    facts.strange += 1;
    return false;
  }
  let span = facts.spans.get(id);
  if (!span) facts.spans.set(id, (span = newSpan(id)));
  const known = edge === "start" ? span.start : span.end;
  if (known && (edge === "end" && span.rank !== rank ? span.rank > rank : !before(known, event))) return false;
  span[edge] = event;
  if (edge === "end") span.rank = rank;
  else if (kind === "run" && event.graph) facts.graphs.set(id, event.graph);
  span.view = null;
  facts.changed.add(id);
  return known === null;
}

// Two events that claim to be the same fact and differ: one of them is taken, whichever comes first.
function before(kept, event) {
  if (kept === event || (kept.time === event.time && kept.type === event.type)) return false;
  return `${kept.time} ${kept.type}` > `${event.time} ${event.type}`;
}

function newSpan(id) {
  return { id, start: null, end: null, rank: 0, view: null };
}

/**
 * What is known of a span.
 *
 * `kind` is `run`, `task`, a composite's (`parallel`, `map`, `loop`, `conditional`), `branch`, `catalog` or `span`;
 * `status` is `running`, `success`, `error`, `cancelled` or `skipped`; `started` and `ended` are milliseconds or NaN,
 * and the end is never before the start: clocks of hosts differ, `skewed` says that they do.
 */
export function describe(span) {
  if (span.view) return span.view;
  const { start, end } = span;
  const one = end ?? start;
  const get = (key) => end?.[key] ?? start?.[key];
  const attributes = isObject(end?.attributes) ? end.attributes : null;
  const { started, ended, skewed } = times(start, end);
  const attempt = Number(get("attempt") ?? attributes?.["runnable.step.attempt"]);
  span.view = {
    id: span.id,
    kind: kindOf(span, text(one.name)),
    name: text(get("name")),
    step: text(get("step")) || text(attributes?.["runnable.step.name"]),
    branch: text(get("branch")) || text(attributes?.["runnable.branch.name"]),
    taskType: text(get("task_type")),
    parent: text(get("parent_span_id")),
    runId: text(get("run_id")) || text(attributes?.run_id),
    attempt: Number.isFinite(attempt) && attempt > 0 ? attempt : 0,
    status: end ? outcome(end, attributes) : "running",
    error: text(end?.error),
    started,
    ended,
    skewed,
  };
  return span.view;
}

function times(start, end) {
  const ended = end ? instant(end.time) : NaN;
  let started = instant(end?.started ?? start?.time);
  if (Number.isNaN(started)) started = instant(start?.time);
  if (Number.isNaN(started) && end) {
    started = Number.isFinite(end.duration_ms) ? ended - Math.max(0, end.duration_ms) : ended;
  }
  const skewed = ended < started;
  return { started, ended: skewed ? started : ended, skewed };
}

function kindOf(span, name) {
  const type = (span.end ?? span.start).type;
  if (RUNS.has(type)) return "run";
  if (TASKS.has(type)) return "task";
  const found = COMPOSITE.exec(name);
  return found ? found[1] : "span";
}

function outcome(end, attributes) {
  if (OUTCOMES.has(attributes?.status)) return attributes.status;
  if (end.type === "task_skipped") return "skipped";
  if (OUTCOMES.has(end.status)) return end.status;
  if (end.status === "unknown") return "lost"; // nobody saw how it ended
  if (end.type === "task_error") return end.error === "cancelled" ? "cancelled" : "error";
  return "success";
}

/** The events of a run in the order of their times: what an export holds. */
export function allEvents(facts) {
  const events = [];
  for (const { start, end } of facts.spans.values()) {
    if (start) events.push(start);
    if (end) events.push(end);
  }
  for (const lists of [facts.logs, facts.others]) for (const list of lists.values()) events.push(...list);
  const key = (event) => instant(event.time ?? event.runnable?.time) || 0;
  return events.map((event) => [key(event), event]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
}

/** A list of events of logs in the order of their times; those of one instant as they came. */
export function inOrder(list) {
  return list.map((event) => [instant(event.time ?? event.runnable?.time) || 0, event]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function spanId(event) {
  return isObject(event) ? text(event.span_id) : "";
}

function text(value) {
  return typeof value === "string" ? value : "";
}
