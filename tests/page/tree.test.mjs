/** Events → picture: the same whatever their order, and nothing in it that no event told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ended, failed, random, run, shuffled, span, started, task } from "./events.mjs";
import { load } from "./source.mjs";

const { addEvent, allEvents, noFacts } = await load("core/facts.js");
const { drawTree } = await load("core/tree.js");

function picture(events, options) {
  const facts = noFacts();
  for (const event of events) addEvent(facts, event);
  return { facts, ...drawTree(facts, options) };
}

/** The tree as nested text: `name:kind:status`. */
function sketch(node) {
  return [`${node.name}:${node.kind}:${node.status}`, ...node.children.flatMap((child) => sketch(child).map((line) => `  ${line}`))];
}

function whole(node) {
  const { name, kind, status, started: from, ended: to, counts, errors, attempts, children } = node;
  return { name, kind, status, from, to, counts: { ...counts }, errors, attempts: attempts.map((each) => each.id), children: children.map(whole) };
}

const inBranch = (composite, label) => ({ branch: `${composite}.${label}` });
const RICH = [
  ...run("root", 0, 900),
  ...task("load", 10, 40),
  ...task("a1", 50, 90, { step: "each.north.sell", ...inBranch("each", "north") }),
  ...task("a2", 50, 95, { step: "each.south.sell", ...inBranch("each", "south") }),
  span("b1", "branch:region", 45, 92, { attributes: { "runnable.step.name": "each", "runnable.branch.name": "each.north" } }),
  span("b2", "branch:region", 45, 97, { attributes: { "runnable.step.name": "each", "runnable.branch.name": "each.south" } }),
  span("c1", "map:each", 44, 98, { attributes: { "runnable.step.name": "each" } }),
  started("p1", 100, { step: "publish", attempt: 1 }),
  failed("p1", 100, 200, "OSError: x", { step: "publish", attempt: 1 }),
  ...task("p2", 210, 300, { step: "publish", attempt: 2 }),
  span("s1", "GET /x", 220, 230, { parent_span_id: "p2" }),
  span("s2", "SELECT", 222, 226, { parent_span_id: "s1" }),
  { type: "task_skipped", name: "m.old", span_id: "k", uid: "t:k:start", step: "old", time: "2026-11-24T10:00:00.305Z" },
  { type: "task_log", name: "m.load", span_id: "load", uid: "n:1", text: "hello\n", stream: "stdout", time: "2026-11-24T10:00:00.020Z" },
  { type: "chunk", uid: "n:2", index: 1, runnable: { span_id: "load", time: "2026-11-24T10:00:00.021Z" } },
];

test("a run as its producer tells it", () => {
  assert.deepEqual(sketch(picture(RICH).root), [
    "pipe:run:success",
    "  load:task:success",
    "  each:map:success",
    "    north:branch:success",
    "      sell:task:success",
    "    south:branch:success",
    "      sell:task:success",
    "  publish:task:success",
    "    GET /x:span:success",
    "      SELECT:span:success",
    "  old:task:skipped",
  ]);
});

test("any order, any duplicates: one picture", () => {
  const expected = whole(picture(RICH).root);
  for (let seed = 0; seed < 300; seed += 1) {
    const next = random(seed);
    const doubled = [...RICH, ...RICH.filter(() => next() < 0.3)];
    const found = picture(shuffled(doubled, next));
    assert.deepEqual(whole(found.root), expected, `seed ${seed}`);
    assert.equal(found.facts.events, RICH.length, `seed ${seed}`);
    assert.equal(allEvents(found.facts).length, RICH.length);
  }
});

test("any order of any part of the events: one picture, and no more tasks than were told", () => {
  for (let seed = 0; seed < 300; seed += 1) {
    const next = random(seed + 1000);
    const some = RICH.filter(() => next() < 0.6);
    const first = whole(picture(some).root);
    assert.deepEqual(whole(picture(shuffled(some, next)).root), first, `seed ${seed}`);
    const told = new Set(some.filter((event) => /^task_[^l]/.test(event.type)).map((event) => event.step));
    assert.equal(first.counts.total, told.size, `seed ${seed}`);
  }
});

test("an end wins, and does without its start", () => {
  for (const events of [task("a", 5, 9), task("a", 5, 9).reverse(), task("a", 5, 9).slice(1)]) {
    const [node] = picture(events).root.children;
    assert.deepEqual([node.status, Math.round(node.ended - node.started)], ["success", 4]);
  }
});

test("the same span by two ways is one: the task's own event wins over the span", () => {
  const own = failed("a", 5, 9);
  const bare = span("a", "task:m.a", 5, 9, { uid: "other", attributes: { "runnable.step.name": "a" } });
  for (const events of [[own, bare], [bare, own]]) {
    const { root } = picture(events);
    assert.deepEqual(sketch(root), ["run:run:error", "  a:task:error"]);
    assert.equal(root.children[0].attempts.length, 1);
  }
});

test("a clock that was set back: the end is never before the start, and it says so", () => {
  const [node] = picture([started("a", 500), ended("a", 500, 200)]).root.children;
  assert.equal(node.ended, node.started);
  assert.equal(node.attempts[0].skewed, true);
});

test("parents in a circle, absent parents, a parent that is itself", () => {
  const { root } = picture([
    span("a", "a", 0, 9, { parent_span_id: "b" }),
    span("b", "b", 1, 8, { parent_span_id: "a" }),
    span("c", "c", 2, 7, { parent_span_id: "c" }),
    span("d", "d", 3, 6, { parent_span_id: "nowhere" }),
  ]);
  const names = sketch(root).slice(1).map((line) => line.trim().split(":")[0]);
  assert.deepEqual([...names].sort(), ["a", "b", "c", "d"]);
});

test("a chain of 10,000 parents", () => {
  const chain = Array.from({ length: 10_000 }, (_, index) => span(`s${index}`, `n${index}`, index, index + 1, { parent_span_id: `s${index - 1}` }));
  const { nodes } = picture(chain.reverse());
  assert.equal(nodes.size, 10_001);
});

test("names that are long, empty, right-to-left, or no text", () => {
  const long = "x.".repeat(5000);
  const strange = [long, "", "שלום.עולם.x", "👩‍🚀.🚀.🛰", null, 7, {}, "a..b", ".", "constructor", "__proto__"];
  const { root } = picture(strange.flatMap((step, index) => task(`s${index}`, index, index + 1, { step, branch: step, name: step })));
  assert.equal(root.counts.total, strange.length);
  assert.equal(root.counts.success, strange.length);
});

test("what is no event is counted, and changes nothing", () => {
  const facts = noFacts();
  for (const value of [null, 1, "x", [], {}, { type: 5 }, { type: "task_started" }, { type: "span", uid: "" }]) addEvent(facts, value);
  assert.equal(facts.events, 0);
  assert.equal(facts.strange, 8);
});

test("unknown types are kept where they belong, each once", () => {
  const { facts } = picture([...RICH, ...RICH, { type: "from_the_future", uid: "f:1" }]);
  assert.deepEqual([facts.others.get("load").length, facts.others.get("").length], [1, 1]);
});

test("a type that an object has as a member is a type like any other", () => {
  const types = [...Object.getOwnPropertyNames(Object.prototype), "prototype", "get", "has"];
  const own = types.map((type, index) => ({ type, uid: `own:${index}`, runnable: { span_id: "load" }, time: "2026-11-24T10:00:00.020Z" }));
  const { facts, root } = picture([...RICH, ...own]);
  assert.equal(facts.others.get("load").length, types.length + 1); // RICH has one
  assert.deepEqual(sketch(root), sketch(picture(RICH).root));
});

const GRAPH = {
  nodes: [
    { id: "load", name: "load", type: "task", task_type: "shell" },
    { id: "both", name: "both", type: "parallel" },
    { id: "both.l.one", name: "one", type: "task", parent: "both", branch: "l" },
    { id: "both.r.two", name: "two", type: "task", parent: "both", branch: "both.r" },
    { id: "each", name: "each", type: "map" },
    { id: "each.*.sell", name: "sell", type: "task", parent: "each", branch: "*" },
    { id: "each.*.count", name: "count", type: "task", parent: "each" },
    { id: "success", name: "success", type: "success" },
    { id: "x", parent: "y", type: "task" },
    { id: "y", parent: "x", type: "task" },
    { id: "load", name: "twice", type: "task" },
    null,
    7,
    { name: "no id" },
  ],
  edges: [["load", "both"]],
};

test("steps of the graph wait; an item of a map stands for all until they are known", () => {
  const [first] = run("root", 0, 900, { graph: GRAPH });
  const { root } = picture([first, ...task("load", 1, 2)]);
  assert.deepEqual(sketch(root), [
    "pipe:run:running",
    "  load:task:success",
    "  both:parallel:waiting",
    "    l:branch:waiting",
    "      one:task:waiting",
    "    r:branch:waiting",
    "      two:task:waiting",
    "  each:map:waiting",
    "    each item:branch:waiting",
    "      sell:task:waiting",
    "      count:task:waiting",
  ]);
  assert.deepEqual({ ...root.counts }, { total: 3, success: 1, waiting: 2 });
});

test("each known item of a map waits for its own steps, labels with dots too", () => {
  const [first] = run("root", 0, 900, { graph: GRAPH });
  const events = [first, started("a", 5, { step: "each.v1.5.sell", branch: "each.v1.5" })];
  const each = picture(events).root.children.find((node) => node.name === "each");
  assert.deepEqual(sketch(each), ["each:map:running", "  v1.5:branch:running", "    sell:task:running", "    count:task:waiting"]);
});

test("a run that is over: what never started was not run, what never ended is said to be lost", () => {
  const events = [...run("root", 0, 900, { graph: GRAPH }), started("load", 5)];
  const { root } = picture(events, { over: true });
  assert.deepEqual({ ...root.counts }, { total: 3, lost: 1, notrun: 2 });
  assert.equal(root.status, "success", "the run says itself how it ended");
});

test("a task whose end nobody saw is lost, not a success", () => {
  const { root } = picture([...run("root", 0, 9), started("a", 1), ended("a", 1, 2, { status: "unknown" })]);
  assert.deepEqual({ ...root.counts }, { total: 1, lost: 1 });
});

test("without a graph, composites come from dotted names, and nothing else does", () => {
  const { root } = picture(task("a", 1, 2, { step: "both.l.one", branch: "both.l" }));
  assert.deepEqual(sketch(root), ["run:run:success", "  both:composite:success", "    l:branch:success", "      one:task:success"]);
});

test("a name with a dot and no branch stays one name", () => {
  assert.deepEqual(sketch(picture(task("a", 1, 2, { step: "a.b" })).root), ["run:run:success", "  a.b:task:success"]);
});

test("two runs in a trace keep their steps apart", () => {
  const events = [
    ...run("r1", 0, 50), ...run("r2", 60, 90),
    ...task("a", 1, 2, { step: "same", parent_span_id: "r1" }),
    ...task("b", 61, 62, { step: "same", parent_span_id: "r2" }),
  ];
  const { root } = picture(events);
  assert.deepEqual(sketch(root), ["run:run:success", "  pipe:run:success", "    same:task:success", "  pipe:run:success", "    same:task:success"]);
  assert.equal(root.counts.total, 2);
});

test("a run that a task started stands below that task", () => {
  const events = [...run("r1", 0, 90), ...run("r2", 10, 20, { parent_span_id: "a" }), ...task("a", 5, 25, { parent_span_id: "r1" })];
  events.find((event) => event.uid === "t:r2:end").parent_span_id = "a";
  assert.deepEqual(sketch(picture(events).root), ["run:run:success", "  pipe:run:success", "    a:task:success", "      pipe:run:success"]);
});

test("numbers of nodes stay from picture to picture", () => {
  const ids = new Map();
  const before = picture(task("b", 5, 6), { ids }).root.children[0].id;
  const after = picture([...task("a", 1, 2), ...task("b", 5, 6)], { ids }).root.children;
  assert.equal(after.find((node) => node.step === "b").id, before);
});
