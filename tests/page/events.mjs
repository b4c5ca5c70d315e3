/** Events for the tests, short to write; times are milliseconds after a fixed moment. */
export const ZERO = Date.parse("2026-11-24T10:00:00Z");
const at = (milliseconds) => new Date(ZERO + milliseconds).toISOString();

export function started(span, from, more = {}) {
  return { type: "task_started", name: `m.${span}`, span_id: span, uid: `t:${span}:start`, time: at(from), step: span, ...more };
}

export function ended(span, from, to, more = {}) {
  return { type: "task_completed", name: `m.${span}`, span_id: span, uid: `t:${span}:end`, time: at(to), started: at(from), step: span, ...more };
}

export function failed(span, from, to, error = "ValueError: no", more = {}) {
  return ended(span, from, to, { type: "task_error", error, stack_trace: "Traceback", ...more });
}

export function task(span, from, to, more = {}) {
  return [started(span, from, more), ended(span, from, to, more)];
}

export function run(span, from, to, more = {}) {
  const common = { name: "pipe", span_id: span };
  return [
    { type: "pipeline_started", uid: `t:${span}:start`, time: at(from), ...common, ...more },
    { type: "pipeline_completed", uid: `t:${span}:end`, time: at(to), started: at(from), status: "success", ...common },
  ];
}

export function span(id, name, from, to, more = {}) {
  return { type: "span", name, span_id: id, uid: `t:${id}:end`, time: at(to), started: at(from), status: "unset", attributes: {}, ...more };
}

/** Numbers below 1 that are the same for the same seed. */
export function random(seed) {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 4294967296;
  };
}

export function shuffled(list, next) {
  const copy = [...list];
  for (let index = copy.length - 1; index > 0; index -= 1) {
    const other = Math.floor(next() * (index + 1));
    [copy[index], copy[other]] = [copy[other], copy[index]];
  }
  return copy;
}
