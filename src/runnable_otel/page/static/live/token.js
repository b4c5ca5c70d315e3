/** The one-time code of the printed address → a token. The code leaves the address bar whatever comes of it. */

/**
 * Returns `ready`, or `refused` where a code was there and was not taken.
 *
 * Args: `location`, `history` as a window has them; `exchange(code)` → a token, or "" where the server refuses;
 * `keep(token)`.
 */
export async function takeCode({ location, history, exchange, keep }) {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return "ready";
  history.replaceState(history.state, "", location.pathname + location.search);
  const token = await exchange(code);
  if (!token) return "refused";
  keep(token);
  return "ready";
}

/** Ask the server for the token of a code; `url` is that of its route. Throws where the server can't be reached. */
export async function exchangeCode(url, code) {
  const body = JSON.stringify({ code });
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const answer = response.ok ? await response.json().catch(() => null) : null;
  return typeof answer?.token === "string" ? answer.token : "";
}
