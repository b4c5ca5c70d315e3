/** Steps and their bars: one grid, in which only the rows that are seen are drawn. */
import { bars, scrollTo, ticks, visibleRange } from "../core/layout.js";
import { line, number } from "../core/text.js";
import { duration, ticking } from "../core/time.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Icon, Kind, Status, WORDS } from "./icons.js";
import { useMedia, useSize } from "./use.js";

const INDENT = 16;
const DEEPEST = 20; // levels that are indented: beyond, names would leave the column

export function Waterfall(props) {
  const { grid, rows, axis, origin, now, known, selected, isOpen, fold, choose, show, shift } = props;
  const narrow = useMedia("(max-width: 760px)");
  const height = narrow ? 46 : 30;
  const head = narrow ? 0 : 30;
  const [ref, size] = useSize();
  const [top, setTop] = useState(0);
  const at = rows.findIndex((row) => row.node.key === selected);
  const shown = useRef("");

  useEffect(() => {
    grid.current = ref.current;
  });
  useLayoutEffect(() => {
    if (shown.current === selected || at < 0 || !ref.current || !size.height) return;
    shown.current = selected; // once for each choice: the list stays where the user scrolls it
    const next = scrollTo(at, height, ref.current.scrollTop, size.height - head);
    if (next !== ref.current.scrollTop) ref.current.scrollTop = next;
  }, [selected, at, size.height, height]);

  const move = (index) => rows.length && choose(rows[Math.max(0, Math.min(rows.length - 1, index))].node);
  const page = Math.max(1, Math.floor((size.height - head) / height) - 1);
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const node = rows[at]?.node;
    const act = {
      ArrowDown: () => move(at + 1), j: () => move(at + 1), ArrowUp: () => move(at - 1), k: () => move(Math.max(0, at - 1)),
      Home: () => move(0), End: () => move(rows.length - 1), PageDown: () => move(at + page), PageUp: () => move(at - page),
      ArrowRight: () => (event.shiftKey ? shift(0.25) : node && inwards(node, isOpen, fold, choose)),
      ArrowLeft: () => (event.shiftKey ? shift(-0.25) : node && outwards(node, isOpen, fold, choose)),
      Enter: () => node && show(), " ": () => node && show(),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };

  const [first, last] = visibleRange(rows.length, height, top, size.height || 800);
  const width = Math.max(200, size.width * (narrow ? 1 : 0.6));
  const marks = axis ? ticks(axis, origin, Math.max(2, Math.floor(width / 110))) : [];
  const nowAt = props.running && axis ? (now - axis.from) / (axis.to - axis.from) : NaN;
  const focus = () => {
    if (ref.current.matches(":focus-visible")) props.chooseFirst();
  };
  const active = at >= first && at < last ? `row-${rows[at].node.id}` : undefined;
  return html`<div class="grid" role="treegrid" aria-label="Steps" aria-rowcount=${rows.length + 1} tabindex="0" ref=${ref}
    aria-activedescendant=${active} onFocus=${focus} onKeyDown=${press} onScroll=${(event) => setTop(event.target.scrollTop)}>
    <${Axis} marks=${marks} axis=${axis} setZoom=${props.setZoom} />
    <div class="rows" role="rowgroup" style=${{ height: `${rows.length * height}px` }}>
      <div class="lines" aria-hidden="true"><div class="track">${marks.map((mark) => html`<i style=${{ left: `${mark.at * 100}%` }} />`)}${nowAt >= 0 && nowAt <= 1 ? html`<i class="now" style=${{ left: `${nowAt * 100}%` }} />` : null}</div></div>
      ${rows.slice(first, last).map(({ node, matches }, index) => html`<${Row} key=${node.id} node=${node} matches=${matches}
        index=${first + index} top=${(first + index) * height} chosen=${node.key === selected} axis=${axis} now=${now} known=${known}
        open=${isOpen(node)} fold=${fold} choose=${choose} />`)}
      ${rows.length ? null : html`<p class="empty" role="row"><span role="gridcell">${props.empty}</span></p>`}
    </div>
  </div>`;
}

function inwards(node, isOpen, fold, choose) {
  if (!node.children.length) return;
  if (isOpen(node)) choose(node.children[0]);
  else fold(node, false);
}

function outwards(node, isOpen, fold, choose) {
  if (node.children.length && isOpen(node)) fold(node, true);
  else if (node.parent) choose(node.parent);
}

/** The marks of time; dragging over them shows that part alone. */
function Axis({ marks, axis, setZoom }) {
  const track = useRef(null);
  const [drag, setDrag] = useState(null);
  const place = (event) => {
    const box = track.current.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const down = (event) => {
    if (event.button || !axis) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setDrag([place(event), place(event)]);
  };
  const up = () => {
    if (drag && Math.abs(drag[1] - drag[0]) > 0.01) {
      const [from, to] = [Math.min(...drag), Math.max(...drag)].map((part) => axis.from + part * (axis.to - axis.from));
      setZoom({ from, to });
    }
    setDrag(null);
  };
  return html`<div class="row axis" role="row" aria-rowindex="1">
    <div class="cell-name" role="columnheader">Step</div>
    <div class="cell-bar" role="columnheader" aria-label="Time" title="Drag to zoom" onPointerDown=${down} onPointerMove=${(event) => drag && setDrag([drag[0], place(event)])} onPointerUp=${up} onPointerCancel=${() => setDrag(null)}>
      <div class="track" ref=${track} aria-hidden="true">
        ${marks.map((mark) => html`<span class="tick" style=${{ left: `${mark.at * 100}%` }}>${mark.offset === 0 ? "0" : duration(mark.offset)}</span>`)}
        ${drag ? html`<span class="drag" style=${{ left: `${Math.min(...drag) * 100}%`, width: `${Math.abs(drag[1] - drag[0]) * 100}%` }} />` : null}
      </div>
    </div>
  </div>`;
}

function Row({ node, matches, index, top, chosen, axis, now, known, open, fold, choose }) {
  const inner = node.children.length > 0;
  const depth = Math.min(node.depth, DEEPEST);
  const toggle = (event) => {
    event.stopPropagation();
    fold(node, open);
  };
  const siblings = node.parent?.children ?? [node];
  return html`<div class="row kind-${node.kind} is-${node.status} ${chosen ? "chosen" : ""} ${matches ? "" : "beside"}" role="row" id=${`row-${node.id}`}
    aria-rowindex=${index + 2} aria-level=${node.depth + 1} aria-setsize=${siblings.length} aria-expanded=${inner ? String(open) : undefined} aria-selected=${String(chosen)}
    style=${{ transform: `translateY(${top}px)` }} onClick=${() => choose(node, true)} onDblClick=${inner ? toggle : undefined}>
    <div class="cell-name" role="gridcell" style=${{ paddingLeft: `${10 + depth * INDENT}px` }}>
      ${inner ? html`<span class="fold" aria-hidden="true" onClick=${toggle}><${Icon} name=${open ? "open" : "closed"} size=${12} /></span>` : html`<span class="fold" />`}
      <${Status} status=${node.status} quiet=${inner && node.kind !== "task"} />
      <${Kind} kind=${node.kind} />
      <span class="name step-name" dir="auto" title=${node.name.length > 24 ? line(node.step || node.name, 1000) : undefined}>${line(node.name) || "unnamed"}</span>
      <${Aside} node=${node} open=${open} />
      <span class="took-narrow" aria-hidden="true">${took(node, known)}</span>
    </div>
    <${Bars} node=${node} axis=${axis} now=${now} known=${known} />
  </div>`;
}

/** What a name alone does not say: the counts of a composite, the attempts of a task. */
function Aside({ node, open }) {
  const counts = node.inner;
  if (counts && counts.total > 0) {
    const done = (counts.success ?? 0) + (counts.skipped ?? 0);
    return html`<span class="aside">
      ${counts.error ? html`<span class="state-error count-error" title=${`${counts.error} failed`}>${number(counts.error)}<span class="hidden"> failed, </span></span>` : null}
      ${!open && counts.running ? html`<span class="state-running" title=${`${counts.running} running`}>${number(counts.running)}<span class="hidden"> running, </span></span>` : null}
      <span class="faint">${number(done)}/${number(counts.total)}<span class="hidden"> done</span></span>
    </span>`;
  }
  const retried = node.attempts.length > 1 && node.kind === "task" ? html`<span class="tag">${number(node.attempts.length)} attempts</span>` : null;
  const type = node.taskType && node.taskType !== "python" ? html`<span class="faint type">${line(node.taskType, 20)}</span>` : null;
  return retried || type ? html`<span class="aside">${retried}${type}</span>` : null;
}

const CLAMPED = 1.02; // of the axis: bars end a little beyond, so that a cut one looks cut

function Bars({ node, axis, now, known }) {
  const found = axis ? bars(node, axis, now, known) : [];
  const end = found.length ? Math.max(...found.map((bar) => bar.left + bar.width)) : 0;
  return html`<div class="cell-bar" role="gridcell">
    <div class="track">
      ${found.map((bar) => {
        const left = Math.max(-0.02, Math.min(CLAMPED, bar.left));
        const right = Math.max(left, Math.min(CLAMPED, bar.left + bar.width));
        const style = { left: `${left * 100}%`, width: `${(right - left) * 100}%` };
        if (bar.lanes > 1) Object.assign(style, { top: `${20 + (60 / bar.lanes) * bar.lane}%`, height: `${60 / bar.lanes - 4}%` });
        const outside = bar.left > 1 || bar.left + bar.width < 0;
        const sure = right > left ? Math.max(0, (bar.left + bar.width * bar.sure - left) / (right - left)) : 1;
        return outside ? null : html`<span class="bar fill-${bar.status}" style=${style}>${sure < 0.999 ? html`<i class="unsure" style=${{ left: `${sure * 100}%` }} />` : null}</span>`;
      })}
      <span class="took ${found.length ? "" : "unplaced"}" style=${{ left: `${Math.max(0, Math.min(1, end)) * 100}%` }}>${took(node, known)}</span>
    </div>
  </div>`;
}

function took(node, known) {
  if (node.status === "waiting" || node.status === "notrun" || node.status === "skipped") return WORDS[node.status];
  if (Number.isNaN(node.started)) return "";
  if (node.status === "running") return ticking(known - node.started);
  return Number.isNaN(node.ended) ? WORDS[node.status] : duration(node.ended - node.started);
}
