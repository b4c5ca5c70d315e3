/** How the server is asked: what it answers, exactly. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./source.mjs";

globalThis.localStorage = { getItem: () => "secret" };
const { getJson, Refused } = await load("live/api.js");

function answering(body, init) {
  globalThis.fetch = async () => new Response(body, init);
}

const exact = JSON.rawJSON ? {} : { skip: "this JavaScript can't read an integer's text" };

test("an integer beyond 2**53 loses no digit", exact, async () => {
  answering('{"events":[{"outputs":{"id":9007199254740993,"half":0.5}}],"position":7}');
  const page = await getJson("runs/r/events", {});
  assert.equal(page.position, 7);
  assert.deepEqual(page.events, [{ outputs: { id: 9007199254740993n, half: 0.5 } }]);
});

test("what is refused says why, whether its body is JSON or not", async () => {
  answering('{"error":"no such run"}', { status: 404 });
  await assert.rejects(getJson("runs/r", {}), (error) => error instanceof Refused && error.status === 404 && error.message === "no such run");
  answering("<html>", { status: 502 });
  await assert.rejects(getJson("runs/r", {}), (error) => error instanceof Refused && error.status === 502);
});
