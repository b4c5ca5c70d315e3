/** Instants and durations: milliseconds as numbers, and text for people. */

const RFC3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)$/;

/** RFC 3339 text as milliseconds since 1970, with microseconds as a fraction; NaN where it is none. */
export function instant(text) {
  const found = typeof text === "string" ? RFC3339.exec(text) : null;
  if (!found) return NaN;
  const seconds = Date.parse(`${found[1]}T${found[2]}${found[4].toUpperCase()}`);
  return found[3] ? seconds + Number(found[3]) * 1000 : seconds;
}

/** A duration in at most two units: `0 ms`, `5.2 ms`, `812 ms`, `2.4 s`, `1 m 05 s`, `3 h 20 m`, `4 d 06 h`. */
export function duration(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "";
  const value = Math.max(0, milliseconds);
  if (value < 9.95) return `${value < 0.05 ? 0 : value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  if (value < 9_950) return `${(value / 1000).toFixed(1)} s`;
  const seconds = Math.round(value / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return pair(seconds, 60, "m", "s");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return pair(minutes, 60, "h", "m");
  return pair(Math.floor(minutes / 60), 24, "d", "h");
}

function pair(value, base, large, small) {
  return `${Math.floor(value / base)} ${large} ${String(value % base).padStart(2, "0")} ${small}`;
}

/** Whole seconds, for what ticks: `4 s`, `1 m 05 s`. */
export function ticking(milliseconds) {
  const value = Math.max(0, milliseconds);
  return value < 60_000 ? `${Math.floor(value / 1000)} s` : duration(value);
}

/** How long ago, in one unit: `just now`, `12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`. */
export function ago(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

const two = (value) => String(value).padStart(2, "0");

/** Local time of day, `14:03:09`. */
export function clock(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "";
  const date = new Date(milliseconds);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Local date and time, `2026-11-24 14:03:09.123`. */
export function moment(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "";
  const date = new Date(milliseconds);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(milliseconds)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5];

/** The step, in milliseconds, that divides a span of time into at most `most` parts that read well. */
export function tickStep(span, most) {
  const least = span / Math.max(1, most);
  for (const step of STEPS) if (step >= least) return step;
  let step = 2 * 36e5;
  while (step < least) step *= 2;
  return step;
}

/** The next end of a growing axis: so far above that it moves seldom, so close that bars use the width. */
export function axisEnd(elapsed) {
  const least = Math.max(elapsed * 1.04, 200);
  const step = tickStep(least, 12);
  return Math.ceil(least / step) * step;
}
