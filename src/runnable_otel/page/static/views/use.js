/** What the views share: to listen, to tick, to measure, to keep. */
import { address } from "../live/api.js";
import { useEffect, useReducer, useRef, useState } from "../vendor/htm-preact.js";

/** Draw again when the model says that it has changed. */
export function useModel(model) {
  const [, again] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    model.addEventListener("change", again);
    again();
    return () => model.removeEventListener("change", again);
  }, [model]);
}

/** Draw again at an interval while `active`. */
export function useTick(active, milliseconds) {
  const [, again] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => document.visibilityState === "visible" && again(), milliseconds);
    return () => clearInterval(timer);
  }, [active, milliseconds]);
}

/** The size of an element, `[ref, {width, height}]`. */
export function useSize() {
  const ref = useRef(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    const measure = () => setSize({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}

/** Whether a media query holds. */
export function useMedia(query) {
  const [holds, setHolds] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const change = () => setHolds(media.matches);
    media.addEventListener("change", change);
    return () => media.removeEventListener("change", change);
  }, [query]);
  return holds;
}

/** A choice that outlives the page. */
export function useKept(name, first) {
  const key = `runnable-otel.${name}`;
  const [value, setValue] = useState(() => localStorage.getItem(key) ?? first);
  const keep = (next) => {
    localStorage.setItem(key, next);
    setValue(next);
  };
  return [value, keep];
}

/** The title of the page and its icon: the tab tells how it stands while nobody looks. */
export function useTitle(title, status = "") {
  useEffect(() => {
    document.title = title;
  }, [title]);
  const icon = { error: "assets/icon-error.svg", running: "assets/icon-running.svg" }[status] ?? "assets/icon.svg";
  useEffect(() => {
    document.querySelector("link[rel=icon]").href = address(icon);
  }, [icon]);
}

/** The chosen step in the address, so that it can be sent to others; what an address names is chosen once it is there. */
export function useStep(model, nodes, node, choose) {
  const [asked, setAsked] = useState(() => new URLSearchParams(location.search).get("step") ?? "");
  const nameOf = (each) => each.step || each.attempts.at(-1)?.id || "";
  useEffect(() => {
    if (!asked || !model.loaded) return;
    setAsked("");
    for (const each of nodes.values()) if (nameOf(each) === asked) return choose(each);
  }, [asked, model.loaded]);
  const chosen = asked || (node?.parent ? nameOf(node) : "");
  useEffect(() => {
    const timer = setTimeout(() => {
      const url = new URL(location.href);
      if (chosen) url.searchParams.set("step", chosen.slice(0, 1000));
      else url.searchParams.delete("step");
      if (url.href !== location.href) history.replaceState(history.state, "", url);
    }, 300);
    return () => clearTimeout(timer);
  }, [chosen]);
}

/** Keys of the whole page, `{key: action}`; none while somebody writes, or with a modifier. */
export function useKeys(actions) {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const press = (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const writes = event.target.closest?.("input, textarea, select, [contenteditable]");
      if ((writes && event.key !== "Escape") || (document.querySelector("dialog[open]") && event.key !== "?")) return;
      const action = latest.current[event.key];
      if (!action) return;
      event.preventDefault();
      action(event);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

/** Hand a text to the browser as a file. */
export function download(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
