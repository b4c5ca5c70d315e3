/** Tree → rows and bars, and what is made of a run for people and other programs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ZERO, ended, failed, random, run, started, task } from "./events.mjs";
import { load } from "./source.mjs";

const { addEvent, noFacts } = await load("core/facts.js");
const { drawTree } = await load("core/tree.js");
const { bars, extent, failures, makeRows, moved, progress, scrollTo, ticks, visibleRange, zoomed } = await load("core/layout.js");
const { asChromeTrace, asJson, fileName } = await load("core/export.js");
const { parse, stringify } = await load("core/json.js");
const { clean, line, link, short } = await load("core/text.js");
const { axisEnd, duration, instant } = await load("core/time.js");
const { isSilent, knownUntil, say, sayGaps } = await load("core/connection.js");

function facts(events) {
  const found = noFacts();
  for (const event of events) addEvent(found, event);
  return found;
}

const EVENTS = [
  ...run("root", 0, 900),
  ...task("load", 10, 40, { task_type: "shell" }),
  ...task("a1", 50, 90, { step: "each.north.sell", branch: "each.north" }),
  failed("a2", 50, 95, "OSError: disk", { step: "each.south.sell", branch: "each.south" }),
  failed("z", 400, 500, "ValueError: late"),
];
const root = drawTree(facts(EVENTS)).root;
const all = { isOpen: () => true };
const names = ({ rows }) => rows.map((row) => row.node.name);

test("closed nodes hide what is below them", () => {
  assert.deepEqual(names(makeRows(root, all)), ["pipe", "load", "each", "north", "sell", "south", "sell", "z"]);
  assert.deepEqual(names(makeRows(root, { isOpen: (node) => node.name !== "each" })), ["pipe", "load", "each", "z"]);
});

test("a filter finds names, types and errors, opens what is closed, and counts matches alone", () => {
  const closed = { isOpen: () => false };
  const found = makeRows(root, { ...closed, text: "SELL" });
  assert.deepEqual([names(found), found.matches], [["pipe", "each", "north", "sell", "south", "sell"], 2]);
  assert.equal(makeRows(root, { ...closed, text: "disk" }).matches, 1);
  assert.equal(makeRows(root, { ...closed, text: "shell" }).matches, 1);
  assert.deepEqual(names(makeRows(root, { ...closed, status: "error" })), ["pipe", "each", "south", "sell", "z"]);
  assert.deepEqual(makeRows(root, { ...closed, text: "nothing" }), { rows: [], matches: 0 });
});

test("errors first, and the way from one to the next", () => {
  assert.deepEqual(names(makeRows(root, { ...all, errorsFirst: true })), ["pipe", "each", "south", "sell", "north", "sell", "z", "load"]);
  assert.deepEqual(failures(root).map((node) => node.step), ["each.south.sell", "z"]);
});

test("only the rows that are seen are drawn", () => {
  assert.deepEqual(visibleRange(10_000, 30, 3000, 600, 5), [95, 125]);
  assert.deepEqual(visibleRange(3, 30, 0, 600), [0, 3]);
  assert.deepEqual(visibleRange(0, 30, 90, 600), [0, 0]);
  assert.equal(scrollTo(5, 30, 0, 600), 0);
  assert.equal(scrollTo(20, 30, 0, 600), 20 * 30 + 60 - 600);
  assert.equal(scrollTo(19, 30, 600, 600), 18 * 30);
  assert.equal(scrollTo(100, 30, 0, 600), 100 * 30 - 240);
  assert.equal(scrollTo(2, 30, 600, 600), 0);
});

test("bars lie on the axis; attempts that overlap get lanes of their own", () => {
  const axis = { from: ZERO, to: ZERO + 1000 };
  for (let seed = 0; seed < 200; seed += 1) {
    const next = random(seed);
    const tries = Array.from({ length: 1 + Math.floor(next() * 4) }, (_, index) => {
      const from = next() * 800;
      return ended(`s${index}`, from, from + next() * 200, { step: "a", attempt: index + 1 });
    });
    const found = bars(drawTree(facts(tries)).root.children[0], axis, NaN);
    assert.equal(found.length, tries.length);
    for (const bar of found) {
      assert.ok(bar.left >= 0 && bar.left + bar.width <= 1.0001 && bar.lane < bar.lanes);
      for (const other of found) {
        const apart = bar.left + bar.width <= other.left + 1e-6 || other.left + other.width <= bar.left + 1e-6;
        assert.ok(bar === other || bar.lane !== other.lane || apart, `seed ${seed}`);
      }
    }
  }
});

test("a bar grows while its task runs, never to the left of its start", () => {
  const axis = { from: ZERO, to: ZERO + 1000 };
  const [node] = drawTree(facts([started("a", 100)])).root.children;
  assert.ok(Math.abs(bars(node, axis, ZERO + 600)[0].width - 0.5) < 1e-9);
  assert.equal(bars(node, axis, ZERO - 5000)[0].width, 0);
  assert.deepEqual(extent(drawTree(facts([started("a", 100)])).root, ZERO + 600), { from: ZERO + 100, to: ZERO + 600 });
});

test("a bar is sure as far as something is known", () => {
  const axis = { from: ZERO, to: ZERO + 1000 };
  const [node] = drawTree(facts([started("a", 100)])).root.children;
  const sure = (known) => bars(node, axis, ZERO + 600, known)[0].sure;
  assert.deepEqual([ZERO + 600, ZERO + 900, ZERO + 350, ZERO + 50].map(sure), [1, 1, 0.5, 0]);
  const [done] = drawTree(facts(task("a", 100, 200))).root.children;
  assert.equal(bars(done, axis, ZERO + 600, ZERO)[0].sure, 1);
});

test("a zoom stays within the whole, around what is chosen", () => {
  const whole = { from: 0, to: 1000 };
  assert.deepEqual(zoomed(whole, whole, 0.5, { started: 900 }), { from: 500, to: 1000 });
  assert.deepEqual(zoomed(whole, whole, 0.5, { started: 100 }), { from: 0, to: 500 });
  assert.deepEqual(zoomed(whole, whole, 0.5, null), { from: 350, to: 850 });
  assert.equal(zoomed({ from: 0, to: 500 }, whole, 2, null), null);
  assert.deepEqual(moved({ from: 100, to: 200 }, whole, 0.25), { from: 125, to: 225 });
  assert.deepEqual(moved({ from: 100, to: 200 }, whole, -5), { from: 0, to: 100 });
  assert.deepEqual(moved({ from: 100, to: 200 }, whole, 50), { from: 900, to: 1000 });
});

test("an axis has marks that read well; a growing one moves in steps", () => {
  const marks = ticks({ from: ZERO, to: ZERO + 130_000 }, ZERO, 6);
  assert.deepEqual(marks.map((mark) => mark.offset), [0, 30_000, 60_000, 90_000, 120_000]);
  const ends = new Set(Array.from({ length: 600 }, (_, second) => axisEnd(60_000 + second * 100)));
  assert.ok(ends.size < 15, `${ends.size} ends in a minute`);
  for (const elapsed of [0, 1, 999, 12_345, 9e6, 3e9]) assert.ok(axisEnd(elapsed) > elapsed);
});

test("counts as parts", () => {
  assert.deepEqual(progress({ total: 4, success: 1, error: 1, waiting: 2 }).map((part) => [part.status, part.share]), [["success", 0.25], ["error", 0.25], ["waiting", 0.5]]);
  assert.deepEqual(progress({ total: 0 }), []);
});

test("instants keep microseconds; what is no instant is NaN", () => {
  assert.equal(instant("2026-11-24T10:00:00.000001Z") - ZERO > 0, true);
  assert.equal(instant("2026-11-24T11:00:00+01:00"), ZERO);
  for (const bad of ["", "yesterday", null, 5, "2026-11-24", "2026-99-24T10:00:00Z"]) assert.ok(Number.isNaN(instant(bad)), String(bad));
});

test("durations", () => {
  const shown = [0, 0.04, 5.24, 812, 2400, 9960, 65_000, 12_000_000, 363_600_000, -5, NaN].map(duration);
  assert.deepEqual(shown, ["0 ms", "0 ms", "5.2 ms", "812 ms", "2.4 s", "10 s", "1 m 05 s", "3 h 20 m", "4 d 05 h", "0 ms", ""]);
});

test("texts lose terminal sequences, controls and what turns the direction; emoji stay whole", () => {
  assert.equal(clean("\u001b[31mred\u001b[0m \u001b]0;title\u0007x\u0000\u202ey\u200bz"), "red xyz");
  assert.equal(clean("a\r\nb\tc"), "a\nb\tc");
  assert.equal(clean("👩‍🚀 שלום"), "👩‍🚀 שלום");
  assert.equal(clean("<img src=x onerror=alert(1)>"), "<img src=x onerror=alert(1)>");
  assert.equal(line("a\n\n b", 10), "a b");
  assert.equal(line("x".repeat(10_000)).length, 300);
  assert.equal(short("ab🚀cd", 4), "ab…");
  assert.equal(clean(undefined) + clean(null) + clean(5), "5");
});

test("only http and https become links", () => {
  assert.equal(link("https://example.com/a?b=c"), "https://example.com/a?b=c");
  for (const bad of ["javascript:alert(1)", " https://x", "https://x y", "data:text/html,x", "ftp://x", "//x", "https:\\\\x", 5, null]) assert.equal(link(bad), "", String(bad));
});

test("no integer loses a digit", () => {
  const text = '{"a":1180591620717411303424,"b":12,"c":"1180591620717411303424","d":1.5}';
  assert.equal(typeof parse(text).b, "number");
  if (JSON.rawJSON) {
    assert.equal(parse(text).a, 1180591620717411303424n);
    assert.equal(stringify(parse(text)), text);
  }
});

test("an export holds every event once, in order", () => {
  const { events } = JSON.parse(asJson(facts([...EVENTS].reverse()), { run_id: "r" }));
  assert.equal(events.length, EVENTS.length);
  const times = events.map((event) => event.time);
  assert.deepEqual(times, [...times].sort());
  assert.equal(fileName({ name: "a/b \u202e", run_id: "../x" }, "json"), "a-b-_..-x.json");
});

test("in a Chrome trace the spans of a track lie inside each other", () => {
  for (let seed = 0; seed < 100; seed += 1) {
    const next = random(seed);
    const events = Array.from({ length: 30 }, (_, index) => {
      const from = next() * 1000;
      return ended(`s${index}`, from, from + next() * 300, { host: next() < 0.5 ? "a" : "b" });
    });
    const { traceEvents } = JSON.parse(asChromeTrace(facts(events)));
    const complete = traceEvents.filter((event) => event.ph === "X");
    assert.equal(complete.length, events.length);
    for (const one of complete) {
      for (const two of complete) {
        if (one === two || one.pid !== two.pid || one.tid !== two.tid || one.ts > two.ts) continue;
        const apart = one.ts + one.dur <= two.ts;
        const inside = two.ts + two.dur <= one.ts + one.dur || (one.ts === two.ts && one.dur <= two.dur);
        assert.ok(apart || inside, `seed ${seed}`);
      }
    }
  }
});

test("a Chrome trace has what the format asks for", () => {
  const { traceEvents, ...rest } = JSON.parse(asChromeTrace(facts([...EVENTS, started("open", 500, { host: "h", pid: 7 })])));
  assert.deepEqual(rest, { displayTimeUnit: "ms" });
  const names = new Map(traceEvents.filter((event) => event.ph === "M").map((event) => [event.pid, event.args.name]));
  for (const event of traceEvents) {
    assert.equal(typeof event.name, "string");
    assert.ok(Number.isInteger(event.pid) && names.has(event.pid));
    if (event.ph === "M") {
      assert.equal(event.name, "process_name");
      continue;
    }
    assert.ok(Number.isInteger(event.tid) && Number.isInteger(event.ts) && event.ts >= 0);
    assert.equal(typeof event.cat, "string");
    if (event.ph === "X") assert.ok(Number.isInteger(event.dur) && event.dur >= 0);
    else assert.deepEqual([event.ph, event.dur, event.name, names.get(event.pid)], ["B", undefined, "open", "h 7"], "what has no end only begins");
  }
  assert.equal(traceEvents.filter((event) => event.ph !== "M").length, new Set(EVENTS.map((event) => event.span_id)).size + 1);
});

test("the bar at the foot says what is known", () => {
  const said = (name, more = {}) => say({ connection: { name, until: 5000, reason: "" }, wall: 1000, now: 100_000, ...more });
  assert.equal(said("connecting").text, "Connecting…");
  assert.deepEqual(said("reconnecting"), { tone: "warn", text: "Reconnecting", detail: "next try in 4 s" });
  assert.deepEqual(said("missing"), { tone: "warn", text: "The server does not know this run (yet)", detail: "next try in 4 s" });
  assert.equal(said("live", { running: true, lastSeen: 95_000 }).text, "Live");
  assert.match(said("live", { running: true, lastSeen: 40_000 }).text, /^No sign of life since \d\d:\d\d:\d\d$/);
  assert.equal(said("live", { running: false, lastSeen: 0 }).text, "Live");
  assert.equal(said("finished").text, "Finished");
  assert.deepEqual([sayGaps([]), sayGaps([{ lost: 3 }, { lost: 1 }]), sayGaps([{ lost: 3 }, { lost: null }])], ["", "Gap: 4 events are lost", "Gap: events may be lost"]);
});

test("what is shown is known until now, the last sign of life, or the loss of the connection", () => {
  const known = (name, more = {}) => knownUntil({ connection: { name }, lost: 70_000, now: 100_000, lastSeen: 95_000, running: true, ...more });
  assert.equal(known("live"), 100_000);
  assert.equal(known("live", { lastSeen: 40_000 }), 40_000);
  assert.equal(known("live", { lastSeen: 40_000, running: false }), 100_000);
  assert.equal(known("reconnecting"), 70_000);
  assert.equal(known("asking"), 100_000);
  assert.ok(Number.isNaN(known("connecting", { lost: NaN })));
  assert.equal(isSilent({ running: true, now: 100_000, lastSeen: NaN }), false);
});
