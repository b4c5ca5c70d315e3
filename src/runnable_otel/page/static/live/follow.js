/**
 * A stream that is followed: asks again after every fault, from where it was. An `EventSource` would end for good on a
 * 503, and can't carry a token.
 */
import { FrameReader, isEventStream } from "./sse.js";

const LONGEST_WAIT = 30_000;
const SILENCE = 45_000; // three heartbeats
const WORK = 10; // milliseconds at a time, then the page may paint

/**
 * Follow a stream until it ends, the token is lost, or `signal` aborts.
 *
 * Args:
 *   url, headers: of the request; `headers()` is asked each time.
 *   position: the last event id to resume at; "" for all there is.
 *   deliver(frames): `{event, data, id}` each, in order.
 *   state(name, details): `connecting`, `live`, `reconnecting` {wait, reason}, `missing`, `finished`, `unauthorised`.
 *   wake: an EventTarget whose event `wake` cuts a wait short.
 */
export async function follow(options) {
  const { url, headers, deliver, state, signal, wake } = options;
  const fetching = options.fetch ?? globalThis.fetch.bind(globalThis);
  const silence = options.silence ?? SILENCE;
  let position = options.position ?? "";
  let retry = options.retry ?? 2000;
  let failures = 0;
  state("connecting", {});
  while (!signal.aborted) {
    const round = { position, retry, lived: false };
    const outcome = await once({ url, headers, deliver, state, signal, fetching, silence, round });
    position = round.position;
    retry = round.retry;
    if (signal.aborted) return;
    if (outcome.end) {
      state(outcome.end, outcome);
      return;
    }
    failures = round.lived ? 1 : failures + 1;
    const backoff = Math.min(LONGEST_WAIT, retry * 2 ** Math.min(failures - 1, 10));
    const wait = outcome.retryAfter ?? backoff * (failures > 1 ? 0.75 + Math.random() / 4 : 1);
    state(outcome.missing ? "missing" : "reconnecting", { wait, reason: outcome.reason });
    await pause(wait, signal, wake);
  }
}

// One request. Says how it ended: {end} for good, else {reason, retryAfter?, missing?}.
async function once({ url, headers, deliver, state, signal, fetching, silence, round }) {
  const stop = new AbortController();
  const abort = () => stop.abort();
  signal.addEventListener("abort", abort);
  let timer = setTimeout(abort, silence);
  try {
    const asked = { ...headers() };
    if (round.position) asked["Last-Event-ID"] = round.position;
    const response = await fetching(url, { headers: asked, cache: "no-store", signal: stop.signal });
    const refusal = judge(response);
    if (refusal) {
      await response.body?.cancel().catch(() => {});
      return refusal;
    }
    state("live", { serverTime: Date.parse(response.headers.get("date") ?? "") });
    round.lived = true;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(abort, silence);
    };
    return await readAll(response.body.getReader(), deliver, round, alive);
  } catch {
    return { reason: "The connection was lost." };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    stop.abort();
  }
}

function judge(response) {
  const { status } = response;
  if (status === 204) return { end: "finished" };
  if (status === 401 || status === 403) return { end: "unauthorised", status };
  if (status === 404) return { reason: "The server does not know it.", missing: true };
  if (status === 200 && isEventStream(response.headers.get("content-type"))) return null;
  const seconds = Number(response.headers.get("retry-after") || NaN);
  const retryAfter = seconds >= 0 ? Math.min(seconds * 1000, 2 * LONGEST_WAIT) : undefined;
  const reason = status === 503 ? "The server is not available." : `The server answered ${status}.`;
  return { reason, retryAfter };
}

async function readAll(reader, deliver, round, alive) {
  const frames = new FrameReader(round.position);
  let worked = performance.now();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { reason: "The connection was closed." };
    alive();
    const found = frames.read(value);
    if (frames.retry !== null) round.retry = Math.min(Math.max(frames.retry, 100), LONGEST_WAIT);
    if (found.length) deliver(found);
    round.position = frames.lastEventId;
    if (found.some((frame) => frame.event === "end")) return { end: "finished" };
    if (performance.now() - worked > WORK) {
      await breathe();
      worked = performance.now();
    }
  }
}

/** Let others have the main thread: a message is not held back in a hidden tab, as a timer is. */
export function breathe() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(0);
  });
}

function pause(milliseconds, signal, wake) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      wake?.removeEventListener("wake", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    wake?.addEventListener("wake", done);
  });
}
