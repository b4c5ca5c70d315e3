/** What became of each node: status, times and counts, from the leaves up. Pure; fills in the nodes of a new tree. */

export const STATES = ["error", "running", "waiting", "lost", "cancelled", "success", "skipped", "notrun"];
/** In the order in which they matter to the one who looks. */

/**
 * Judge these nodes, all below them, and all above them.
 *
 * Args: nodes; `over`: nothing comes any more; `ended`: all runs have said how they ended.
 */
export function settle(nodes, { over, ended }) {
  const levels = []; // by depth
  const seen = new Set();
  const note = (node) => {
    seen.add(node);
    (levels[node.depth] ??= []).push(node);
  };
  const all = new Set(nodes);
  const tops = [...all].filter((node) => !isBelow(node, all));
  for (const pending = [...tops]; pending.length; ) {
    const node = pending.pop();
    const { parent } = node;
    const passed = parent !== null && (ended || parent.passed || isDone(parent));
    node.depth = parent ? parent.depth + 1 : 0;
    node.passed = passed || (node.attempts.length === 0 && ended);
    if (node.attempts.length) sortAttempts(node);
    note(node);
    for (const child of node.children) pending.push(child);
  }
  for (const top of tops) for (let at = top.parent; at && !seen.has(at); at = at.parent) note(at);
  for (let depth = levels.length - 1; depth >= 0; depth -= 1) for (const node of levels[depth] ?? []) judge(node, over);
}

function isBelow(node, nodes) {
  for (let at = node.parent; at; at = at.parent) if (nodes.has(at)) return true;
  return false;
}

/** It has ended, so that what is below it will not start any more. */
function isDone(node) {
  return node.attempts.length > 0 && node.attempts.at(-1).status !== "running" && node.children.length > 0;
}

/** The attempt that counts is the last one. */
function sortAttempts(node) {
  if (node.attempts.length > 1) {
    const key = (span) => (Number.isNaN(span.started) ? Infinity : span.started);
    node.attempts.sort((a, b) => a.attempt - b.attempt || key(a) - key(b) || (a.id < b.id ? -1 : 1));
  }
  const { kind, taskType } = node.attempts[node.attempts.length - 1];
  if (kind !== "branch") node.kind = kind;
  node.taskType = taskType || (node.template?.taskType ?? "");
}

// Most nodes of a large run are tasks without children: those of one status share their counts.
const NO_TIMES = [Infinity, -Infinity, Infinity];
const NO_CHILDREN = Object.freeze({ counts: Object.freeze({ total: 0 }), errors: 0, started: NaN, ended: NaN, first: Infinity, last: -Infinity, live: Infinity });
const ONE = new Map(STATES.concat("success").map((state) => [state, Object.freeze({ total: 1, [state]: 1 })]));

function judge(node, over) {
  const { children, attempts } = node;
  const own = attempts.length ? attempts[attempts.length - 1] : null;
  const sums = children.length ? sum(children) : NO_CHILDREN;
  let { counts, started, ended } = sums;
  for (const span of attempts) {
    if (span === attempts[0] && node.kind !== "task" && !Number.isNaN(span.started)) started = span.started;
    else if (span.started < started || Number.isNaN(started)) started = span.started;
  }
  if (own && own.status !== "running") ended = own.ended;
  node.inner = counts;
  node.status = status(node, own, counts, over);
  if (node.kind === "task" && !node.pattern) {
    const one = ONE.get(node.status);
    counts = children.length ? { ...counts, total: counts.total + 1, [node.status]: (counts[node.status] ?? 0) + 1 } : one;
  }
  node.counts = counts;
  node.errors = sums.errors + (node.status === "error" && (node.kind === "task" || sums.errors === 0) ? 1 : 0);
  node.started = started;
  node.ended = node.status === "running" ? NaN : ended;
  measure(node, sums);
  if (children.length > 1) children.sort(byStart);
}

function sum(children) {
  const counts = { total: 0 };
  let errors = 0;
  let started = Infinity;
  let ended = -Infinity;
  let [first, last, live] = NO_TIMES;
  for (const child of children) {
    errors += child.errors;
    for (const state in child.counts) counts[state] = (counts[state] ?? 0) + child.counts[state];
    if (child.started < started) started = child.started;
    if (child.ended > ended) ended = child.ended;
    if (child.first < first) first = child.first;
    if (child.last > last) last = child.last;
    if (child.live < live) live = child.live;
  }
  return { counts, errors, started: started === Infinity ? NaN : started, ended: ended === -Infinity ? NaN : ended, first, last, live };
}

// The first start and the last end in a node or below it, and the first start of what runs.
function measure(node, { first, last, live }) {
  for (const span of node.attempts) {
    if (span.started < first) first = span.started;
    if (span.ended > last) last = span.ended;
  }
  if (node.status === "running" && node.started < live) live = node.started;
  Object.assign(node, { first, last, live });
}

function status(node, own, counts, over) {
  if (own && own.status !== "running") return own.status;
  if (own) return over ? "lost" : "running";
  if (!node.children.length || counts.total === 0) return openChild(node) ?? (node.passed ? "notrun" : "waiting");
  if (counts.running && !over) return "running";
  if (counts.error) return counts.waiting && !node.passed ? "running" : "error";
  if (counts.waiting) return counts.waiting === counts.total ? "waiting" : "running";
  for (const state of ["lost", "cancelled", "success", "skipped"]) if (counts[state]) return state;
  return "notrun";
}

// Composites of spans that are no tasks: what their children are.
function openChild(node) {
  const states = new Set(node.children.map((child) => child.status));
  for (const state of STATES) if (states.has(state)) return state;
  return null;
}

function byStart(a, b) {
  const left = Number.isNaN(a.started) ? Infinity : a.started;
  const right = Number.isNaN(b.started) ? Infinity : b.started;
  if (left !== right) return left - right;
  if (a.order !== b.order) return a.order - b.order;
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

/**
 * Counts of a summary as those of a tree. It counts attempts: one that was tried again is not the task's last word. In
 * a run that succeeded, the failures that are left have been recovered from, and are `recovered` here.
 */
export function summaryCounts({ tasks, status }) {
  const { started = 0, retried = 0, running = 0, completed = 0, skipped = 0, lost = 0 } = tasks ?? {};
  const failed = Math.max(0, (tasks?.failed ?? 0) - retried);
  const seen = Math.max(started - retried, completed + failed + running + lost);
  const open = status === "running" ? { running } : { lost: running + lost }; // an older server calls them running
  if (status === "success") return { success: completed, skipped, ...open, recovered: failed, total: Math.max(seen - failed, 0) + skipped };
  return { success: completed, error: failed, skipped, ...open, recovered: 0, total: seen + skipped };
}
