/** The line between steps and details, which moves by pointer and keys. */
import { html, useRef } from "../vendor/htm-preact.js";

export const NARROWEST = 320;
const KEYS = { ArrowLeft: 24, ArrowRight: -24 };

/** How wide the details may be, in pixels, as wished and as the window allows. */
export function panelWidth(wish) {
  const most = Math.max(NARROWEST, Math.round(innerWidth * 0.65));
  const usual = Math.max(384, innerWidth * 0.31);
  return Math.round(Math.min(Math.max(Number(wish) || usual, NARROWEST), most));
}

/** Args: `width` in pixels; `resize(width)`; the details lie right of it. */
export function Splitter({ width, resize }) {
  const drag = useRef(null);
  const down = (event) => {
    if (event.button) return;
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    drag.current = event.clientX + width;
  };
  const move = (event) => drag.current !== null && resize(panelWidth(drag.current - event.clientX));
  const up = () => {
    drag.current = null;
  };
  const press = (event) => {
    const by = KEYS[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    resize(panelWidth(width + by));
  };
  return html`<div class="splitter" role="separator" tabindex="0" aria-orientation="vertical" aria-label="Width of the details"
    aria-valuenow=${width} aria-valuemin=${NARROWEST} aria-valuemax=${panelWidth(Infinity)}
    onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${up} onKeyDown=${press} />`;
}
