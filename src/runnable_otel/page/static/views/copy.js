/** A button that puts a text on the clipboard, where the browser lets it. */
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Icon } from "./icons.js";

export function Copy({ text, what }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  if (!navigator.clipboard) return null; // not a secure context
  const copy = () => navigator.clipboard.writeText(text).then(() => setDone(true), () => {});
  return html`<button class="button plain copy" aria-label=${`Copy ${what}`} title=${`Copy ${what}`} onClick=${copy}>
    <${Icon} name=${done ? "check" : "copy"} /><span role="status">${done ? "Copied" : ""}</span>
  </button>`;
}
