/** Filter, order, folding and zoom of a run's steps. */
import { STATES } from "../core/outcome.js";
import { number } from "../core/text.js";
import { html } from "../vendor/htm-preact.js";
import { Icon, Status, WORDS } from "./icons.js";

export function Toolbar(props) {
  const { counts, text, setText, status, setStatus, matches, filter, errorsFirst, failed, zoomed } = props;
  const present = STATES.filter((state) => counts[state] > 0 || state === status);
  return html`<div class="toolbar" role="group" aria-label="Steps">
    <div class="search">
      <${Icon} name="search" />
      <input ref=${filter} class="field" type="search" placeholder="Filter steps" aria-label="Filter steps by name, type or error" value=${text} onInput=${(event) => setText(event.target.value)} />
      ${matches === null ? html`<kbd aria-hidden="true">/</kbd>` : null}
      <span class="matches" role="status">${matches === null ? "" : `${number(matches)} found`}</span>
    </div>
    <div class="chips" role="group" aria-label="Status">
      ${present.map((state) => html`<button key=${state} class="button chip" aria-pressed=${String(status === state)} onClick=${() => setStatus(status === state ? "" : state)}>
        <${Status} status=${state} label="" size=${14} />${number(counts[state] ?? 0)}<span class="chip-word">${WORDS[state]}</span>
      </button>`)}
    </div>
    <div class="tools">
      ${failed ? html`<button class="button next" title="Next error (n)" onClick=${props.onNext}>Next error<kbd>n</kbd></button>
      <button class="button order" aria-pressed=${String(errorsFirst)} aria-label="Errors first" title="Errors first (e)" onClick=${props.onOrder}><${Icon} name="first" /><span class="wide">Errors first</span></button>` : null}
      <span class="tool-group">
        <button class="button plain square" aria-label="Open all steps" title="Open all (o)" onClick=${() => props.onFold(false)}><${Icon} name="expand" /></button>
        <button class="button plain square" aria-label="Close all steps" title="Close all (c)" onClick=${() => props.onFold(true)}><${Icon} name="fold" /></button>
      </span>
      <span class="tool-group zoom">
        <button class="button plain square" aria-label="Zoom out" title="Zoom out (−)" disabled=${!zoomed} onClick=${() => props.onZoom(2)}>−</button>
        <button class="button plain square" aria-label="Zoom in" title="Zoom in (+)" onClick=${() => props.onZoom(0.5)}>+</button>
        ${zoomed ? html`<button class="button plain" title="Whole run (0)" onClick=${props.onWhole}>Whole run</button>` : null}
      </span>
    </div>
  </div>`;
}
