/** The list of runs as it is followed: pages of summaries by request, their changes by a stream. */
import { address, getJson, headers, health } from "./api.js";
import { Progresses } from "./progress.js";
import { followTogether } from "./tabs.js";

const CALM = 100; // milliseconds between two pictures, at least
const PAGE = 100; // runs
const SPARE = 500; // runs beyond those that are shown, before the oldest are forgotten

export class RunsModel extends EventTarget {
  constructor() {
    super();
    this.runs = new Map(); // trace id → summary
    this.next = null; // where older ones go on, on the server
    this.most = 2 * PAGE; // that are shown
    this.query = { text: "", status: "" };
    this.connection = { name: "connecting" };
    this.store = "";
    this.offset = 0;
    this.loaded = false;
    this.progresses = new Progresses(() => this.changed());
    this._asked = 0;
  }

  start() {
    this._leave = followTogether({
      url: address("events"),
      position: "now", // what is there comes by request
      headers: () => headers("text/event-stream"),
      deliver: (frames) => this.take(frames),
      state: (name, details) => this.connected(name, details),
      catchUp: async () => {
        await this.load();
        return { position: "", ended: false };
      },
    });
    this._look = setInterval(() => document.visibilityState === "visible" && this.look(), 10_000);
    this._count = setInterval(() => this.count(), 500);
    this.look();
  }

  close() {
    this._leave?.();
    this.progresses.close();
    clearInterval(this._count);
    clearInterval(this._look);
    clearTimeout(this._timer);
  }

  now() {
    return Date.now() - this.offset;
  }

  take(frames) {
    let lost = false;
    for (const { event, data } of frames) {
      if (event === "gap") lost = true;
      if (event !== "message") continue;
      try {
        this.keep(JSON.parse(data));
      } catch {
        // one bad summary must not hide the others
      }
    }
    if (lost) this.load();
    this.changed();
  }

  keep(summary) {
    if (typeof summary?.trace_id !== "string") return;
    const known = this.runs.get(summary.trace_id);
    if (known && newer(known, summary)) return;
    // A clock that is behind must not make a run look dead: what changes is alive.
    const heard = known && known.last_seen !== summary.last_seen ? this.now() : known?.heard;
    this.runs.set(summary.trace_id, { ...summary, heard: heard ?? NaN });
    if (this.runs.size > this.most + SPARE) this.forget();
  }

  /** Forget the oldest, those first that do not fit the query. */
  forget() {
    const fitting = new Set(this.fitting());
    const order = [...this.runs.values()].sort((a, b) => fitting.has(b) - fitting.has(a) || newestFirst(a, b));
    this.runs = new Map(order.slice(0, this.most).map((each) => [each.trace_id, each]));
  }

  connected(name, details) {
    if (name === "live" && Number.isFinite(details.serverTime)) {
      const offset = Date.now() - details.serverTime - 500;
      this.offset = Math.abs(offset) > 2000 ? offset : 0;
    }
    const until = details.wait ? Date.now() + details.wait : NaN;
    this.connection = { name, until, reason: details.reason ?? "", seconds: details.seconds ?? 0 };
    if (name === "live") this.load();
    this.changed();
  }

  async ask(query) {
    this.query = query;
    await this.load();
  }

  async load(before = "") {
    const asked = (this._asked += 1);
    const { text, status } = this.query;
    try {
      const page = await getJson("runs", { limit: PAGE, before, text, status });
      if (asked !== this._asked) return;
      for (const summary of page.runs) this.keep(summary);
      this.next = page.next;
      this.loaded = true;
      this.refused = "";
    } catch (error) {
      if (asked !== this._asked) return;
      this.refused = error.message;
      if (error.status === 401) this.connection = { name: "unauthorised" };
    }
    this.changed();
  }

  /** Show older ones, too. */
  async older() {
    this.most += PAGE;
    if (this.next) await this.load(this.next);
    this.changed();
  }

  /** Whether there are more than are shown. */
  hasOlder() {
    return this.next !== null || this.fitting().length > this.most;
  }

  async look() {
    const store = await health();
    if (store) this.store = store.ok ? "" : store.reason || "The store takes no events.";
    this.changed();
  }

  count() {
    if (document.visibilityState === "visible") this.progresses.follow(this.list());
  }

  changed() {
    this._timer ??= setTimeout(() => {
      this._timer = null;
      this.count();
      this.dispatchEvent(new Event("change"));
    }, CALM);
  }

  /** The summaries that are shown: those that fit the query, the newest start first. */
  list() {
    return this.fitting().sort(newestFirst).slice(0, this.most);
  }

  fitting() {
    const text = this.query.text.trim().toLowerCase();
    const { status } = this.query;
    const fits = (run) =>
      (!status || run.status === status) &&
      (!text || [run.name, run.run_id, run.trace_id].some((part) => String(part ?? "").toLowerCase().includes(text)));
    return [...this.runs.values()].filter(fits);
  }
}

function newestFirst(a, b) {
  return compare(b.started, a.started) || compare(a.trace_id, b.trace_id);
}

function compare(a, b) {
  return (a ?? "") < (b ?? "") ? -1 : (a ?? "") > (b ?? "") ? 1 : 0;
}

// An answer that was under way may be older than what the stream has told since.
function newer(known, summary) {
  if ((known.events ?? 0) !== (summary.events ?? 0)) return (known.events ?? 0) > (summary.events ?? 0);
  return (known.last_seen ?? "") > (summary.last_seen ?? "");
}
