/** One run as it is followed: facts, tree, connection. Views listen to its `change` events. */
import { addEvent, describe, noFacts } from "../core/facts.js";
import { isSilent, knownUntil, latest } from "../core/connection.js";
import { parse, stringify } from "../core/json.js";
import { instant } from "../core/time.js";
import { Tree } from "../core/tree.js";
import { address, getJson, headers, health } from "./api.js";
import { followTogether } from "./tabs.js";

const LOOK = 10_000; // milliseconds between looks at the summary and the store
const CALM = 60; // between two pictures, at least
const PAUSE = 250; // between looks whether what was there at the start has come
const PATIENCE = 10_000; // with what was there at the start

/**
 * `connection` is `{name, until?, reason?}` with the names of `follow`; `gaps` are `{reason, lost}`; `store` is the
 * reason why the store takes nothing, or ""; `offset` is what the server's clock is behind this one, in milliseconds.
 */
export class RunModel extends EventTarget {
  constructor(run) {
    super();
    this.run = run;
    this.facts = noFacts();
    this.tree = new Tree(this.facts);
    this.summary = null;
    this.connection = { name: "connecting" };
    this.gaps = [];
    this.store = "";
    this.over = false;
    this.offset = 0;
    this.lost = NaN; // when the connection went, by the server's clock
    this.heard = NaN; // when something came that was new, whatever its own clock says
    this.loaded = false; // what there was at the start is all in the picture
    this._settled = false;
    this._settle = null;
    this._due = NaN; // how many events there were at the start
    this._again = 0; // how many there were when what had been over went on
    this.picture = this.tree.draw();
    this._began = performance.now();
    this._cost = 0;
    this._drawn = 0;
    this._timer = null;
  }

  start() {
    this.follow();
    this._look = setInterval(() => document.visibilityState === "visible" && this.look(), LOOK);
    this.look();
  }

  follow() {
    const path = `runs/${encodeURIComponent(this.run)}/events`;
    this._leave = followTogether({
      url: address(path),
      headers: () => headers("text/event-stream"),
      deliver: (frames) => this.take(frames),
      state: (name, details) => this.connected(name, details),
      catchUp: (position, deliver, signal) => catchUp(path, position, deliver, signal),
    });
  }

  close() {
    this._leave?.();
    clearInterval(this._look);
    clearTimeout(this._timer);
    clearTimeout(this._settle);
  }

  /** Now, by the server's clock. */
  now() {
    return Date.now() - this.offset;
  }

  take(frames) {
    for (const { event, data } of frames) {
      let value;
      try {
        value = parse(data);
      } catch {
        this.facts.strange += 1;
        continue;
      }
      if (event === "message") addEvent(this.facts, value);
      else if (event === "gap") this.gaps = [...this.gaps, { reason: String(value?.reason ?? ""), lost: value?.lost ?? null }];
      else if (event === "end") this.over = true;
    }
    if (this._settled) this.heard = this.now();
    else this.settle();
    this.draw();
  }

  // Whether what was there at the start is here: as much as the first summary says, or that much is not to be had.
  settle() {
    const all = this.facts.events >= this._due;
    if (this.over || all || performance.now() - this._began > PATIENCE) {
      this._settled = true;
      this.draw(true);
    } else {
      this._settle ??= setTimeout(() => {
        this._settle = null;
        this.settle();
      }, PAUSE);
    }
  }

  connected(name, details) {
    if (name === "live" && Number.isFinite(details.serverTime)) {
      const offset = Date.now() - details.serverTime - 500; // the header has whole seconds
      this.offset = Math.abs(offset) > 2000 ? offset : 0;
    }
    if (name === "finished") this.over = true;
    if (this.connection.name === "live" && name !== "live") this.lost = this.now();
    if (name === "live" && !this._settled) this.settle();
    const until = details.wait ? Date.now() + details.wait : NaN;
    this.connection = { name, until, reason: details.reason ?? "", seconds: details.seconds ?? 0 };
    if (name === "live") this.look();
    this.draw(true);
  }

  /** Draw soon: at once after a quiet time, less often where drawing is dear. */
  draw(now = false) {
    if (this._timer !== null && !now) return;
    clearTimeout(this._timer);
    const wait = now ? 0 : Math.max(0, this._drawn + Math.max(CALM, 4 * this._cost) - performance.now());
    this._timer = setTimeout(() => this.redraw(), wait);
  }

  redraw() {
    this._timer = null;
    const from = performance.now();
    this.picture = this.tree.draw({ over: this.over, name: this.summary?.name ?? "" });
    this.loaded = this._settled;
    this.dispatchEvent(new Event("change"));
    this._drawn = performance.now();
    this._cost = this._drawn - from;
  }

  /** Ask for what no event tells: signs of life, and whether the store takes events. */
  async look() {
    const [summary, store] = await Promise.all([getJson(`runs/${encodeURIComponent(this.run)}`).catch(() => null), health()]);
    if (this.summary && summary && this.summary.last_seen !== summary.last_seen) this.heard = this.now();
    if (summary) this.summary = summary;
    if (summary && Number.isNaN(this._due)) {
      this._due = summary.events ?? 0;
      if (!this._settled) this.settle();
    }
    if (this.over && summary?.events > Math.max(this.facts.events, this._due, this._again)) this.goOn(summary.events);
    if (store) this.store = store.ok ? "" : store.reason || "The store takes no events.";
    this.dispatchEvent(new Event("change"));
  }

  /** More has come to what was over: a further run of its trace, or what was late. Each event counts once. */
  goOn(events) {
    this._again = events;
    this._leave();
    this.over = false;
    this.follow();
  }

  /** The last sign of life, by the server's clock; NaN where there was none. */
  lastSeen() {
    return latest(instant(this.summary?.last_seen), this.facts.latest, this.heard);
  }

  /** `running`, `success`, `error`, `cancelled`, … or `waiting` where nothing is known. */
  status() {
    const { root } = this.picture;
    if (root.attempts.length || root.children.length) return root.status;
    return this.summary?.status ?? "waiting";
  }

  get _pulse() {
    return { connection: this.connection, running: this.status() === "running", lastSeen: this.lastSeen(), now: this.now() };
  }

  /** Whether the server is heard of, and the run is not, though it is not over. */
  silent() {
    return this.connection.name === "live" && isSilent(this._pulse);
  }

  /** Until when what is shown is known, by the server's clock. */
  known() {
    const known = knownUntil({ ...this._pulse, lost: this.lost });
    return Number.isNaN(known) ? this.now() : known;
  }

  span(id) {
    const span = this.facts.spans.get(id);
    return span ? describe(span) : null;
  }
}

async function catchUp(path, position, deliver, signal) {
  let at = position;
  for (;;) {
    const page = await getJson(path, { position: at }, signal);
    const frames = page.events.map((event) => ({ event: "message", data: stringify(event), id: "" }));
    if (page.gap) frames.unshift({ event: "gap", data: JSON.stringify(page.gap), id: "" });
    if (page.ended) frames.push({ event: "end", data: "{}", id: "" });
    if (frames.length) deliver(frames);
    if (page.ended || page.position === at || !page.events.length) return { position: page.position, ended: page.ended };
    at = page.position;
  }
}
