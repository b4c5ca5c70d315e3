/** Where the server is, and how it is asked: every request carries the token, none goes to another host. */
import { parse } from "../core/json.js";

/** The address under which the server's routes lie; this module is at `assets/live/api.js` below it. */
export const BASE = new URL("../../", import.meta.url);
const KEY = "runnable-otel.token";

export function token() {
  return localStorage.getItem(KEY) ?? "";
}

export function keepToken(value) {
  if (value) localStorage.setItem(KEY, value);
  else localStorage.removeItem(KEY);
}

export function address(path, query = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) if (value !== "" && value !== undefined) url.searchParams.set(name, value);
  return url.href;
}

/** Headers of a request; `accept` is a media type. */
export function headers(accept) {
  return { Accept: accept, Authorization: `Bearer ${token()}` };
}

/** An answer that is not the one asked for: `status` as HTTP has it, 0 where the server can't be reached. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The JSON at a path, as `parse` reads it. Throws `Refused`. */
export async function getJson(path, query, signal) {
  let response;
  try {
    response = await fetch(address(path, query), { headers: headers("application/json"), cache: "no-store", signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The server can't be reached.");
  }
  const body = await response.text().then(parse).catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.error ?? body?.reason ?? `The server answered ${response.status}.`);
  return body;
}

/** How the store is: `{ok, reason}`; null where the server can't be reached. */
export async function health(signal) {
  try {
    const response = await fetch(address("healthz"), { headers: { Accept: "application/json" }, cache: "no-store", signal });
    const body = await response.json().catch(() => ({}));
    return { ok: response.ok, reason: String(body.reason ?? body.status ?? "") };
  } catch {
    return null;
  }
}
