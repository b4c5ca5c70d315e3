/** JSON as a tree that opens and closes. Its texts are text nodes, whatever they hold. */
import { clean, link, number, short } from "../core/text.js";
import { html, useState } from "../vendor/htm-preact.js";

const MANY = 200; // entries of one level that are drawn at first
const LONG = 2000; // characters of one text, likewise

export function Value({ value, depth = 0 }) {
  if (value === null || typeof value !== "object") return html`<${Plain} value=${value} />`;
  const entries = Array.isArray(value) ? value.map((each, index) => [index, each]) : Object.entries(value);
  if (!entries.length) return html`<span class="faint mono">${Array.isArray(value) ? "[ ]" : "{ }"}</span>`;
  return html`<${Entries} entries=${entries} depth=${depth} />`;
}

function Entries({ entries, depth }) {
  const [most, setMost] = useState(MANY);
  return html`<ul class="values">
    ${entries.slice(0, most).map(([key, value]) => html`<${Entry} key=${key} name=${key} value=${value} depth=${depth} />`)}
    ${entries.length > most ? html`<li><button class="button" onClick=${() => setMost(most * 5)}>${number(entries.length - most)} more</button></li>` : null}
  </ul>`;
}

function Entry({ name, value, depth }) {
  const size = value === null || typeof value !== "object" ? 0 : Object.keys(value).length;
  const [open, setOpen] = useState(depth < 1 && size <= 12);
  const key = html`<span class="key mono" dir="auto">${short(clean(String(name)), 200)}</span>`;
  if (!size) return html`<li class="entry">${key}<span class="of"><${Value} value=${value} /></span></li>`;
  const what = Array.isArray(value) ? `[${number(size)}]` : `{${number(size)}}`;
  return html`<li class="entry nested"><details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>${key}<span class="faint mono">${what}</span></summary>
    ${open ? html`<${Value} value=${value} depth=${depth + 1} />` : null}
  </details></li>`;
}

function Plain({ value }) {
  const [whole, setWhole] = useState(false);
  if (typeof value !== "string") return html`<span class="plain mono plain-${value === null ? "null" : typeof value}">${String(value)}</span>`;
  const address = link(value);
  if (address) return html`<a class="plain mono" href=${address} target="_blank" rel="noopener noreferrer nofollow">${short(address, 300)}</a>`;
  const text = clean(value);
  if (!text) return html`<span class="faint mono">""</span>`;
  return html`<span class="plain mono" dir="auto">${whole ? text : short(text, LONG)}</span>
    ${text.length > LONG && !whole ? html`<button class="button" onClick=${() => setWhole(true)}>all ${number(text.length)} characters</button>` : null}`;
}
