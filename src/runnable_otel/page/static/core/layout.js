/** Tree → rows and bars: what stands where. Pure; times in milliseconds, places as fractions of the axis. */
import { STATES } from "./outcome.js";
import { tickStep } from "./time.js";

/**
 * The rows that show, in their order: `{node, matches}`.
 *
 * Args: root; `isOpen(node)`; `text` and `status` to filter by (a row stays for a match below it, and opens for it);
 * `errorsFirst`: children with errors stand before the others.
 * Returns: `{rows, matches}`, the number of nodes that match, or null without a filter.
 */
export function makeRows(root, { isOpen, text = "", status = "", errorsFirst = false }) {
  const wanted = text.trim().toLowerCase();
  const filtered = wanted !== "" || status !== "";
  const keep = filtered ? matching(root, wanted, status) : null;
  const rows = [];
  const pending = [root];
  while (pending.length) {
    const node = pending.pop();
    if (keep && !keep.has(node)) continue;
    rows.push({ node, matches: keep ? keep.get(node) : true });
    if (!node.children.length || !(filtered || isOpen(node))) continue;
    const children = errorsFirst ? bySeverity(node.children) : node.children;
    for (let index = children.length - 1; index >= 0; index -= 1) pending.push(children[index]);
  }
  let matches = null;
  if (keep) {
    matches = 0;
    for (const match of keep.values()) if (match) matches += 1;
  }
  return { rows, matches };
}

function bySeverity(children) {
  const severity = (node) => (node.errors ? 0 : node.status === "running" ? 1 : 2);
  return children
    .map((node, index) => [severity(node), index, node])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map((entry) => entry[2]);
}

// Node → whether it matches itself; ancestors of matches are in it, with false.
function matching(root, wanted, status) {
  const keep = new Map();
  const pending = [root];
  while (pending.length) {
    const node = pending.pop();
    if (isMatch(node, wanted, status)) {
      keep.set(node, true);
      for (let at = node.parent; at && !keep.has(at); at = at.parent) keep.set(at, false);
    }
    for (const child of node.children) pending.push(child);
  }
  return keep;
}

function isMatch(node, wanted, status) {
  if (status && (node.status !== status || (node.kind !== "task" && node.children.length > 0))) return false;
  if (!wanted) return true;
  const last = node.attempts.at(-1);
  const texts = [node.name, node.step, last?.name ?? "", last?.error ?? "", node.taskType];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

/** Nodes that failed themselves, in the order of the rows of a fully open tree. */
export function failures(root, errorsFirst = false) {
  const { rows } = makeRows(root, { isOpen: (node) => node.errors > 0, errorsFirst });
  return rows.map((row) => row.node).filter(isFailure);
}

export function isFailure(node) {
  if (node.status !== "error") return false;
  return node.kind === "task" || !node.children.some((child) => child.errors > 0);
}

/** Which rows to draw of `count` rows of one height: `[first, after the last]`, with some beyond what is seen. */
export function visibleRange(count, rowHeight, scrollTop, height, beyond = 8) {
  const first = Math.max(0, Math.min(count, Math.floor(scrollTop / rowHeight) - beyond));
  const last = Math.min(count, Math.ceil((scrollTop + height) / rowHeight) + beyond);
  return [first, Math.max(first, last)];
}

/**
 * The scroll position that brings a row into view: the same one where it is there already, the next one where it lies
 * just beyond, and else one that shows what is around it.
 */
export function scrollTo(index, rowHeight, scrollTop, height) {
  const top = index * rowHeight;
  const above = scrollTop - top;
  const below = top + rowHeight - scrollTop - height;
  if (above <= 0 && below <= 0) return scrollTop;
  if (Math.max(above, below) > 2 * rowHeight) return Math.max(0, top - 0.4 * height);
  return above > 0 ? Math.max(0, top - rowHeight) : top + 2 * rowHeight - height;
}

/** First start and last end below a root, `{from, to}`, or null; `now` counts as the end of what runs. */
export function extent({ first, last, live }, now) {
  if (first === Infinity) return null;
  return { from: first, to: Math.max(first, last, live < now ? now : -Infinity) };
}

/**
 * The bars of a node: `{left, width, sure, status, lane, lanes, span}`, fractions of the axis `{from, to}`; `sure` is
 * the part of the bar's width that is known, less than 1 where the task may have ended since `known`.
 *
 * Attempts whose times overlap (clocks differ) get lanes of their own: nothing is drawn over another.
 */
export function bars(node, axis, now, known = now) {
  const size = Math.max(axis.to - axis.from, 1e-6);
  const place = (started, ended, status, span) => {
    const open = Number.isNaN(ended);
    const end = open ? Math.max(started, status === "running" ? now : axis.to) : ended;
    const sure = open && status === "running" && known < end ? Math.max(0, known - started) / (end - started) : 1;
    return { left: (started - axis.from) / size, width: Math.max(0, end - started) / size, sure, status, lane: 0, lanes: 1, span };
  };
  if (!node.attempts.length) return Number.isNaN(node.started) ? [] : [place(node.started, node.ended, node.status, null)];
  const found = [];
  const last = node.attempts.length - 1;
  node.attempts.forEach((span, index) => {
    if (Number.isNaN(span.started)) return;
    found.push(place(span.started, span.ended, index === last ? node.status : span.status, span));
  });
  return found.length > 1 ? inLanes(found) : found;
}

function inLanes(found) {
  const ends = [];
  for (const bar of found.sort((a, b) => a.left - b.left)) {
    let lane = ends.findIndex((end) => end <= bar.left + 1e-9);
    if (lane < 0) lane = ends.length < 4 ? ends.length : 3;
    ends[lane] = bar.left + bar.width;
    bar.lane = lane;
  }
  for (const bar of found) bar.lanes = ends.length;
  return found;
}

/** The marks of an axis: `{at, offset}`, a fraction and milliseconds since the run's start. */
export function ticks(axis, origin, most) {
  const size = axis.to - axis.from;
  if (!(size > 0)) return [{ at: 0, offset: 0 }];
  const step = tickStep(size, most);
  const marks = [];
  for (let offset = Math.ceil((axis.from - origin) / step - 1e-9) * step; offset <= axis.to - origin + 1e-9; offset += step) {
    marks.push({ at: (origin + offset - axis.from) / size, offset: offset + 0 }); // no negative zero
  }
  return marks;
}

/** Counts of a tree's tasks as parts of a bar: `{status, count, share}`, those that matter first. */
export function progress(counts) {
  const order = ["success", "skipped", "error", "cancelled", "lost", "running", "waiting", "notrun"];
  const total = STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  return order.filter((state) => counts[state] > 0).map((status) => ({ status, count: counts[status], share: counts[status] / total }));
}

/** The part of an axis that shows after a zoom, around the start of a node where that is seen; null: the whole axis. */
export function zoomed(axis, whole, factor, node) {
  if (!whole || !axis) return null;
  const size = Math.min((axis.to - axis.from) * factor, whole.to - whole.from);
  if (size >= whole.to - whole.from) return null;
  const chosen = node && node.started >= axis.from && node.started <= axis.to ? node.started : (axis.from + axis.to) / 2;
  const from = Math.min(Math.max(chosen - size * 0.3, whole.from), whole.to - size);
  return { from, to: from + Math.max(size, 0.05) };
}

/** The part of an axis that is earlier or later by a part of its size, within the whole. */
export function moved(zoom, whole, part) {
  const size = zoom.to - zoom.from;
  const from = Math.min(Math.max(zoom.from + part * size, whole.from), Math.max(whole.from, whole.to - size));
  return { from, to: from + size };
}
