/** The bar at the foot: how true the page is at this moment. */
import { say, sayGaps } from "../core/connection.js";
import { line, number } from "../core/text.js";
import { html } from "../vendor/htm-preact.js";
import { useModel, useTick } from "./use.js";

const MARKS = {
  live: html`<circle cx="5" cy="5" r="4" fill="currentColor" />`,
  wait: html`<circle cx="5" cy="5" r="3.5" fill="none" stroke="currentColor" stroke-width="1.5" stroke-dasharray="2 2" />`,
  warn: html`<path d="M5 .8L9.6 9H.4z" fill="currentColor" />`,
  error: html`<path d="M5 0l5 5-5 5-5-5z" fill="currentColor" />`,
  done: html`<rect x="1.2" y="1.2" width="7.6" height="7.6" rx="1.5" fill="currentColor" />`,
};

function Mark({ tone }) {
  return html`<svg class="icon" width="10" height="10" viewBox="0 0 10 10" aria-hidden="true">${MARKS[tone]}</svg>`;
}

export function StatusBar({ model, run }) {
  useModel(model);
  useTick(!["finished"].includes(model.connection.name), 1000);
  const running = run ? model.status() === "running" : false;
  const lastSeen = run ? model.lastSeen() : NaN;
  const said = say({ connection: model.connection, wall: Date.now(), now: model.now(), lastSeen, running });
  const gap = run ? sayGaps(model.gaps) : "";
  const store = model.store && model.connection.name !== "finished" ? line(model.store, 160) : "";
  return html`<footer class="foot">
    <span class="foot-state tone-${said.tone}" role="status">
      <${Mark} tone=${said.tone} /><span class="foot-text">${said.text}</span>
    </span>
    ${said.detail ? html`<span class="faint foot-detail">${said.detail}</span>` : null}
    ${gap ? html`<span class="foot-state tone-warn" role="status" title="The page shows what is left."><${Mark} tone="warn" />${gap}</span>` : null}
    ${store ? html`<span class="foot-state tone-error" role="status"><${Mark} tone="error" />Store full or read-only: ${store}</span>` : null}
    <span class="foot-end">
      ${run ? html`<span class="faint">${number(model.facts.events)} events</span>` : null}
      <span class="faint foot-keys"><kbd>?</kbd> keys</span>
    </span>
  </footer>`;
}
