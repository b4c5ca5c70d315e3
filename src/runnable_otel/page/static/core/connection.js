/** What the page says of its connection: what is known, no more. Pure. */
import { clock, ticking } from "./time.js";
import { number } from "./text.js";

const QUIET = 30_000; // a producer says every 10 s that it lives

/** Whether a run that is not over has been silent for too long. Times in milliseconds, by the server's clock. */
export function isSilent({ running, now, lastSeen }) {
  return running && now - lastSeen > QUIET;
}

/** The latest of some instants, of which some may be NaN. */
export function latest(...instants) {
  const known = instants.filter((each) => !Number.isNaN(each));
  return known.length ? Math.max(...known) : NaN;
}

/**
 * Until when what is shown is known: now, unless the connection is gone or the run is silent. NaN: nothing is known.
 *
 * Args: as `say`, and `lost`: when the connection went, NaN where it never was.
 */
export function knownUntil({ connection, lost, now, lastSeen, running }) {
  if (!["live", "asking", "finished"].includes(connection.name)) return lost;
  return isSilent({ running, now, lastSeen }) ? lastSeen : now;
}

/**
 * `{tone, text, detail}`: `text` is stable while the state is, so that it is spoken once; `detail` may tick.
 *
 * Args: `connection` as a model has it; `wall`: this clock, in milliseconds; `now`: the server's; `lastSeen`: the last
 * sign of life, by the server's clock; `running`: the run is not over.
 */
export function say({ connection, wall, now, lastSeen = NaN, running = false }) {
  switch (connection.name) {
    case "connecting":
      return { tone: "wait", text: "Connecting…", detail: "" };
    case "reconnecting":
      return { tone: "warn", text: "Reconnecting", detail: waiting(connection, wall) };
    case "missing":
      return { tone: "warn", text: "The server does not know this run (yet)", detail: waiting({ until: connection.until }, wall) };
    case "unauthorised":
      return { tone: "error", text: "Not signed in", detail: "" };
    case "finished":
      return { tone: "done", text: "Finished", detail: "nothing more will come" };
    case "paused":
      return { tone: "wait", text: "Paused", detail: "another tab has the connection" };
    default:
      break;
  }
  if (isSilent({ running, now, lastSeen })) {
    return { tone: "warn", text: `No sign of life since ${clock(lastSeen)}`, detail: ticking(now - lastSeen) };
  }
  return { tone: "live", text: "Live", detail: connection.name === "asking" ? `every ${connection.seconds} s: many tabs are open` : "" };
}

function waiting({ until, reason }, wall) {
  const left = until - wall;
  const when = left > 500 ? `next try in ${ticking(left + 500)}` : "trying now";
  return reason ? `${reason} ${when[0].toUpperCase()}${when.slice(1)}.` : when;
}

/** What the gaps of a stream add up to, or "". */
export function sayGaps(gaps) {
  if (!gaps.length) return "";
  const known = gaps.every((gap) => Number.isFinite(gap.lost));
  const lost = gaps.reduce((sum, gap) => sum + (gap.lost ?? 0), 0);
  if (known && lost > 0) return `Gap: ${number(lost)} event${lost === 1 ? " is" : "s are"} lost`;
  return "Gap: events may be lost";
}
