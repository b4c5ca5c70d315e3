/** The list of runs. */
import { isSilent, latest } from "../core/connection.js";
import { line, number } from "../core/text.js";
import { ago, clock, duration, instant, moment, ticking } from "../core/time.js";
import { progress } from "../core/layout.js";
import { summaryCounts } from "../core/outcome.js";
import { BASE, address } from "../live/api.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Copy } from "./copy.js";
import { followInside } from "./frame.js";
import { Icon, Status, WORDS } from "./icons.js";
import { useKeys, useModel, useTick, useTitle } from "./use.js";

const FILTERS = [["", "All"], ["running", "Running"], ["error", "Failed"], ["success", "Succeeded"], ["cancelled", "Cancelled"]];

export function Progress({ counts, label }) {
  const parts = progress(counts);
  return html`<span class="progress" role="img" aria-label=${label}>
    ${parts.map((part) => html`<span key=${part.status} class="part fill-${part.status}" style=${{ flexGrow: part.share }} />`)}
  </span>`;
}

/** `12 done, 1 failed, 3 running`: what a progress bar says. */
export function countsInWords(counts) {
  const words = { success: "done", skipped: "skipped", error: "failed", cancelled: "cancelled", lost: "without an end", running: "running", waiting: "waiting", notrun: "not run" };
  return progress(counts).map((part) => `${number(part.count)} ${words[part.status]}`).join(", ") || "no tasks yet";
}

function Run({ summary, counts, now, go }) {
  const started = instant(summary.started);
  const running = summary.status === "running";
  const lastSeen = latest(instant(summary.last_seen), summary.heard);
  const silent = isSilent({ running, now, lastSeen });
  const took = running ? ticking((silent ? lastSeen : now) - started) : duration(summary.duration_ms);
  const done = (counts.success ?? 0) + (counts.skipped ?? 0);
  const href = address(`runs/${encodeURIComponent(summary.trace_id)}`);
  const error = line(summary.error, 300);
  return html`<li class="run">
    <a class="run-link" href=${href} onClick=${(event) => followInside(event, () => go(summary.trace_id))}>
      <${Status} status=${silent ? "lost" : WORDS[summary.status] ? summary.status : "waiting"} size=${18} label=${silent ? "no sign of life" : WORDS[summary.status]} />
      <span class="run-title">
        <span class="name run-name" dir="auto">${line(summary.name) || "run"}</span>
        <span class="run-sub">
          <span class="name mono faint" dir="auto">${line(summary.run_id || summary.trace_id, 80)}</span>
          ${error ? html`<span class="name run-error" dir="auto" title=${error}>${error}</span>` : null}
          ${silent ? html`<span class="name state-lost">no sign of life since ${clock(lastSeen)}</span>` : null}
        </span>
      </span>
      <span class="run-progress">
        <${Progress} counts=${counts} label=${countsInWords(counts)} />
        <span class="run-count">
          ${counts.error ? html`<span class="state-error">${number(counts.error)} failed</span>` : null}
          ${counts.recovered ? html`<span class="state-lost">${number(counts.recovered)} recovered</span>` : null}
          ${counts.running ? html`<span class="state-running">${number(counts.running)} running</span>` : null}
          ${counts.waiting ? html`<span class="faint">${number(counts.waiting)} waiting</span>` : null}
          <span class="run-done faint">${number(done)}/${number(counts.total)}</span>
        </span>
      </span>
      <span class="run-where name faint">${line([summary.executor, summary.host].filter(Boolean).join(" · "), 60)}</span>
      <span class="run-took">${took}</span>
      <time class="run-when faint" dateTime=${summary.started ?? ""} title=${moment(started)}>${Number.isNaN(started) ? "" : ago(now - started)}</time>
    </a>
  </li>`;
}

export function RunsView({ model, go }) {
  useModel(model);
  const [text, setText] = useState(model.query.text);
  const [status, setStatus] = useState(model.query.status);
  const search = useRef(null);
  const list = useRef(null);
  useTitle("Runs · runnable");
  useEffect(() => {
    const timer = setTimeout(() => model.ask({ text: text.slice(0, 256), status }), text === model.query.text ? 0 : 150);
    return () => clearTimeout(timer);
  }, [text, status]);
  const move = (by) => {
    const links = [...list.current.querySelectorAll(".run-link")];
    const at = links.indexOf(document.activeElement);
    links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
  };
  const clear = () => {
    if (document.activeElement === search.current) search.current.blur();
    setText("");
  };
  useKeys({ "/": () => search.current.focus(), ArrowDown: () => move(1), j: () => move(1), ArrowUp: () => move(-1), k: () => move(-1), Escape: clear });
  const runs = model.list();
  useTick(true, runs.some((run) => run.status === "running") ? 1000 : 10_000);
  const now = model.now();
  return html`<main class="runs" aria-labelledby="runs-title">
    <div class="runs-head">
      <h1 id="runs-title">Runs</h1>
      <span class="faint runs-count" role="status">${runs.length ? html`${number(runs.length)}${model.hasOlder() ? "+" : ""}<span class="hidden"> ${runs.length === 1 ? "run" : "runs"}</span>` : ""}</span>
      <div class="search">
        <${Icon} name="search" />
        <input ref=${search} class="field" type="search" placeholder="Search name or id" aria-label="Search runs by name or id" value=${text} onInput=${(event) => setText(event.target.value)} />
        <kbd aria-hidden="true">/</kbd>
      </div>
      <div class="segments" role="group" aria-label="Status">
        ${FILTERS.map(([value, word]) => html`<button key=${value} class="button plain" aria-pressed=${String(status === value)} onClick=${() => setStatus(value)}>${word}</button>`)}
      </div>
    </div>
    <ul class="runs-list" ref=${list} tabindex=${runs.length ? undefined : "0"}>
      ${runs.map((summary) => html`<${Run} key=${summary.trace_id} summary=${summary} counts=${model.progresses.of(summary.trace_id) ?? summaryCounts(summary)} now=${now} go=${go} />`)}
      ${model.hasOlder() ? html`<li class="more"><button class="button" onClick=${() => model.older()}>Older runs</button></li>` : null}
      ${runs.length ? null : html`<li class="empty"><${Nothing} model=${model} filtered=${text || status} /></li>`}
    </ul>
  </main>`;
}

function Nothing({ model, filtered }) {
  if (!model.loaded) return html`<p class="faint">${model.refused || "Loading…"}</p>`;
  if (filtered) return html`<p>No run matches.</p>`;
  const address = BASE.href.replace(/\/$/, "");
  const lines = [`export OTEL_EXPORTER_OTLP_ENDPOINT=${address}`, "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "export RUNNABLE_OTEL_SINKS=otlp:"].join("\n");
  return html`<div class="first">
    <h2>No runs yet</h2>
    <p>Start a pipeline with these set, and it shows here as it happens:</p>
    <div class="first-lines"><pre class="mono">${lines}</pre><${Copy} text=${`${lines}\n`} what="these lines" /></div>
    <p class="faint">The protocol needs <code class="mono">pip install 'runnable-otel[http]'</code>; the lines that <code class="mono">runnable-otel serve</code> printed do as well.</p>
  </div>`;
}
