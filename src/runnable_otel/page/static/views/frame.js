/** What stands around every view: the head, the foot, theme and help. */
import { line } from "../core/text.js";
import { BASE } from "../live/api.js";
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Help } from "./help.js";
import { Icon } from "./icons.js";
import { StatusBar } from "./status_bar.js";
import { useKept, useKeys } from "./use.js";

const THEMES = ["system", "light", "dark"];

function useTheme() {
  const [theme, keep] = useKept("theme", "system");
  const known = THEMES.includes(theme) ? theme : "system";
  useEffect(() => {
    if (known === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = known;
  }, [known]);
  return [known, () => keep(THEMES[(THEMES.indexOf(known) + 1) % THEMES.length])];
}

/** A link inside the page: a click stays in it, a click with a modifier is the browser's. */
export function followInside(event, act) {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  act();
}

export function Frame({ model, run, go, children }) {
  const [theme, turn] = useTheme();
  const [help, setHelp] = useState(false);
  useKeys({ t: turn, "?": () => setHelp(!help), h: () => run && go("") });
  const id = run ? line(model.summary?.run_id, 80) || line(model.picture.root.attempts[0]?.runId, 80) || line(run, 40) : "";
  return html`<div class="frame">
    <header class="head">
      <a class="brand" href=${BASE.href} onClick=${(event) => followInside(event, () => go(""))}>
        <svg class="icon" width="20" height="20" viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="8" class="brand-ground" /><rect x="7" y="8" width="11" height="4" rx="2" fill="#fff" />
          <rect x="12" y="14" width="13" height="4" rx="2" fill="#fff" opacity=".8" /><rect x="16" y="20" width="7" height="4" rx="2" fill="#fff" opacity=".6" />
        </svg>
        <span>${run ? "Runs" : "runnable"}</span>
      </a>
      ${run ? html`<span class="faint" aria-hidden="true">/</span><span class="name crumb mono" dir="auto" title=${`trace ${line(run, 64)}`}>${id}</span>` : null}
      <span class="head-end">
        <button class="button plain square" aria-label=${`Theme: ${theme}`} title=${`Theme: ${theme} (t)`} onClick=${turn}><${Icon} name=${theme} /></button>
        <button class="button plain square" aria-label="Keys" title="Keys (?)" aria-haspopup="dialog" onClick=${() => setHelp(true)}>?</button>
      </span>
    </header>
    ${children}
    <${StatusBar} model=${model} run=${run} />
    ${help ? html`<${Help} run=${run} onClose=${() => setHelp(false)} />` : null}
  </div>`;
}
