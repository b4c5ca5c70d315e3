"""A real redis-server of the test's own, on a unix socket or a free port of loopback."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


def needs_redis() -> None:
    """Skip the module's tests where there is no Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server", allow_module_level=True)
    pytest.importorskip("redis", reason="needs redis")


class RedisServer:
    """`with RedisServer(folder) as server:`; what it keeps is in the folder.

    Args:
        options: of `redis-server`, such as `appendonly="yes"`; nothing is kept over a restart without them.
    """

    def __init__(self, folder: Path, *, tcp: bool = False, **options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.port = _free_port() if tcp else 0
        self.url = f"redis://127.0.0.1:{self.port}/0" if tcp else f"unix://{self.socket}?db=0"
        self.options = {"save": "", "appendonly": "no", **options}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"dir": str(self.folder), "bind": "127.0.0.1", "port": str(self.port), **self.options}
        options |= {"unixsocket": str(self.socket), "daemonize": "no"}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(100).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Kill it; with SIGTERM it ends as it should."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None
        self.socket.unlink(missing_ok=True)

    def restart(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.stop(how)
        self.start()

    def command(self, *words: str) -> str:
        """One command, without redis-py; the first line of the answer."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.socket))
            client.sendall(f"*{len(words)}\r\n".encode() + b"".join(_bulk(word) for word in words))
            return client.recv(65536).decode().partition("\r\n")[0]

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _bulk(word: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
