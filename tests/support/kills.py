"""Producers that are killed, clients that come again, and a live server that is killed: what a fault sequence needs."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

PRODUCER = Path(__file__).parent / "producer.py"


def facts(trace: str, run_id: str, tasks: int) -> list[dict[str, Any]]:
    """The events of a run, in order."""
    root = "0" * 15 + "1"
    common = {"time": "2026-11-24T00:00:00.000000Z", "run_id": run_id, "trace_id": trace}
    made = [{"type": "pipeline_started", "name": "p", **common, "span_id": root, "uid": f"{trace}:{root}:start"}]
    for number in range(tasks):
        span = f"{number + 16:016x}"
        own = {"name": f"m.task_{number}", **common, "span_id": span, "step": f"task_{number}", "attempt": 1}
        made.append({"type": "task_started", **own, "uid": f"{trace}:{span}:start"})
        made.append({"type": "task_completed", **own, "uid": f"{trace}:{span}:end"})
    end = {"type": "pipeline_completed", "name": "p", "status": "success", **common, "span_id": root}
    return [*made, {**end, "uid": f"{trace}:{root}:end"}]


class Producer:
    """A process that sends a run's events, each at least once, until it is killed or has sent all."""

    def __init__(self, port: int, trace: str, run_id: str, tasks: int, *, batch: int) -> None:
        self._arguments = [str(port), trace, run_id, str(tasks), str(batch)]
        self._acknowledged = 0
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-S", str(PRODUCER), *self._arguments, str(self._acknowledged)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._acknowledged = int(line)

    def kill(self) -> None:
        """SIGKILL it, and start it again where it last heard an answer: what it had sent since, it sends again."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._start()

    @property
    def done(self) -> bool:
        """All is sent."""
        return self._process.poll() is not None

    def finish(self, timeout: float) -> None:
        """Wait until all is sent.

        Raises:
            subprocess.TimeoutExpired: it is not, after so many seconds.
        """
        try:
            assert self._process.wait(timeout) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()


class Client(threading.Thread):
    """Reads a run's stream, comes again as often as it must, and remembers what it saw.

    Attributes:
        uids: in the order in which they came, since the last gap.
        twice: uids that came again without a gap before them.
        gaps: how many there were.
        connections: how often it came.
        frames: how many events it got in all.
        problem: what ended it, if that was not the run's end.
    """

    def __init__(self, ports: list[int], token: str, run: str, *, timeout: float) -> None:
        super().__init__(daemon=True)
        self.ports, self.trace = ports, run
        self._token, self._timeout = token, timeout
        self.uids: dict[str, None] = {}
        self.twice: list[str] = []
        self.gaps = self.connections = self.frames = 0
        self.problem = ""
        self._position = ""
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            with suppress(OSError, http.client.HTTPException):
                if self._visit():
                    return
            self._over.wait(0.05)

    def stop(self) -> None:
        self._over.set()

    def _visit(self) -> bool:
        """One connection; whether the run is over."""
        self.connections += 1
        port = self.ports[self.connections % len(self.ports)]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self._timeout)
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            if self._position:
                headers["Last-Event-ID"] = self._position
            connection.request("GET", f"/runs/{self.trace}/events", headers=headers)
            response = connection.getresponse()
            if response.status == 204:
                return True
            if response.status != 200:
                if response.status not in (404, 503):
                    self.problem = f"{response.status} {response.read()!r}"
                    return True
                return False
            return any(self._take(fields) for fields in _frames(response))
        finally:
            connection.close()

    def _take(self, fields: dict[str, str]) -> bool:
        kind = fields.get("event", "")
        if kind == "gap":
            self.gaps += 1
            self.uids.clear()
        elif not kind and "data" in fields:
            uid = json.loads(fields["data"])["uid"]
            if uid in self.uids:
                self.twice.append(uid)
            self.uids[uid] = None
            self.frames += 1
        self._position = fields.get("id", self._position)
        return kind == "end"


def _frames(response: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    """The frames as our encoder writes them: a field a line, each field once."""
    fields: dict[str, str] = {}
    while line := response.readline():
        if not line.endswith(b"\n"):
            return  # cut in the middle of a line
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            yield fields
            fields = {}
