"""A live server that is none of ours: it sends one run in frames of every shape, and is cut in the midst of them."""

from __future__ import annotations

import http.server
import json
from typing import ClassVar

from support.serve import completed, done, started, task, trace_id


class Piecemeal(http.server.BaseHTTPRequestHandler):
    """A server that is cut in the midst of a frame, and sends what the standard allows a byte at a time."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.send_response(200 if len(self.asked) < 8 else 403)  # who asks for ever is sent away
        if not self.path.endswith("/events"):
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"trace_id": trace_id(1), "status": "success"}).encode())
            return
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        begin, first, second, end = (json.dumps(each, indent=1) for each in (started(), task(1), done(1), completed()))
        frames = [
            "\ufeffretry: 10\r\n\r\n: heartbeat\r\r" + framed("one", begin, "\r\n"),
            framed("two", first, "\r"),
            framed("three", second, "\n"),
            framed("four", end, "\n") + "event: end\ndata: {}\n\n",
        ]
        last = self.headers.get("Last-Event-ID", "")
        self.asked.append(last)
        sent = "".join(frames[["", "one", "two", "three"].index(last) :]).encode()
        for at in range(len(sent) if last == "three" else sent.rindex(b"\nid: " if last else b"\rid: ")):
            self.wfile.write(sent[at : at + 1])

    def log_message(self, *_: object) -> None:
        """Nothing."""


def framed(position: str, data: str, line_end: str) -> str:
    lines = [f"id: {position}", *(f"data:{line}" for line in data.splitlines()), ""]
    return line_end.join(["", *lines, ""]) if position != "one" else line_end.join([*lines, ""])
