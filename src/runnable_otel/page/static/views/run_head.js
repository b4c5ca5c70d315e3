/** The head of a run: what it is, how far it is, what is wrong, and its export. */
import { line, number, plural } from "../core/text.js";
import { duration, moment, ticking } from "../core/time.js";
import { html, useLayoutEffect, useRef } from "../vendor/htm-preact.js";
import { Icon, Status, WORDS } from "./icons.js";
import { Progress, countsInWords } from "./runs.js";

const SHOWN = 3; // errors

export function Head({ model, root, known, running, silent, menu, setMenu, save }) {
  const run = root.attempts.at(-1);
  const began = root.started;
  const ended = Number.isNaN(root.ended) ? Math.max(known, began) : root.ended;
  const first = run ? model.facts.spans.get(run.id) : null;
  const one = first?.start ?? first?.end ?? {};
  const where = [model.summary?.executor, one.host ?? model.summary?.host].filter(Boolean).join(" · ");
  const { counts } = root;
  const status = model.status();
  const word = silent ? "no sign of life" : WORDS[status] ?? status;
  return html`<div class="run-head">
    <div class="run-line">
      <${Status} status=${silent ? "lost" : status} size=${22} label="" />
      <h1 class="name" dir="auto" title=${line(root.name, 2000)}>${(run || root.children.length ? line(root.name) : line(model.summary?.name ?? model.run, 80)) || "run"}</h1>
      <span class="badge badge-${silent ? "lost" : status}">${word}</span>
      <${Export} menu=${menu} setMenu=${setMenu} save=${save} />
    </div>
    <dl class="facts">
      <div><dt>Duration</dt><dd>${Number.isNaN(began) ? "–" : running ? ticking(ended - began) : duration(ended - began)}</dd></div>
      <div><dt>Started</dt><dd>${moment(began).slice(0, 19) || "–"}</dd></div>
      <div><dt>Tasks</dt><dd>${number((counts.success ?? 0) + (counts.skipped ?? 0))} of ${number(counts.total)}</dd></div>
      ${where ? html`<div class="fact-where"><dt>On</dt><dd class="name" dir="auto">${line(where, 80)}</dd></div>` : null}
    </dl>
    <${Progress} counts=${counts} label=${countsInWords(counts)} />
  </div>`;
}

function Export({ menu, setMenu, save }) {
  const button = useRef(null);
  const list = useRef(null);
  useLayoutEffect(() => {
    if (menu) list.current?.querySelector("button")?.focus();
  }, [menu]);
  const close = () => {
    setMenu(false);
    button.current.focus();
  };
  const press = (event) => {
    const items = [...list.current.querySelectorAll("button")];
    const at = items.indexOf(document.activeElement);
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
    else if (event.key === "ArrowUp") items[(at - 1 + items.length) % items.length].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const leave = (event) => !list.current?.contains(event.relatedTarget) && event.relatedTarget !== button.current && setMenu(false);
  const item = (kind, title, what) => html`<button role="menuitem" class="menu-item" onClick=${() => { save(kind); close(); }}><strong>${title}</strong><span class="faint">${what}</span></button>`;
  return html`<span class="export">
    <button ref=${button} class="button" aria-haspopup="menu" aria-expanded=${String(menu)} aria-label="Export" title="Export (x)" onClick=${() => setMenu(!menu)}><${Icon} name="down" /><span class="wide">Export</span></button>
    ${menu ? html`<div class="menu" role="menu" aria-label="Export" ref=${list} onKeyDown=${press} onFocusOut=${leave}>
      ${item("json", "JSON", "all events of the run")}
      ${item("trace", "Chrome trace", "opens in Perfetto")}
    </div>` : null}
  </span>`;
}

/** What failed, the first of it in full; where the run succeeded all the same, in a calmer tone. */
export function Errors({ failed, recovered, choose, next }) {
  if (!failed.length) return null;
  const shown = failed.slice(0, failed.length === SHOWN + 1 ? SHOWN + 1 : SHOWN);
  const left = failed.length - shown.length;
  const errorOf = (node) => line(node.attempts.at(-1)?.error, 300) || "failed without saying why";
  return html`<section class="errors ${recovered ? "recovered" : ""}" aria-label=${recovered ? "Errors that the run recovered from" : "Errors"}>
    <ul>
      ${shown.map((node) => html`<li key=${node.key}><button class="error-line" onClick=${() => choose(node)}>
        <${Status} status="error" label="" /><span class="name error-step" dir="auto">${line(node.step || node.name, 120)}</span><span class="name error-text" dir="auto">${errorOf(node)}</span>${recovered ? html`<span class="tag">recovered</span>` : null}
      </button></li>`)}
      ${left ? html`<li><button class="error-line errors-more" onClick=${next}><span /><span>and ${plural(left, "more error")}</span><kbd>n</kbd></button></li>` : null}
    </ul>
  </section>`;
}
