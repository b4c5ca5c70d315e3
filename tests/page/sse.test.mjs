/** The reader of streams: the rules of the HTML standard, and what it does when a server fails. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { load } from "./source.mjs";

const { FrameReader, isEventStream } = await load("live/sse.js");
const { follow } = await load("live/follow.js");
const { vectors, types } = JSON.parse(readFileSync(new URL("vectors.json", import.meta.url), "utf8"));

for (const vector of vectors) {
  const bytes = new TextEncoder().encode(vector.stream.replaceAll("{repeat}", "x".repeat(2048)));
  for (const [way, size] of [["whole", bytes.length], ["byte by byte", 1], ["in pieces", 7]]) {
    test(`${vector.name}, ${way}`, () => {
      const reader = new FrameReader();
      const frames = [];
      for (let at = 0; at < bytes.length; at += size) frames.push(...reader.read(bytes.subarray(at, at + size)));
      const expected = vector.messages.map(([event, data, id]) => ({ event, data, ...(id === undefined ? {} : { id }) }));
      const got = frames.map(({ event, data, id }, index) => ({ event, data, ...("id" in (expected[index] ?? {}) ? { id } : {}) }));
      assert.deepEqual(got, expected);
      if ("id" in vector) assert.equal(reader.lastEventId, vector.id);
      if ("retry" in vector) assert.equal(reader.retry, vector.retry);
    });
  }
}

for (const { name, type, taken } of types) test(name, () => assert.equal(isEventStream(type), taken));

/** A server that answers each request by the next of `answers`; returns what was asked and the states. */
async function followed(answers, options = {}) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push({ id: request.headers["last-event-id"] ?? "", authorization: request.headers.authorization });
    (answers.shift() ?? ((_, out) => out.writeHead(204).end()))(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const frames = [];
  const states = [];
  const stop = new AbortController();
  await follow({
    url: `http://127.0.0.1:${server.address().port}/`,
    headers: () => ({ Authorization: "Bearer t" }),
    deliver: (found) => frames.push(...found.map((frame) => frame.data)),
    state: (name, details) => {
      states.push(name);
      options.state?.(name, details, stop);
    },
    signal: stop.signal,
    retry: 1,
    silence: options.silence,
  });
  server.closeAllConnections();
  server.close();
  return { asked, frames, states };
}

const stream = (text, { cut = false } = {}) => (_, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(text, () => (cut ? response.destroy() : response.end()));
};
const status = (code, headers = {}) => (_, response) => response.writeHead(code, headers).end();

test("a stream that is cut is resumed after the last whole frame, with the token", async () => {
  const { asked, frames, states } = await followed([
    stream("retry: 1\nid: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n", { cut: true }),
    stream("id: 3\ndata: c\n\nevent: end\ndata: {}\n\n"),
  ]);
  assert.deepEqual(frames, ["a", "b", "c", "{}"]);
  assert.deepEqual(asked, [{ id: "", authorization: "Bearer t" }, { id: "2", authorization: "Bearer t" }]);
  assert.deepEqual(states, ["connecting", "live", "reconnecting", "live", "finished"]);
});

test("503 and 500 are waited out, 204 is the end", async () => {
  const { asked, states } = await followed([status(503, { "Retry-After": "0" }), status(500), status(204)]);
  assert.equal(asked.length, 3);
  assert.deepEqual(states, ["connecting", "reconnecting", "reconnecting", "finished"]);
});

test("Retry-After is the wait", async () => {
  const waits = [];
  await followed([status(503, { "Retry-After": "0" })], { state: (name, details) => name === "reconnecting" && waits.push(details.wait) });
  assert.deepEqual(waits, [0]);
});

test("a lost token ends it", async () => {
  const { asked, states } = await followed([status(401)]);
  assert.equal(asked.length, 1);
  assert.deepEqual(states, ["connecting", "unauthorised"]);
});

test("a run that is not there yet is asked for again", async () => {
  const { states } = await followed([status(404), stream("event: end\ndata: {}\n\n")]);
  assert.deepEqual(states, ["connecting", "missing", "live", "finished"]);
});

test("an answer that is no event stream is none", async () => {
  const { frames, states } = await followed([(_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("data: x\n\n")]);
  assert.deepEqual(frames, []);
  assert.deepEqual(states, ["connecting", "reconnecting", "finished"]);
});

test("a server that falls silent is left", async () => {
  const { states } = await followed([(_, response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).write("data: a\n\n")], { silence: 50 });
  assert.deepEqual(states, ["connecting", "live", "reconnecting", "finished"]);
});

test("waits grow up to a limit while nothing answers", async () => {
  const waits = [];
  const refusing = Array.from({ length: 6 }, () => status(500));
  await followed(refusing, { state: (name, details) => name === "reconnecting" && waits.push(details.wait) });
  assert.equal(waits[0], 1);
  for (const [index, wait] of waits.entries()) assert.ok(wait <= 2 ** index && wait >= 0.75 * 2 ** index, String(waits));
});
