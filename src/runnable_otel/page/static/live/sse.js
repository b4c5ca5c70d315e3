/** Server-sent events: bytes in, frames out. See the HTML standard, section 9.2.6. */

/**
 * Reads one response; the next response needs a new one, with the last event id of this one.
 *
 * `lastEventId` is where a reader resumes; `retry` is the waiting time in milliseconds, or null.
 */
export class FrameReader {
  constructor(lastEventId = "") {
    this.lastEventId = lastEventId;
    this.retry = null;
    this._decoder = new TextDecoder(); // takes away one byte order mark, as the standard wants it
    this._rest = "";
    this._afterReturn = false;
    this._clear();
    this._id = lastEventId;
  }

  /** The frames that these bytes complete: `{event, data, id}` each. */
  read(bytes) {
    const frames = [];
    let text = this._decoder.decode(bytes, { stream: true });
    if (text && this._afterReturn) {
      if (text[0] === "\n") text = text.slice(1);
      this._afterReturn = false;
    }
    text = this._rest + text;
    let from = 0;
    const ends = /\r\n?|\n/g;
    ends.lastIndex = this._rest.length; // what was left over holds no end of a line
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      this._line(text.slice(from, end.index), frames);
      from = ends.lastIndex;
      // A return may be half of an end that the next bytes complete.
      if (end[0] === "\r" && from === text.length) this._afterReturn = true;
    }
    this._rest = text.slice(from);
    return frames;
  }

  _clear() {
    this._data = null;
    this._event = "";
  }

  _line(line, frames) {
    if (line === "") {
      this.lastEventId = this._id;
      if (this._data !== null) frames.push({ event: this._event || "message", data: this._data, id: this._id });
      this._clear();
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this._data = this._data === null ? value : `${this._data}\n${value}`;
    else if (name === "event") this._event = value;
    else if (name === "id" && !value.includes("\0")) this._id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }
}

/** Whether a response's content type is that of an event stream. */
export function isEventStream(contentType) {
  return (contentType ?? "").split(";")[0].trim().toLowerCase() === "text/event-stream";
}
