/** One run: what it is, what is wrong, its steps, and the details of one. */
import { asChromeTrace, asJson, fileName } from "../core/export.js";
import { extent, failures, makeRows, moved, zoomed } from "../core/layout.js";
import { line } from "../core/text.js";
import { axisEnd } from "../core/time.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { Panel } from "./panel.js";
import { Errors, Head } from "./run_head.js";
import { Splitter, panelWidth } from "./splitter.js";
import { Toolbar } from "./toolbar.js";
import { download, useKept, useKeys, useMedia, useModel, useStep, useTick, useTitle } from "./use.js";
import { Waterfall } from "./waterfall.js";

const LARGE = 300; // tasks; the finished branches of a larger run are closed at first

export function RunView({ model, go }) {
  useModel(model);
  const { root, nodes } = model.picture;
  const running = root.status === "running" && !model.over;
  useTick(running, root.counts.total > 2000 ? 500 : 250);
  const [text, setText] = useState("");
  const [status, setStatus] = useState("");
  const [order, keepOrder] = useKept("order", "time");
  const [folded, setFolded] = useState(() => new Map()); // key → closed
  const [selected, setSelected] = useState("");
  const [panel, setPanel] = useState(false);
  const [zoom, setZoom] = useState(null);
  const [menu, setMenu] = useState(false);
  const [wish, keepWidth] = useKept("panel", "");
  const filter = useRef(null);
  const grid = useRef(null);
  const narrow = useMedia("(max-width: 760px)");
  const now = model.now();
  const known = model.known();

  useFirstFold(model, setFolded);
  const errorsFirst = order === "errors";
  const isOpen = (node) => !folded.get(node.key);
  const nothing = !root.attempts.length && !root.children.length;
  const { rows, matches } = useMemo(
    () => (nothing ? { rows: [], matches: null } : makeRows(root, { isOpen, text, status, errorsFirst })),
    [model.picture, text, status, errorsFirst, folded],
  );
  const whole = useAxis(root, now, running);
  const axis = zoom ?? whole;
  const failed = useMemo(() => failures(root, errorsFirst), [model.picture, errorsFirst]);
  useTitle(titleOf(root, failed.length), running ? (failed.length ? "error" : "running") : root.status);

  const choose = (node, show = panel) => {
    openTo(node, setFolded);
    setSelected(node.key);
    setPanel(show);
  };
  const fold = (node, closed) => setFolded((before) => new Map(before).set(node.key, closed));
  const foldAll = (closed) => {
    const all = new Map();
    if (closed) for (const node of nodes.values()) if (node.parent && node.children.length) all.set(node.key, true);
    setFolded(all);
  };
  const jump = (by) => {
    if (!failed.length) return;
    if (text || status) {
      setText("");
      setStatus("");
    }
    const at = failed.findIndex((node) => node.key === selected);
    choose(failed[(at + by + failed.length + (at < 0 && by < 0 ? 1 : 0)) % failed.length], true);
    grid.current?.focus();
  };
  const escape = () => {
    if (menu) return setMenu(false);
    if (document.activeElement === filter.current) grid.current?.focus();
    if (text || status) {
      setText("");
      setStatus("");
    } else if (panel) {
      setPanel(false);
      grid.current?.focus();
    }
  };
  const rezoom = (factor) => setZoom(zoomed(axis, whole, factor, nodes.get(selected)));
  const shift = (part) => zoom && setZoom(moved(zoom, whole, part));
  const save = (kind) =>
    kind === "json"
      ? download(fileName(model.summary ?? root, "json"), asJson(model.facts, model.summary))
      : download(fileName(model.summary ?? root, "trace.json"), asChromeTrace(model.facts));
  useKeys({
    n: () => jump(1), N: () => jump(-1), "/": () => filter.current.focus(), Escape: escape,
    e: () => keepOrder(errorsFirst ? "time" : "errors"), o: () => foldAll(false), c: () => foldAll(true),
    "+": () => rezoom(0.5), "=": () => rezoom(0.5), "-": () => rezoom(2), 0: () => setZoom(null), x: () => setMenu(!menu),
  });

  const node = nodes.get(selected) ?? null;
  const open = panel && node !== null;
  useStep(model, nodes, node, (each) => choose(each, true));
  const width = panelWidth(wish);
  const columns = open && !narrow ? { gridTemplateColumns: `minmax(0, 1fr) ${width}px` } : {};
  return html`<main class="run-view ${open ? "with-panel" : ""}" style=${columns}>
    <div class="run-main">
      <${Head} model=${model} root=${root} known=${known} running=${running} silent=${model.silent()} menu=${menu} setMenu=${setMenu} save=${save} />
      <${Errors} failed=${failed} recovered=${root.status === "success"} choose=${(each) => choose(each, true)} next=${() => jump(1)} />
      <${Toolbar} counts=${root.counts} text=${text} setText=${setText} status=${status} setStatus=${setStatus}
        matches=${matches} filter=${filter} errorsFirst=${errorsFirst} failed=${failed.length} zoomed=${zoom !== null}
        onOrder=${() => keepOrder(errorsFirst ? "time" : "errors")} onFold=${foldAll} onNext=${() => jump(1)} onZoom=${rezoom} onWhole=${() => setZoom(null)} />
      <${Waterfall} grid=${grid} rows=${rows} axis=${axis} origin=${whole?.from ?? 0} now=${now} known=${known} running=${running} selected=${selected} text=${text}
        empty=${emptyText(model, text, status)} isOpen=${(each) => Boolean(text || status) || isOpen(each)} fold=${fold} choose=${choose} chooseFirst=${() => setSelected((key) => key || rows[0]?.node.key || "")} show=${() => setPanel(true)} shift=${shift} setZoom=${setZoom} />
    </div>
    ${open ? html`<div class="panel-side" key="panel">
      ${narrow ? null : html`<${Splitter} width=${width} resize=${(next) => keepWidth(String(next))} />`}
      <${Panel} model=${model} node=${node} known=${known} onClose=${escapePanel(setPanel, grid)} />
    </div>` : null}
  </main>`;
}

function escapePanel(setPanel, grid) {
  return () => {
    setPanel(false);
    grid.current?.focus();
  };
}

function emptyText(model, text, status) {
  if (text || status) return "No step matches.";
  return model.connection.name === "missing" ? "No events of this run so far." : "Waiting for the first event…";
}

/** Once, when all that was there has come: close the branches of a large run in which nothing is wrong or runs. */
function useFirstFold(model, setFolded) {
  const done = useRef(false);
  if (done.current || !model.loaded || !model.picture.root.children.length) return;
  done.current = true;
  if (model.picture.root.counts.total <= LARGE) return;
  const folded = new Map();
  for (const node of model.picture.nodes.values()) {
    const quiet = !node.errors && !node.counts.running && !node.counts.lost;
    if (node.parent && node.children.length && quiet && node.kind !== "task") folded.set(node.key, true);
  }
  setFolded(folded);
}

function openTo(node, setFolded) {
  setFolded((before) => {
    let after = before;
    for (let at = node.parent; at; at = at.parent) {
      if (!before.get(at.key)) continue;
      if (after === before) after = new Map(before);
      after.delete(at.key);
    }
    return after;
  });
}

/** The axis of a run: while it runs its end moves in steps, so that the bars do not shrink all the time. */
function useAxis(root, now, running) {
  const found = extent(root, running ? now : -Infinity);
  if (!found) return null;
  const size = Math.max(found.to - found.from, 1);
  return { from: found.from, to: found.from + (running ? axisEnd(size) : size) };
}

function titleOf(root, failed) {
  const mark = { error: "✕", running: "…", success: "✓" }[root.status] ?? "";
  return `${mark} ${failed && root.status === "running" ? `${failed} failed · ` : ""}${line(root.name, 60) || "run"} · runnable`.trim();
}
