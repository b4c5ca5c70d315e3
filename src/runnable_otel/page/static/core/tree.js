/**
 * Facts → tree: the steps of a run, those that have not started too, with what became of them. Pure.
 *
 * A node: `{key, id, kind, name, step, taskType, attempts, children, status, started, ended, counts, errors, depth}`;
 * `id` is a small number for the DOM. `attempts` are described spans, oldest first. `status` is that of a span, or
 * `waiting` (not started), `notrun` (the run went past it), `lost` (the run is over and no end arrived).
 */
import { describe } from "./facts.js";
import { Grower, onStep } from "./grow.js";
import { settle } from "./outcome.js";
import { unfold, unfoldBranch } from "./unfold.js";

/** The tree of these facts, drawn once; see `Tree.draw`. */
export function drawTree(facts, { ids, ...options } = {}) {
  return new Tree(facts, ids).draw(options);
}

/**
 * The tree of a run, kept from picture to picture: most events change a task or two, and cost what these cost.
 *
 * What comes out is what a tree that is drawn anew would be. Nodes are changed in place, `draw` returns a new object.
 */
export class Tree {
  /** Args: facts; `ids`: a Map that keeps the numbers of nodes. */
  constructor(facts, ids = new Map()) {
    this.facts = facts;
    this.ids = ids;
    this.grower = null;
    this.rebuilt = 0;
  }

  /**
   * Args: `over`: nothing comes any more; `name`: what the run is called where no event says so.
   * Returns: `{root, nodes, ended}`; `ended` says that every run has told how it ended.
   */
  draw({ over = false, name = "" } = {}) {
    const { facts } = this;
    const old = { over: this.over, name: this.name };
    this.over = over;
    this.name = name;
    if (!this.grower || old.over !== over || (old.name !== name && !this.grower.root.attempts.length) || !this.amend()) this.rebuild();
    facts.changed.clear();
    const { root, nodes } = this.grower;
    return { root, nodes, ended: this.ended };
  }

  rebuild() {
    this.rebuilt += 1;
    const { facts } = this;
    const grower = (this.grower = new Grower(facts, this.ids));
    const spans = [...facts.spans.values()].map(describe);
    const runs = spans.filter((span) => span.kind === "run").sort((a, b) => a.started - b.started || (a.id < b.id ? -1 : 1));
    this.single = runs.length < 2;
    grower.runs(runs, this.name);
    for (const span of spans) if (onStep(span)) grower.step(span);
    for (const run of runs) unfold(grower, grower.bySpan.get(run.id), grower.graph(grower.bySpan.get(run.id)).top);
    for (const span of spans) if (span.kind !== "run" && !onStep(span)) grower.loose(span);
    if (!this.single) nestRuns(grower, runs);
    grower.made = [];
    grower.stale = false;
    this.ended = this.over || (runs.length > 0 && runs.every((run) => run.status !== "running"));
    settle([grower.root], this);
  }

  /** Take what has changed into the tree as it is; false where that can't be done. */
  amend() {
    const { facts, grower } = this;
    const touched = new Set();
    const loose = [];
    if (!this.single) return false;
    for (const id of facts.changed) {
      const span = describe(facts.spans.get(id));
      if (span.kind === "run" || !grower.learn(span)) return false;
      const node = grower.bySpan.get(id);
      if (node) {
        const at = node.attempts.findIndex((each) => each.id === id);
        if (!sameplace(node.attempts[at], span)) return false;
        node.attempts[at] = span;
        touched.add(node);
      } else if (onStep(span)) touched.add(grower.step(span));
      else loose.push(span);
    }
    for (const node of grower.made.filter((each) => each.kind === "branch")) unfoldBranch(grower, grower.root, node);
    for (const span of loose) if (!grower.bySpan.has(span.id)) grower.loose(span);
    if (grower.stale) return false;
    for (const node of grower.made) if (grower.nodes.get(node.key) === node) touched.add(node);
    grower.made = [];
    settle(touched, this);
    return true;
  }
}

function sameplace(one, other) {
  return ["kind", "name", "step", "branch", "parent", "runId", "taskType"].every((key) => one[key] === other[key]);
}

/** A run that another run's task started stands below that task. */
function nestRuns(grower, runs) {
  for (const run of runs) {
    const node = grower.bySpan.get(run.id);
    const above = grower.bySpan.get(run.parent);
    if (!above || inside(above, node)) continue;
    grower.root.children = grower.root.children.filter((child) => child !== node);
    node.parent = above;
    above.children.push(node);
  }
}

function inside(node, ancestor) {
  for (let at = node; at; at = at.parent) if (at === ancestor) return true;
  return false;
}
