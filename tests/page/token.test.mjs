/** The code of the printed address. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./source.mjs";

const { takeCode } = await load("live/token.js");

function opened(hash, answer) {
  const said = { replaced: [], kept: [], asked: [] };
  const location = { hash, pathname: "/live/runs/1", search: "?a=b" };
  const history = { state: null, replaceState: (state, title, url) => said.replaced.push(url) };
  const exchange = async (code) => {
    assert.equal(said.replaced.length, 1, "the code leaves the address before anything is sent");
    said.asked.push(code);
    return answer;
  };
  return takeCode({ location, history, exchange, keep: (token) => said.kept.push(token) }).then((outcome) => ({ outcome, ...said }));
}

test("a code becomes a token and leaves the address", async () => {
  const { outcome, replaced, kept, asked } = await opened("#code=a%2Bb", "secret");
  assert.equal(outcome, "ready");
  assert.deepEqual([asked, kept, replaced], [["a+b"], ["secret"], ["/live/runs/1?a=b"]]);
});

test("a code that was used before leaves the address too, and keeps nothing", async () => {
  const { outcome, replaced, kept } = await opened("#code=old", "");
  assert.equal(outcome, "refused");
  assert.deepEqual([kept, replaced.length], [[], 1]);
});

test("without a code nothing is asked", async () => {
  const { outcome, replaced, asked } = await opened("#other", "secret");
  assert.deepEqual([outcome, replaced, asked], ["ready", [], []]);
});
