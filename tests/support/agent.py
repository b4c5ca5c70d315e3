"""rotel, a real OpenTelemetry agent that comes as a wheel: it takes OTLP on loopback and sends it on.

What it guarantees: it answers before it has sent on, and holds what it took in memory. Told to stop (SIGTERM) it sends
on what it holds, and exits; it gives up after 3 s where its own endpoint is away. Killed, it loses up to a batch.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from functools import cache
from pathlib import Path

import pytest

from support import environments
from support.waiting import LONG, free_port, wait_until


@cache
def program() -> Path:
    """The agent's program, from an environment of its own, made once and kept as long as its lock file is the same."""
    try:
        folder = environments.virtual("agents")
    except AssertionError as error:
        pytest.skip(f"needs rotel: {error}")  # there is a wheel for Linux only
    (found,) = folder.glob("lib/python*/site-packages/rotel/rotel-agent")
    return found


class Agent:
    """`with Agent(folder, endpoint) as agent:`; `agent.grpc` and `agent.http` stay the same when it stops and starts.

    Args:
        folder: for its files.
        endpoint: where it sends on what it gets, over gRPC.
    """

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._ports = free_port(), free_port()
        self.grpc, self.http = (f"http://127.0.0.1:{port}" for port in self._ports)
        self._command = [program(), "start", "--pid-file", folder / "agent.pid", "--log-file", folder / "agent.log"]
        self._command += ["--otlp-grpc-endpoint", f"127.0.0.1:{self._ports[0]}"]
        self._command += ["--otlp-http-endpoint", f"127.0.0.1:{self._ports[1]}"]
        self._command += ["--exporter", "otlp", "--otlp-exporter-endpoint", endpoint]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        self._process = subprocess.Popen(self._command, env={}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: all(map(_listens, self._ports)), "the agent does not listen")

    def stop(self) -> None:
        """Tell it to stop, and wait until it has: what it held is at its endpoint then."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is not None:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
