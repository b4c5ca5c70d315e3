/**
 * One stream for all tabs that show the same: the tab that holds the lock reads it and tells the others. HTTP/1.1 gives
 * a browser six connections to a host; the seventh stream would stall.
 *
 * A tab that joins reads what there is by short requests, and takes the stream over when its leader goes. Events may
 * then come twice: their readers take a uid once.
 *
 * Where tabs show more different things than there are connections, those that nobody has looked at for longest let go
 * of their streams: while they are hidden they rest, else they ask every now and then.
 */
import { follow } from "./follow.js";

const ROOM = 4; // streams at once in this browser
const ASK = 2000; // milliseconds between two requests of a tab that is seen and has no stream
const PATIENCE = 2000; // milliseconds in which one that is seen waits for others to let go

/** Cuts waits short when the network or the user is back. */
export const wake = new EventTarget();
if (typeof addEventListener === "function") {
  const rouse = () => wake.dispatchEvent(new Event("wake"));
  addEventListener("online", rouse);
  globalThis.document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && rouse());
}

/**
 * Follow a stream together with the other tabs.
 *
 * Args: as `follow`, and `catchUp(position, deliver, signal)`, which delivers what there is by other means and returns
 * `{position, ended}`: where it got to, and whether nothing more will come. Returns what ends it.
 */
export function followTogether(options) {
  const stop = new AbortController();
  const { locks } = globalThis.navigator ?? {};
  if (!locks || typeof BroadcastChannel !== "function") {
    follow({ ...options, signal: stop.signal, wake });
    return () => stop.abort();
  }
  const shared = new Shared(options, locks, stop);
  shared.start();
  return () => shared.close();
}

class Shared {
  constructor(options, locks, stop) {
    this.options = options;
    this.locks = locks;
    this.stop = stop;
    this.name = `runnable-otel ${options.url}`;
    this.channel = new BroadcastChannel(this.name);
    this.room = new BroadcastChannel("runnable-otel room");
    this.position = options.position ?? "";
    this.leads = false;
    this.whole = false; // all up to `position` is here
    this.released = false;
    this.looked = performance.now(); // when somebody last looked
    this.last = ["connecting", {}];
  }

  start() {
    this.channel.onmessage = ({ data }) => this.hear(data);
    this.room.onmessage = () => this.makeRoom();
    const look = () => {
      if (!isSeen()) return;
      this.looked = performance.now();
      if (this.released) this.lead();
    };
    globalThis.document?.addEventListener("visibilitychange", look, { signal: this.stop.signal });
    globalThis.addEventListener?.("focus", look, { signal: this.stop.signal });
    this.lead(true);
  }

  close() {
    this.stop.abort();
    this.leading?.abort();
    clearTimeout(this.asking);
    this.channel.close();
    this.room.close();
  }

  /** Take the lock, or wait for it while another tab leads. */
  async lead(first = false) {
    this.released = false;
    clearTimeout(this.asking);
    const asked = first && (await this.tryLock());
    if (asked || this.stop.signal.aborted) return;
    if (first) {
      this.channel.postMessage({ hello: true });
      this.join();
    }
    await this.locks.request(this.name, { signal: this.stop.signal }, () => this.read()).catch(() => {});
  }

  tryLock() {
    return new Promise((resolve) => {
      const work = (lock) => {
        resolve(lock !== null);
        return lock === null ? undefined : this.read();
      };
      this.locks.request(this.name, { ifAvailable: true }, work).catch(() => resolve(false));
    });
  }

  /** Read what there is; returns whether nothing more will come. */
  async join() {
    try {
      const deliver = (frames) => this.options.deliver(frames);
      const { position, ended } = await this.options.catchUp(this.position, deliver, this.stop.signal);
      if (this.leads) return false;
      this.whole = true;
      this.position = position || this.position;
      if (ended) this.options.state("finished", {});
      return ended;
    } catch {
      return false; // the server can't be reached: the leader says so, and this tab reads all when it leads itself
    }
  }

  async read() {
    if (this.stop.signal.aborted) return;
    this.leads = true;
    this.whole = true;
    this.leading = new AbortController();
    this.stop.signal.addEventListener("abort", () => this.leading.abort());
    this.askForRoom();
    await follow({ ...this.options, position: this.position, deliver: (frames) => this.deliver(frames), state: (name, details) => this.say(name, details), signal: this.leading.signal, wake });
    this.leads = false;
  }

  deliver(frames) {
    this.position = frames.at(-1).id || this.position;
    this.channel.postMessage({ frames });
    this.options.deliver(frames);
  }

  say(name, details) {
    this.last = [name, details];
    this.channel.postMessage({ state: this.last });
    this.options.state(name, details);
  }

  hear(data) {
    if (data.hello) {
      if (this.leads) this.channel.postMessage({ state: this.last });
    } else if (data.frames && !this.leads) {
      if (this.whole) this.position = data.frames.at(-1).id || this.position;
      this.options.deliver(data.frames);
    } else if (data.state && !this.leads) {
      this.last = data.state;
      this.options.state(...data.state);
    }
  }

  async askForRoom() {
    if (await this.tooMany()) this.room.postMessage("please");
  }

  /** Let go of the stream, at once or when it is this tab's turn; it comes back when somebody looks. */
  makeRoom() {
    if (!this.leads) return;
    const idle = (performance.now() - this.looked) / 1000;
    setTimeout(() => this.letGo(), isSeen() ? PATIENCE / (1 + idle) : 0);
  }

  async letGo() {
    if (!this.leads || (await this.tooMany()) === false || this.stop.signal.aborted) return;
    this.leading.abort();
    this.released = true;
    if (isSeen()) this.ask();
    else this.options.state("paused", {});
  }

  async tooMany() {
    const { held = [] } = await this.locks.query();
    return held.filter((lock) => lock.name.startsWith("runnable-otel ")).length > ROOM;
  }

  /** Ask every now and then, in place of a stream. */
  async ask() {
    const began = performance.now();
    const ended = await this.join();
    if (ended || !this.released || this.stop.signal.aborted) return;
    this.options.state(isSeen() ? "asking" : "paused", { seconds: ASK / 1000 });
    this.asking = setTimeout(() => this.ask(), Math.max(0, ASK - (performance.now() - began)));
  }
}

function isSeen() {
  return globalThis.document?.visibilityState !== "hidden";
}
