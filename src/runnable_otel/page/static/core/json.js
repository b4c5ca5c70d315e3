/** JSON in which no integer loses a digit: those beyond 2**53 are BigInt, where the browser gives their text. */

const LONG = /[0-9]{16}/;

export function parse(text) {
  if (!LONG.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => {
    const exact = typeof value !== "number" || Number.isSafeInteger(value) || !/^-?[0-9]+$/.test(context?.source ?? "");
    return exact ? value : BigInt(context.source);
  });
}

export function stringify(value, indent) {
  const raw = JSON.rawJSON ?? String;
  return JSON.stringify(value, (key, each) => (typeof each === "bigint" ? raw(String(each)) : each), indent);
}
