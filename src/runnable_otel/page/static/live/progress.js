/**
 * How far the runs of the list are that are under way: a summary counts attempts, and knows nothing of steps that wait.
 *
 * Their events come by short requests, each asking for what is new: a stream for each run would take all connections.
 */
import { addEvent, noFacts } from "../core/facts.js";
import { Tree } from "../core/tree.js";
import { getJson } from "./api.js";

const MOST = 12; // runs at once
const LARGEST = 5000; // events; a larger run shows what its summary says
const EVERY = 1000; // milliseconds between two requests for a run

export class Progresses {
  /** Args: `changed()`: some counts are new. */
  constructor(changed) {
    this._changed = changed;
    this._known = new Map(); // trace id → what is known
    this._stop = new AbortController();
  }

  close() {
    this._stop.abort();
  }

  /** Counts of a run's steps as those of a tree's root, or null. */
  of(trace) {
    return this._known.get(trace)?.counts ?? null;
  }

  /** Look after these summaries, those that matter most first. */
  follow(summaries) {
    let room = MOST;
    for (const summary of summaries) {
      const known = this._known.get(summary.trace_id);
      const wanted = summary.status === "running" ? summary.events <= LARGEST && room-- > 0 : known?.facts;
      if (wanted) this._look(summary, known);
    }
  }

  _look(summary, known) {
    const trace = summary.trace_id;
    if (!known) {
      const facts = noFacts();
      this._known.set(trace, (known = { facts, tree: new Tree(facts), position: "", counts: null, seen: -1, at: 0, busy: false }));
    }
    if (known.busy || known.seen === summary.events || performance.now() - known.at < EVERY) return;
    known.busy = true;
    known.at = performance.now();
    known.seen = summary.events;
    this._read(trace, known, summary.status !== "running").catch(() => {
      known.seen = -1; // asked again with the next change
    }).finally(() => {
      known.busy = false;
    });
  }

  async _read(trace, known, over) {
    for (;;) {
      const page = await getJson(`runs/${encodeURIComponent(trace)}/events`, { position: known.position }, this._stop.signal);
      for (const event of page.events) addEvent(known.facts, event);
      const more = page.events.length > 0 && !page.ended && page.position !== known.position;
      known.position = page.position;
      if (!more) break;
    }
    known.counts = known.tree.draw({ over }).root.counts;
    if (over) known.facts = known.tree = null;
    this._changed();
  }
}
