/** What a task wrote, line by line; follows its end until the user scrolls up. */
import { visibleRange } from "../core/layout.js";
import { clean, number, short } from "../core/text.js";
import { html, useLayoutEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { Icon } from "./icons.js";

const LINE = 18; // pixels, as in panel.css
const TALLEST = 18; // lines

/** Events of logs as lines: `{text, tone}`. */
export function linesOf(events) {
  const lines = [];
  for (const event of events) {
    const severe = /^(err|fatal|crit)/i.test(String(event.severity ?? "")) || event.stream === "stderr";
    for (const text of clean(event.text).replace(/\n$/, "").split("\n")) lines.push({ text: short(text, 4000), tone: severe ? "loud" : "" });
  }
  return lines;
}

export function Output({ events }) {
  const lines = useMemo(() => linesOf(events), [events, events.length]);
  const box = useRef(null);
  const [top, setTop] = useState(0);
  const [follows, setFollows] = useState(true);
  const height = Math.min(lines.length, TALLEST) * LINE;
  useLayoutEffect(() => {
    if (follows && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines.length, follows]);
  const scroll = (event) => {
    const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
    setTop(scrollTop);
    setFollows(scrollHeight - scrollTop - clientHeight < LINE);
  };
  const [first, last] = visibleRange(lines.length, LINE, top, height);
  return html`<section class="part-of" aria-label="Output">
    <div class="part-head">
      <h3>Output <span class="faint">${number(lines.length)} ${lines.length === 1 ? "line" : "lines"}</span></h3>
      <button class="button plain" aria-pressed=${String(follows)} title="Stay at the end" onClick=${() => setFollows(!follows)}><${Icon} name="tail" />Follow</button>
    </div>
    <div class="output mono" ref=${box} tabindex="0" role="log" aria-label="Lines of output" aria-live="off" onScroll=${scroll} style=${{ height: `${height + 17}px` }}>
      <div class="output-lines" style=${{ height: `${lines.length * LINE}px` }}>
        <div style=${{ transform: `translateY(${first * LINE}px)` }}>
          ${lines.slice(first, last).map((each, index) => html`<div key=${first + index} class="output-line ${each.tone}" dir="auto">${each.text || " "}</div>`)}
        </div>
      </div>
    </div>
  </section>`;
}
