"""A real `runnable-otel serve` on loopback, in a process of its own, and what to send to it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from support.project import environment

TOKEN = "a-token-of-the-tests"
TIME = "2026-11-24T04:00:00.000000Z"


class Serve:
    """`with Serve(folder, "--db", "x.db") as server:`; every port is a free one, the readers' token is `TOKEN`."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        ports = {"--port": "0", "--otlp-http-port": "0", "--otlp-grpc-port": "off"}
        asked = dict(ports, **dict(zip(options[::2], options[1::2], strict=True)))
        words = [word for pair in asked.items() for word in pair]
        self.command = [sys.executable, "-m", "runnable_otel", "serve", *words]
        self.folder, self.variables = folder, {"RUNNABLE_OTEL_SERVE_TOKEN": TOKEN, **variables}
        self.lines: list[str] = []

    def __enter__(self) -> Serve:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=environment(self.folder, **self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if not line.strip() and len(self.lines) > 4:  # a blank line ends what it says at its start
                break
        self.said = "".join(self.lines)
        found = re.search(r"serve: (http://(\S+):(\d+)(\S*))/#code=(\S+)", self.said)
        assert found, self.said
        self.url, self.host, self.port, self.base, self.code = found[1], found[2], int(found[3]), found[4], found[5]
        otlp = re.search(r"OTLP_ENDPOINT=(http://\S+:(\d+))", self.said)
        assert otlp
        self.otlp, self.otlp_port = otlp[1], int(otlp[2])
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def client(self, **headers: str) -> httpx.Client:
        """A client that may read."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}", **headers}, timeout=30, trust_env=False
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, as a supervisor does, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join()

    def memory(self) -> int:
        """Bytes of memory that it has now."""
        return psutil.Process(self.process.pid).memory_info().rss

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and read all that comes until the server closes, or half a second after its first answer."""
        with socket.create_connection((self.host, self.port), 10) as connection:
            try:
                connection.sendall(data)
                answer = connection.recv(65536)
            except ConnectionError:
                return b""
            return answer

    @contextmanager
    def stream(self, path: str, **headers: str) -> Iterator[Stream]:
        """A stream of events, read from a socket."""
        with socket.create_connection((self.host, self.port), 30) as connection:
            head = [
                f"GET {self.base}{path} HTTP/1.1",
                f"Host: {self.host}:{self.port}",
                f"Authorization: Bearer {TOKEN}",
                *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
            ]
            connection.sendall("\r\n".join([*head, "\r\n"]).encode())
            with closing(Stream(connection)) as stream:
                yield stream

    def send(self, *events: dict[str, Any], url: str = "", **headers: str) -> httpx.Response:
        """Send events as OTLP/HTTP JSON."""
        return httpx.post(f"{url or self.otlp}/v1/logs", json=export(events), headers=headers, trust_env=False)


class Stream:
    """What comes on one connection, chunk by chunk."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._file = connection.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self.last_id = ""
        self.event = ""

    def close(self) -> None:
        """Go; a socket is closed only when its file is too."""
        self._file.close()

    def chunk(self) -> bytes:
        """The next write of the server; empty at its end, or where it is cut."""
        size = int(self._file.readline() or b"0", 16)
        data = self._file.read(size)
        self._file.readline()
        return data

    def frames(self) -> Iterator[tuple[str, str, str]]:
        """Event, data and id of each frame until the end."""
        data, last_id = "", self.last_id
        while chunk := self.chunk():
            for line in chunk.decode().split("\n"):
                if line.startswith("id: "):
                    last_id = line[4:]
                elif line.startswith("event: "):
                    self.event = line[7:]
                elif line.startswith("data: "):
                    data = line[6:]
                elif not line and data:
                    self.last_id = last_id  # not before: what is cut in the midst of a frame was never there
                    yield self.event or "message", data, self.last_id
                    self.event = data = ""

    def uids(self, number: int = 10**9) -> list[str]:
        """The uids of the next events, as many as `number`, or up to the end."""
        found: list[str] = []
        for event, data, _ in self.frames():
            if event == "message":
                found.append(json.loads(data)["uid"])
            if len(found) == number or event == "end":
                break
        return found


def trace_id(number: int) -> str:
    return f"{number:032x}"


def started(trace: int = 1, **fields: Any) -> dict[str, Any]:
    """The start of a run."""
    return _event("pipeline_started", trace, 1, "start", **fields)


def completed(trace: int = 1, **fields: Any) -> dict[str, Any]:
    """Its end."""
    return _event("pipeline_completed", trace, 1, "end", status="success", **fields)


def task(number: int, trace: int = 1, **fields: Any) -> dict[str, Any]:
    """The start of a task."""
    return _event("task_started", trace, number + 2, "start", **fields)


def done(number: int, trace: int = 1, **fields: Any) -> dict[str, Any]:
    """The end of a task."""
    return _event("task_completed", trace, number + 2, "end", **fields)


def whole_run(tasks: int, trace: int = 1) -> list[dict[str, Any]]:
    """All events of a run."""
    inner = [each for number in range(tasks) for each in (task(number, trace), done(number, trace))]
    return [started(trace), *inner, completed(trace)]


def _event(kind: str, trace: int, span: int, edge: str, **fields: Any) -> dict[str, Any]:
    ids = {"run_id": f"run-{trace}", "trace_id": trace_id(trace), "span_id": f"{span:016x}"}
    uid = f"{ids['trace_id']}:{ids['span_id']}:{edge}"
    return {"type": kind, "name": "n", **fields, "uid": uid, "time": TIME, **ids}


def export(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An export request of OTLP, as JSON."""
    records = [
        {
            "eventName": f"runnable.{event['type']}",
            "traceId": event["trace_id"],
            "spanId": event["span_id"],
            "body": {"stringValue": json.dumps(event)},
        }
        for event in events
    ]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
