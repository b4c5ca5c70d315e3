/** The details of one step. */
import { inOrder } from "../core/facts.js";
import { clean, line, number } from "../core/text.js";
import { duration, moment, ticking } from "../core/time.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { Copy } from "./copy.js";
import { Icon, Kind, Status, WORDS } from "./icons.js";
import { Output } from "./output.js";
import { Progress, countsInWords } from "./runs.js";
import { Value } from "./values.js";

// What has a place of its own in the panel, or is the same for every event.
const OWN = new Set(["type", "uid", "name", "time", "started", "duration_ms", "inputs", "outputs", "error", "stack_trace", "attributes", "graph", "status"]);

export function Panel({ model, node, known, onClose }) {
  const [chosen, setChosen] = useState("");
  const panel = useRef(null);
  useEffect(() => panel.current.scrollTo(0, 0), [node.key]);
  const span = node.attempts.find((each) => each.id === chosen) ?? node.attempts.at(-1) ?? null;
  const facts = span ? model.facts.spans.get(span.id) : null;
  const event = facts ? { ...facts.start, ...facts.end } : {};
  const press = (pressed) => {
    if (pressed.key !== "Escape") return;
    pressed.preventDefault();
    pressed.stopPropagation();
    onClose();
  };
  return html`<aside class="panel" aria-label="Details of a step" ref=${panel} onKeyDown=${press}>
    <header class="panel-head">
      <${Status} status=${node.status} size=${18} label="" />
      <h2 class="panel-name" dir="auto">${line(node.name, 2000) || "unnamed"}</h2>
      <button class="button plain square" aria-label="Close details" title="Close (Esc)" onClick=${onClose}><${Icon} name="close" /></button>
    </header>
    <p class="panel-state"><span class="state-${node.status}">${WORDS[node.status]}</span>${timing(node, known)}</p>
    ${node.inner?.total ? html`<div class="panel-counts"><${Progress} counts=${node.inner} label=${countsInWords(node.inner)} /><p class="faint">${countsInWords(node.inner)}</p></div>` : null}
    ${node.attempts.length > 1 ? html`<${Attempts} node=${node} span=${span} choose=${setChosen} known=${known} />` : null}
    <${Failure} event=${event} />
    <${Written} model=${model} node=${node} span=${span} />
    <${Json} title="Inputs" value=${event.inputs ?? event.attributes?.inputs} />
    <${Json} title="Outputs" value=${event.outputs ?? event.attributes?.outputs} />
    <${Own} model=${model} span=${span} />
    <${Attributes} node=${node} span=${span} event=${event} />
  </aside>`;
}

function timing(node, known) {
  if (Number.isNaN(node.started)) return null;
  const took = node.status === "running" ? ticking(known - node.started) : Number.isNaN(node.ended) ? "" : duration(node.ended - node.started);
  return html`<span>${took}</span><span class="faint">from ${moment(node.started).slice(11)}</span>`;
}

function Attempts({ node, span, choose, known }) {
  return html`<section class="part-of"><h3>Attempts</h3>
    <ol class="attempts">
      ${node.attempts.map((each, index) => html`<li key=${each.id}><button class="attempt" aria-pressed=${String(each === span)} onClick=${() => choose(each.id)}>
        <${Status} status=${index === node.attempts.length - 1 ? node.status : each.status} />
        <span>${number(each.attempt || index + 1)}</span>
        <span class="faint name" dir="auto">${line(each.error, 120) || moment(each.started).slice(11)}</span>
        <span>${duration((Number.isNaN(each.ended) ? known : each.ended) - each.started)}</span>
      </button></li>`)}
    </ol>
  </section>`;
}

function Failure({ event }) {
  const trace = clean(event.stack_trace ?? event.attributes?.["exception.stacktrace"]).trimEnd();
  if (!event.error && !trace) return null;
  const whole = trace.includes(clean(event.error)) ? trace : `${clean(event.error)}\n\n${trace}`.trim();
  return html`<section class="part-of failure">
    <div class="part-head"><h3>Error</h3><${Copy} text=${whole} what="the error" /></div>
    <p class="failure-text mono" dir="auto">${clean(event.error) || "It failed without saying why."}</p>
    ${trace ? html`<pre class="trace mono" tabindex="0" aria-label="Stack trace">${trace}</pre>` : null}
  </section>`;
}

function Written({ model, node, span }) {
  const { logs } = model.facts;
  const lists = [span ? logs.get(span.id) : null, node.step ? logs.get(`step:${node.step}`) : null].filter(Boolean);
  const count = lists.reduce((sum, list) => sum + list.length, 0);
  const events = useMemo(() => inOrder(lists.flat()), [span?.id, node.key, count]);
  return count ? html`<${Output} key=${span?.id ?? node.key} events=${events} />` : null;
}

function Json({ title, value }) {
  if (value === undefined || value === null) return null;
  let shown = value;
  if (typeof value === "string") {
    try {
      shown = JSON.parse(value);
    } catch {
      shown = value; // an attribute that was cut where it is no JSON any more
    }
  }
  return html`<section class="part-of"><h3>${title}</h3><${Value} value=${shown} /></section>`;
}

/** Events of the task's own types. */
function Own({ model, span }) {
  const events = span ? model.facts.others.get(span.id) : null;
  if (!events?.length) return null;
  const latest = inOrder(events).slice(-50).reverse();
  return html`<section class="part-of"><h3>Own events <span class="faint">${number(events.length)}</span></h3>
    <ol class="own">${latest.map((each) => {
      const { runnable, uid, type, ...rest } = each;
      return html`<li key=${uid}><strong class="mono" dir="auto">${line(type, 80)}</strong><${Value} value=${rest} depth=${1} /></li>`;
    })}</ol>
  </section>`;
}

function Attributes({ node, span, event }) {
  const rest = Object.entries(event).filter(([key, value]) => !OWN.has(key) && value !== null && value !== "");
  const named = [["name", event.name], ...rest, ...Object.entries(event.attributes ?? {})];
  const rows = named.filter(([key, value]) => value !== undefined && key !== "inputs" && key !== "outputs" && key !== "exception.stacktrace");
  if (!span) rows.splice(0, rows.length, ["step", node.step], ["task_type", node.taskType]);
  return html`<section class="part-of"><h3>Attributes</h3>
    <dl class="attributes">
      <div><dt><${Kind} kind=${node.kind} />kind</dt><dd>${node.kind}</dd></div>
      ${span?.skewed ? html`<div><dt>clock</dt><dd>the end came before the start: clocks differ</dd></div>` : null}
      ${rows.filter(([, value]) => value !== "").map(([key, value]) => html`<div key=${key}><dt class="mono" dir="auto">${line(key, 120)}</dt><dd><${Value} value=${value} depth=${1} /></dd></div>`)}
    </dl>
  </section>`;
}
