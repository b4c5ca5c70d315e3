/** The page: its token, its routes, its frame. */
import { BASE, address, keepToken, token } from "./live/api.js";
import { RunModel } from "./live/model.js";
import { RunsModel } from "./live/runs_model.js";
import { exchangeCode, takeCode } from "./live/token.js";
import { html, render, useEffect, useMemo, useState } from "./vendor/htm-preact.js";
import { Frame } from "./views/frame.js";
import { RunView } from "./views/run.js";
import { RunsView } from "./views/runs.js";
import { SignIn } from "./views/sign_in.js";
import { useModel } from "./views/use.js";

/** The run that the address names, or "" for the list. */
function route() {
  const rest = location.pathname.slice(BASE.pathname.length);
  const found = /^runs\/([^/]+)\/?$/.exec(rest);
  try {
    return found ? decodeURIComponent(found[1]) : "";
  } catch {
    return found[1];
  }
}

function useRoute() {
  const [run, setRun] = useState(route);
  useEffect(() => {
    const change = () => setRun(route());
    addEventListener("popstate", change);
    return () => removeEventListener("popstate", change);
  }, []);
  const go = (next) => {
    history.pushState(null, "", next ? address(`runs/${encodeURIComponent(next)}`) : BASE.href);
    setRun(next);
  };
  return [run, go];
}

function App({ refused }) {
  const [run, go] = useRoute();
  const [known, setKnown] = useState(token() !== "");
  const signIn = (value) => {
    keepToken(value);
    setKnown(true);
  };
  if (!known) return html`<${SignIn} refused=${refused} onToken=${signIn} />`;
  return html`<${Followed} key=${run || "/"} run=${run} go=${go} onLost=${() => setKnown(false)} />`;
}

/** A model for as long as its view is there. */
function Followed({ run, go, onLost }) {
  const model = useMemo(() => (run ? new RunModel(run) : new RunsModel()), [run]);
  useEffect(() => {
    model.start();
    return () => model.close();
  }, [model]);
  useModel(model);
  const lost = model.connection.name === "unauthorised";
  useEffect(() => {
    if (!lost) return;
    keepToken("");
    onLost();
  }, [lost]);
  return html`<${Frame} model=${model} run=${run} go=${go}>
    ${run ? html`<${RunView} model=${model} go=${go} />` : html`<${RunsView} model=${model} go=${go} />`}
  <//>`;
}

const exchange = (code) => exchangeCode(address("token"), code).catch(() => "");
const outcome = await takeCode({ location, history, exchange, keep: keepToken });
if (outcome === "refused" && token()) console.info("The code was not taken; the token of before is used.");
render(html`<${App} refused=${outcome === "refused"} />`, document.getElementById("app"));
