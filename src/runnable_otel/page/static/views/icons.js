/** Small drawings. A status has a shape of its own, not a colour alone. */
import { html } from "../vendor/htm-preact.js";

export const WORDS = {
  error: "failed",
  running: "running",
  waiting: "waiting",
  lost: "no end seen",
  cancelled: "cancelled",
  success: "succeeded",
  skipped: "skipped",
  notrun: "not run",
};

const line = { fill: "none", stroke: "currentColor", "stroke-width": 1.7, "stroke-linecap": "round", "stroke-linejoin": "round" };

const SHAPES = {
  success: html`<circle cx="8" cy="8" r="6.5" fill="currentColor" fill-opacity=".14" /><path d="M5 8.3l2.1 2.1L11.2 6" ...${line} />`,
  error: html`<path d="M8 1.2l6.8 6.8L8 14.8 1.2 8z" fill="currentColor" fill-opacity=".16" stroke="currentColor" stroke-width="1.2" stroke-linejoin="round" /><path d="M8 5v3.4M8 10.9v.1" ...${line} />`,
  running: html`<circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-opacity=".25" stroke-width="2" /><path class="turn" d="M8 2a6 6 0 0 1 6 6" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" />`,
  waiting: html`<circle cx="8" cy="8" r="5.8" fill="none" stroke="currentColor" stroke-width="1.4" stroke-dasharray="2.2 2.35" />`,
  notrun: html`<circle cx="8" cy="8" r="5.8" fill="none" stroke="currentColor" stroke-width="1.4" stroke-opacity=".6" /><path d="M5.5 8h5" ...${line} />`,
  skipped: html`<path d="M4 4.5L8 8l-4 3.5M8.5 4.5l4 3.5-4 3.5" ...${line} />`,
  cancelled: html`<rect x="2.6" y="2.6" width="10.8" height="10.8" rx="3" fill="currentColor" fill-opacity=".16" stroke="currentColor" stroke-width="1.2" /><path d="M6 6l4 4M10 6l-4 4" ...${line} />`,
  failed: html`<path d="M8 .6l7.4 7.4L8 15.4.6 8z" fill="currentColor" /><path class="on-solid" d="M8 4.6v4M8 11.2v.1" ...${line} stroke-width="2" />`,
  within: html`<circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-opacity=".3" stroke-width="2" /><path d="M8 2a6 6 0 0 1 6 6" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" />`,
  lost: html`<path d="M8 1.8l6.4 11.6H1.6z" fill="currentColor" fill-opacity=".14" stroke="currentColor" stroke-width="1.2" stroke-linejoin="round" /><path d="M8 6v3.4M8 11.4v.1" ...${line} />`,
};

/**
 * A status as a shape; `label` says it to those who can't see it, or "" where text beside it does.
 *
 * `quiet`: that of a node in which something failed or runs: what does so itself is louder.
 */
export function Status({ status, label = WORDS[status], size = 16, quiet = false }) {
  const spoken = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  const shape = status === "error" && !quiet ? "failed" : status === "running" && quiet ? "within" : status;
  return html`<svg class="icon state-${status}" width=${size} height=${size} viewBox="0 0 16 16" ...${spoken}>${SHAPES[shape] ?? SHAPES.waiting}</svg>`;
}

const DRAWINGS = {
  open: "M4 6l4 4 4-4",
  closed: "M6 4l4 4-4 4",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9zM10.4 10.4L13.5 13.5",
  left: "M10 3.5L5.5 8l4.5 4.5",
  down: "M8 2.5v8M4.5 7.5L8 11l3.5-3.5M3 13.5h10",
  light: "M8 5.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6zM8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9",
  dark: "M13.2 9.8A5.6 5.6 0 0 1 6.2 2.8 5.6 5.6 0 1 0 13.2 9.8z",
  system: "M2.5 3.5h11v7.5h-11zM6 13.5h4M8 11v2.5",
  copy: "M5.5 5.5h7v7h-7zM3.5 10.5v-7h7",
  check: "M3.5 8.5l3 3 6-6.5",
  first: "M3 4h10M3 8h6.5M3 12h3.5",
  expand: "M4 6.5L8 3l4 3.5M4 9.5L8 13l4-3.5",
  fold: "M4 3l4 3.5L12 3M4 13l4-3.5 4 3.5",
  bolt: "M8 1.8l6.4 11.6H1.6zM8 6v3.4M8 11.4v.1",
  plug: "M3 8h3M10 8h3M6 5v6M10 5v6",
  tail: "M4 3h8M4 6.5h8M8 9v4.5M5.8 11.5L8 13.7l2.2-2.2",
};

export function Icon({ name, size = 16 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 16 16" aria-hidden="true"><path d=${DRAWINGS[name]} ...${{ ...line, "stroke-width": 1.5 }} /></svg>`;
}

const KINDS = {
  run: "M3 3.5h7M5.5 8h7.5M8 12.5h4",
  job: "M3 3.5h7M5.5 8h7.5M8 12.5h4",
  parallel: "M2.5 8h2.5M5 3.5v9M5 3.5h8M5 8h8M5 12.5h8",
  map: "M2.5 8h3l3-4.5h5M5.5 8h8M5.5 8l3 4.5h5",
  loop: "M12.5 6.5A5 5 0 1 0 13 8.6M12.8 3v3.6H9.2",
  conditional: "M8 2.5L13.5 8 8 13.5 2.5 8z",
  branch: "M4.5 2.5v7a2.5 2.5 0 0 0 2.5 2.5h5.5",
  composite: "M3 4h10v8H3z",
  catalog: "M3 4.5h10M3 8h10M3 11.5h10",
  span: "M3 8h10",
};

/** What kind of node it is; nothing for a task. */
export function Kind({ kind }) {
  const drawing = KINDS[kind];
  return drawing ? html`<svg class="icon kind" width="14" height="14" viewBox="0 0 16 16" aria-hidden="true"><path d=${drawing} ...${{ ...line, "stroke-width": 1.4 }} /></svg>` : null;
}
