/** Text from outside, made fit to be shown: values in, values out. */

// ECMA-48: strings (OSC, DCS, …) up to their terminator, control sequences, and other escapes.
const STRING = "(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])[^\\x07\\x1b\\x9c]*(?:\\x07|\\x1b\\\\|\\x9c)?";
const ESCAPES = new RegExp(`${STRING}|(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*[@-~]?|\\x1b[ -/]*[0-~]?`, "g");
// Controls, and what hides text or turns its direction. Joiners stay: emoji and Persian need them.
const HIDDEN = "\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb";
const CONTROLS = new RegExp(`[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029${HIDDEN}]`, "g");
const PLAIN = /^[\x20-\x7e]*$/;

/** Text without terminal sequences, control characters and hidden ones; tabs and line feeds stay. */
export function clean(value) {
  const text = typeof value === "string" ? value : value === undefined || value === null ? "" : String(value);
  if (PLAIN.test(text)) return text;
  return text.replace(/\r\n?/g, "\n").replace(ESCAPES, "").replace(CONTROLS, "");
}

/** Clean text on one line, at most `limit` characters long. */
export function line(value, limit = 300) {
  const text = clean(typeof value === "string" && value.length > 4 * limit ? value.slice(0, 4 * limit) : value);
  return short(text.replace(/\s+/g, " ").trim(), limit);
}

/** The text, cut with `…` where it is longer than `limit`; never in the middle of a character. */
export function short(text, limit) {
  if (text.length <= limit) return text;
  const end = /[\ud800-\udbff]/.test(text[limit - 2]) ? limit - 2 : limit - 1;
  return `${text.slice(0, end)}…`;
}

/** The address if it is one of http or https, else nothing: what may become a link. */
export function link(value) {
  if (typeof value !== "string" || value.length > 2048 || !/^https?:\/\/[^\s\\]+$/i.test(value)) return "";
  try {
    const url = new URL(value);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : "";
  } catch {
    return "";
  }
}

/** A number with thousands set apart. */
export function number(value) {
  return value.toLocaleString("en-GB");
}

/** `1 task`, `2 tasks`. */
export function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}
