/** The list of runs: what is shown of what there is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ZERO } from "./events.mjs";
import { load } from "./source.mjs";

globalThis.localStorage = { getItem: () => null };
const { RunsModel } = await load("live/runs_model.js");
const { summaryCounts } = await load("core/outcome.js");

const summary = (number, more = {}) => ({
  type: "run", trace_id: `t${number}`, run_id: `run-${number}`, name: "n", status: "success", events: 1,
  started: new Date(ZERO + number * 1000).toISOString(), ...more,
});

test("the newest start is first, and a summary that is older than what is known changes nothing", () => {
  const model = new RunsModel();
  model.keep(summary(1));
  model.keep(summary(2, { events: 9 }));
  model.keep(summary(2, { events: 4, name: "old" }));
  model.keep({ trace_id: 7 });
  model.keep(null);
  assert.deepEqual(model.list().map((run) => [run.trace_id, run.name]), [["t2", "n"], ["t1", "n"]]);
});

test("a run whose host's clock is behind is alive while something changes", () => {
  const model = new RunsModel();
  model.keep(summary(1, { status: "running", last_seen: "2026-11-24T10:00:00Z" }));
  assert.ok(Number.isNaN(model.list()[0].heard));
  model.keep(summary(1, { status: "running", last_seen: "2026-11-24T10:00:01Z", events: 2 }));
  assert.ok(Math.abs(model.list()[0].heard - Date.now()) < 60_000);
});

test("a query fits names, run ids and trace ids, and statuses", () => {
  const model = new RunsModel();
  for (let number = 0; number < 12; number += 1) model.keep(summary(number, { status: number % 3 ? "success" : "error" }));
  model.query = { text: "RUN-1", status: "" };
  assert.deepEqual(model.list().map((run) => run.trace_id), ["t11", "t10", "t1"]);
  model.query = { text: "", status: "error" };
  assert.deepEqual(model.list().map((run) => run.trace_id), ["t9", "t6", "t3", "t0"]);
});

test("a page that stays open for weeks does not grow, and what the query asks for is forgotten last", () => {
  const model = new RunsModel();
  model.query = { text: "", status: "error" };
  model.keep(summary(0, { status: "error" }));
  for (let number = 1; number < 5000; number += 1) model.keep(summary(number));
  assert.ok(model.runs.size <= 700, String(model.runs.size));
  assert.deepEqual(model.list().map((run) => run.trace_id), ["t0"]);
  model.query = { text: "", status: "" };
  assert.equal(model.list()[0].trace_id, "t4999");
  assert.equal(model.list().length, 200);
  assert.ok(model.hasOlder());
});

test("counts of a summary: what failed in a run that succeeded has been recovered from", () => {
  const tasks = { started: 25, running: 0, completed: 24, failed: 1, skipped: 0 };
  const { success, error, recovered, total } = summaryCounts({ status: "success", tasks });
  assert.deepEqual([success, error, recovered, total], [24, undefined, 1, 24]);
  const failed = summaryCounts({ status: "error", tasks: { ...tasks, running: 1, started: 26 } });
  assert.deepEqual([failed.error, failed.lost, failed.running, failed.total], [1, 1, undefined, 26]);
  const lost = summaryCounts({ status: "error", tasks: { ...tasks, lost: 1, started: 26 } });
  assert.deepEqual([lost.error, lost.lost, lost.running, lost.total], [1, 1, undefined, 26]);
  const again = summaryCounts({ status: "running", tasks: { started: 17, retried: 1, running: 5, completed: 11, failed: 1 } });
  assert.deepEqual([again.error, again.success, again.running, again.total], [0, 11, 5, 16]);
  const fine = summaryCounts({ status: "success", tasks: { started: 25, retried: 1, completed: 24, failed: 1 } });
  assert.deepEqual([fine.recovered, fine.success, fine.total], [0, 24, 24]);
  assert.equal(summaryCounts({ status: "running" }).total, 0);
});
