/** The keys, as a dialog. */
import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { Icon } from "./icons.js";

const RUN = [
  [["↑", "↓", "j", "k"], "move from step to step"],
  [["←", "→"], "close and open a step, or go to its parent"],
  [["Enter"], "show details"],
  [["n", "N"], "next, previous error"],
  [["/"], "filter"],
  [["Esc"], "close details, clear the filter"],
  [["e"], "errors first, or by time"],
  [["o", "c"], "open all, close all"],
  [["+", "−", "0"], "zoom in, out, whole run"],
  [["⇧←", "⇧→"], "earlier, later, when zoomed"],
  [["x"], "export"],
  [["h"], "all runs"],
];
const LIST = [
  [["↑", "↓", "j", "k"], "move from run to run"],
  [["Enter"], "open the run"],
  [["/"], "search"],
];
const BOTH = [
  [["t"], "theme: system, light, dark"],
  [["?"], "these keys"],
];

export function Help({ onClose, run }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const rows = [...(run ? RUN : LIST), ...BOTH];
  const outside = (event) => event.target === dialog.current && dialog.current.close();
  return html`<dialog class="dialog" ref=${dialog} onClose=${onClose} onClick=${outside} aria-labelledby="help-title">
    <header class="dialog-head">
      <h2 id="help-title">Keys</h2>
      <button class="button plain square" aria-label="Close" onClick=${() => dialog.current.close()}><${Icon} name="close" /></button>
    </header>
    <dl class="keys">
      ${rows.map(([keys, what]) => html`<div><dt>${keys.map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${what}</dd></div>`)}
    </dl>
  </dialog>`;
}
