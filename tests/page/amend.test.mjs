/** A tree that is kept from picture to picture is the one that would be drawn anew, and costs what has changed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ended, failed, random, run, shuffled, span, started, task } from "./events.mjs";
import { load } from "./source.mjs";

const { addEvent, noFacts } = await load("core/facts.js");
const { extent, makeRows } = await load("core/layout.js");
const { Tree, drawTree } = await load("core/tree.js");

const NODES = [
  { id: "load", type: "task", task_type: "shell" },
  { id: "each", type: "map" },
  { id: "each.*.sell", type: "task", parent: "each", branch: "each.*" },
  { id: "each.*.again", type: "loop", parent: "each", branch: "each.*" },
  { id: "each.*.again.*.try", type: "task", parent: "each.*.again", branch: "each.*.again.*" },
  { id: "both", type: "parallel" },
  { id: "both.l.one", type: "task", parent: "both", branch: "both.l" },
  { id: "both.r.two", type: "task", parent: "both", branch: "both.r" },
  { id: "last", type: "task" },
].map((node) => ({ name: node.id.slice(node.id.lastIndexOf(".") + 1), ...node }));
const named = (step, branch) => ({ attributes: { "runnable.step.name": step, ...(branch ? { "runnable.branch.name": branch } : {}) } });

/** The events of a run with everything in it, in an order that might have been. */
function story(next) {
  const pick = (...list) => list[Math.floor(next() * list.length)];
  const events = [run("root", 0, 0, next() < 0.7 ? { graph: { nodes: NODES } } : {})[0]];
  let at = 1;
  const attempt = (step, branch, number = 1, more = {}) => {
    const id = `${step}#${number}`;
    const own = { step, attempt: number, ...(branch ? { branch } : {}), ...more };
    events.push(started(id, at, own));
    if (next() < 0.2) events.push(span(`${id}-inner`, "GET /", at, at + 1, { parent_span_id: next() < 0.8 ? id : "nobody", step: pick(step, "") }));
    at += 1 + Math.floor(next() * 9);
    if (next() < 0.1) own.step = pick("load", "elsewhere"); // an end that says otherwise than its start
    if (next() < 0.9) events.push(next() < 0.2 ? failed(id, at - 5, at, "OSError: x", own) : ended(id, at - 5, at, own));
  };
  attempt("load", "", 1, { task_type: "shell" });
  for (let item = 0; item < 1 + next() * 4; item += 1) {
    const branch = `each.${pick("v", "x.y", "10 000")}${item}`;
    attempt(`${branch}.sell`, branch);
    if (next() < 0.3) attempt(`${branch}.sell`, branch, 2);
    for (let round = 0; round < next() * 3; round += 1) attempt(`${branch}.again.${round}.try`, `${branch}.again.${round}`);
    if (next() < 0.5) events.push(span(`l${item}`, "loop:again", 1, at, named(`${branch}.again`)));
    if (next() < 0.7) events.push(span(`b${item}`, "branch:item", 1, at, named("each", branch)));
  }
  if (next() < 0.7) events.push(span("m", "map:each", 1, at, named("each")));
  for (const [label, step] of [["l", "one"], ["r", "two"]]) if (next() < 0.8) attempt(`both.${label}.${step}`, `both.${label}`);
  if (next() < 0.5) events.push(span("p", "parallel:both", 1, at, named("both")));
  if (next() < 0.3) events.push(span("c", "catalog:put", at, at + 1, { parent_span_id: "last#1", ...named("last") }));
  attempt("last", "");
  if (next() < 0.2) events.push(...run("other", 3, 9, { parent_span_id: "last#1", run_id: "r2" }));
  if (next() < 0.5) events.push(run("root", 0, at)[1]);
  return events;
}

function whole(node) {
  const { name, kind, step, taskType, status, started: from, ended: to, counts, inner, errors, depth, passed, first, last, live, pattern, attempts, children } = node;
  const own = { name, kind, step, taskType, status, from, to, counts: { ...counts }, inner: { ...inner }, errors, depth, passed, first, last, live, pattern };
  return { ...own, attempts: attempts.map((each) => each.id), children: children.map(whole) };
}

for (const order of ["as it happened", "shuffled"]) {
  test(`after each batch the tree is that of all events so far, ${order}`, () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const next = random(seed);
      const told = story(next);
      const events = order === "shuffled" ? shuffled(told, next) : told;
      const [kept, anew] = [noFacts(), noFacts()];
      const tree = new Tree(kept);
      for (let at = 0; at < events.length; ) {
        const size = 1 + Math.floor(next() * 4);
        for (const event of events.slice(at, at + size)) [kept, anew].forEach((facts) => addEvent(facts, event));
        at += size;
        const over = at >= events.length && next() < 0.5;
        const drawn = tree.draw({ over, name: "n" });
        const expected = drawTree(anew, { over, name: "n" });
        assert.deepEqual(whole(drawn.root), whole(expected.root), `seed ${seed}, after ${at} events`);
        assert.deepEqual([...drawn.nodes.keys()].sort(), [...expected.nodes.keys()].sort());
        for (const node of drawn.nodes.values()) assert.equal(drawn.nodes.get(node.key), node);
      }
    }
  });
}

test("the extent of a node is that of all below it", () => {
  for (let seed = 0; seed < 200; seed += 1) {
    const facts = noFacts();
    for (const event of story(random(seed))) addEvent(facts, event);
    const { root } = drawTree(facts);
    const nodes = makeRows(root, { isOpen: () => true }).rows.map((row) => row.node);
    const spans = nodes.flatMap((node) => node.attempts);
    const { from, to } = extent(root, -Infinity);
    assert.equal(from, Math.min(...spans.map((each) => each.started)));
    assert.equal(to, Math.max(from, ...spans.map((each) => each.ended).filter((end) => !Number.isNaN(end))));
  }
});

test("tasks of a large map come and go without the tree being made anew", () => {
  const facts = noFacts();
  const tree = new Tree(facts);
  const graph = { nodes: NODES };
  addEvent(facts, run("root", 0, 0, { graph })[0]);
  tree.draw();
  const items = Array.from({ length: 2000 }, (_, item) => `each.item${item}`);
  items.forEach((branch, item) => {
    for (const event of task(`t${item}`, item, item + 5, { step: `${branch}.sell`, branch })) {
      addEvent(facts, event);
      tree.draw();
    }
    addEvent(facts, span(`b${item}`, "branch:item", item, item + 6, named("each", branch)));
    const { root } = tree.draw();
    assert.equal(root.counts.success, item + 1);
  });
  assert.ok(tree.rebuilt <= 2, `${tree.rebuilt} times`);
});
