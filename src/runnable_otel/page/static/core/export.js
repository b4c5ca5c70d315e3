/** A run as files for other programs. Pure. */
import { allEvents, describe } from "./facts.js";
import { stringify } from "./json.js";
import { clean } from "./text.js";

/** All events, and what the server says of the run, as JSON text. */
export function asJson(facts, summary) {
  return stringify({ run: summary ?? null, events: allEvents(facts) }, 1);
}

/**
 * Chrome's trace event format, which Perfetto and chrome://tracing open: a complete event for each span, in
 * microseconds; a begin event for one that has no end.
 *
 * Spans of one track must lie inside each other, so those of a process are dealt out to tracks.
 */
export function asChromeTrace(facts) {
  const spans = [...facts.spans.values()].filter((span) => Number.isFinite(describe(span).started));
  const order = spans.map((span) => ({ span, view: describe(span) })).sort((a, b) => a.view.started - b.view.started || b.view.ended - a.view.ended);
  const from = order[0]?.view.started ?? 0;
  const processes = new Map();
  const events = [];
  for (const { span, view } of order) {
    const one = span.end ?? span.start;
    const title = `${clean(one.host ?? one.service ?? "process")}${one.pid ? ` ${one.pid}` : ""}`;
    const process = named(processes, title, events);
    const ended = Number.isFinite(view.ended);
    const { graph, ...args } = one;
    events.push({
      name: clean(view.step || view.name) || view.kind,
      cat: view.kind,
      ...(ended ? { ph: "X", dur: micro(view.ended - from) - micro(view.started - from) } : { ph: "B" }),
      ts: micro(view.started - from),
      pid: process.pid,
      tid: track(process, view.started, ended ? view.ended : Infinity),
      args: { ...args, status: view.status },
    });
  }
  return stringify({ displayTimeUnit: "ms", traceEvents: events });
}

function micro(milliseconds) {
  return Math.round(milliseconds * 1000);
}

function named(processes, title, events) {
  let process = processes.get(title);
  if (!process) {
    process = { pid: processes.size + 1, tracks: [] };
    processes.set(title, process);
    events.push({ name: "process_name", ph: "M", pid: process.pid, args: { name: title } });
  }
  return process;
}

// The first track on which the span lies inside all that is open there.
function track(process, started, ended) {
  for (const [index, open] of process.tracks.entries()) {
    while (open.length && open.at(-1) <= started) open.pop();
    if (!open.length || open.at(-1) >= ended) {
      open.push(ended);
      return index + 1;
    }
  }
  process.tracks.push([ended]);
  return process.tracks.length;
}

/** A file name made of a run's name and id. */
export function fileName(summary, extension) {
  const name = [summary?.name, summary?.run_id ?? summary?.trace_id].map((part) => clean(part).replace(/[^\w.-]+/g, "-").slice(0, 80));
  return `${name.filter(Boolean).join("_") || "run"}.${extension}`;
}
