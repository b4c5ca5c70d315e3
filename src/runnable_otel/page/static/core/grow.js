/**
 * Spans → nodes, each made when it is first needed: runs, composites, branches, steps, and other spans below them.
 *
 * What is made later may change where an earlier node belongs; `stale` then says that all must be made anew.
 */
import { describe } from "./facts.js";
import { branchAround, branchOf, inGraph, readGraph, splitBranch } from "./steps.js";

const COMPOSITES = new Set(["parallel", "map", "loop", "conditional"]);
const NO_GRAPH = { top: [], composites: [] };
const graphs = new WeakMap(); // a graph → what `readGraph` makes of it

/** Whether a span is an attempt of a step or a branch of the graph; others hang below their parent span. */
export function onStep(span) {
  if (span.kind === "run" || span.kind === "catalog" || span.kind === "span") return false;
  return span.kind === "branch" ? span.branch !== "" || span.step !== "" : span.step !== "";
}

export class Grower {
  /** Args: facts; `ids`: a Map that keeps the numbers of nodes. */
  constructor(facts, ids) {
    this.facts = facts;
    this.ids = ids;
    this.nodes = new Map(); // key → node
    this.bySpan = new Map(); // span id → node
    this.made = []; // nodes, since somebody emptied it
    this.wanted = new Set(); // keys and span ids that were looked for in vain
    this.stale = false;
    this.owners = new Map(); // span id → span id of its run
    this.splits = new Map(); // dotted name of a branch → [composite, label]
    this.composites = new Set(); // dotted names
    for (const span of facts.spans.values()) this.learn(describe(span));
  }

  /** What a span tells of names; false where it tells something new. */
  learn({ kind, step, branch }) {
    if (kind === "branch" && branch.startsWith(`${step}.`)) {
      const label = branch.slice(step.length + 1);
      const known = this.composites.has(step) && this.splits.get(branch)?.[1] === label;
      this.composites.add(step);
      this.splits.set(branch, [step, label]);
      return known;
    }
    if (!COMPOSITES.has(kind) || !step || this.composites.has(step)) return true;
    this.composites.add(step);
    return false;
  }

  node(key, parent, { kind, name, step = "", taskType = "", attempts = [] }) {
    let id = this.ids.get(key);
    if (id === undefined) this.ids.set(key, (id = this.ids.size + 1));
    const node = {
      key, id, kind, name, step, taskType, attempts, children: [], parent, pattern: false, template: null, order: Infinity,
      status: "waiting", started: NaN, ended: NaN, first: Infinity, last: -Infinity, live: Infinity,
      counts: null, inner: null, errors: 0, depth: 0, passed: false,
    };
    this.nodes.set(key, node);
    this.made.push(node);
    if (this.wanted.has(key)) this.stale = true;
    parent?.children.push(node);
    return node;
  }

  /** Take a node and all below it away. */
  drop(key) {
    const node = this.nodes.get(key);
    if (!node) return;
    node.parent.children = node.parent.children.filter((child) => child !== node);
    for (const pending = [node]; pending.length; ) {
      const each = pending.pop();
      this.nodes.delete(each.key);
      pending.push(...each.children);
    }
  }

  /** The root: the one run, or a frame around what there is. */
  runs(runs, name) {
    this.runIds = new Map();
    for (const run of runs) this.runIds.set(run.runId, this.runIds.has(run.runId) ? null : run.id);
    if (runs.length === 1) {
      this.root = this.runNode(runs[0], null);
      return;
    }
    this.root = this.node("root", null, { kind: "run", name: name || "run" });
    for (const run of runs) this.runNode(run, this.root);
  }

  runNode(run, parent) {
    const node = this.node(`run:${run.id}`, parent, { kind: "run", name: run.name, attempts: [run] });
    this.bySpan.set(run.id, node);
    return node;
  }

  /** The node of the run that a span belongs to: by its parents, else by its run id. */
  owner(span) {
    if (this.root.attempts.length) return this.root;
    const path = [];
    let found = "";
    for (let at = span; at && path.length < 10_000; ) {
      const known = this.owners.get(at.id);
      if (known !== undefined) found = known;
      else if (this.nodes.has(`run:${at.id}`)) found = at.id;
      if (found || known !== undefined) break;
      this.owners.set(at.id, ""); // a circle of parents ends here
      path.push(at.id);
      const above = this.facts.spans.get(at.parent);
      at = above ? describe(above) : null;
    }
    found ||= this.runIds.get(span.runId) ?? "";
    for (const id of path) this.owners.set(id, found);
    return this.nodes.get(`run:${found}`) ?? this.root;
  }

  /** An attempt of a step, below its composite and its branch; returns its node. */
  step(span) {
    const owner = this.owner(span);
    const branch = span.kind === "branch" ? span.branch || span.step : branchOf(span.step, span.branch);
    const inside = branch ? this.branch(owner, branch) : owner;
    const node = span.kind === "branch" ? inside : this.stepNode(owner, inside, span.step);
    node.attempts.push(span);
    this.know(span, node);
    return node;
  }

  know(span, node) {
    this.bySpan.set(span.id, node);
    if (this.wanted.has(span.id)) this.stale = true;
  }

  stepNode(owner, parent, step, kind = "composite") {
    const key = `${owner.key}/s:${step}`;
    const known = this.nodes.get(key);
    if (known) return known;
    const name = (parent.kind === "branch" && step.slice(parent.step.length + 1)) || step;
    return this.node(key, parent, { kind, name, step });
  }

  branch(owner, dotted) {
    const key = `${owner.key}/b:${dotted}`;
    const known = this.nodes.get(key);
    if (known) return known;
    const [composite, label] = this.split(dotted, owner);
    if (!composite) return this.node(key, owner, { kind: "branch", name: label, step: dotted });
    const outer = branchAround(composite);
    const above = this.stepNode(owner, outer ? this.branch(owner, outer) : owner, composite);
    return this.branchNode(owner, above, dotted, label);
  }

  branchNode(owner, composite, dotted, label) {
    const key = `${owner.key}/b:${dotted}`;
    return this.nodes.get(key) ?? this.node(key, composite, { kind: "branch", name: label, step: dotted });
  }

  split(dotted, owner) {
    let found = this.splits.get(dotted);
    if (!found) {
      const { composites } = this.graph(owner);
      found = splitBranch(dotted, (path) => this.composites.has(path) || inGraph(composites, path));
      this.splits.set(dotted, found);
    }
    return found;
  }

  /** A span that is no step: below its parent, however the parents are linked. */
  loose(first) {
    const chain = [];
    let at = first;
    let above = null;
    const seen = new Set();
    while (at && !above) {
      if (this.bySpan.has(at.id)) above = this.bySpan.get(at.id);
      else if (seen.has(at.id)) break; // a circle of parents
      else {
        seen.add(at.id);
        chain.push(at);
        const next = this.facts.spans.get(at.parent);
        if (!next && at.parent) this.wanted.add(at.parent);
        at = next ? describe(next) : null;
      }
    }
    for (const span of chain.reverse()) {
      const { kind, name, step, taskType } = span;
      above = this.node(`span:${span.id}`, above ?? this.home(span), { kind, name, step, taskType, attempts: [span] });
      this.know(span, above);
    }
  }

  home(span) {
    const owner = this.owner(span);
    const keys = [span.step && `${owner.key}/s:${span.step}`, span.branch && `${owner.key}/b:${span.branch}`].filter(Boolean);
    for (const key of keys) {
      if (this.nodes.has(key)) return this.nodes.get(key);
      this.wanted.add(key);
    }
    return owner;
  }

  /** What the graph of a run holds. */
  graph(owner) {
    const graph = this.facts.graphs.get(owner.attempts[0]?.id);
    if (!graph) return NO_GRAPH;
    if (!graphs.has(graph)) graphs.set(graph, readGraph(graph));
    return graphs.get(graph);
  }
}
