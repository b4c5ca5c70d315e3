// Follows a stream of server-sent events, and prints one line of JSON for each frame, or for each piece of a body.
//   node --experimental-eventsource follow.mjs URL        by EventSource, until the server says that there is no more
//   node follow.mjs URL POST                              by fetch
const [url, method] = process.argv.slice(2);
const print = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

if (method) {
  const response = await fetch(url, { method });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) print({ text: piece.value });
} else {
  const source = new EventSource(url);
  const frame = (event) => print({ event: event.type, id: event.lastEventId, data: event.data });
  for (const name of ["message", "gap", "end"]) source.addEventListener(name, frame);
  source.onerror = () => source.readyState === EventSource.CLOSED && process.exit(0);
}
