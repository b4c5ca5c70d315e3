"""Enough of the Docker Engine API for runnable's executors: a container's command runs as a process.

https://docs.docker.com/reference/api/engine/version/v1.51/
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from support import container
from support.project import environment

DIGEST = "sha256:" + "5e" * 32


@dataclass
class Container:
    """One container: the request that made it, and the process once it runs."""

    id: str
    created: dict[str, Any]
    process: subprocess.Popen[str] | None = None
    removed: bool = False

    @property
    def environ(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.created["Env"])


@dataclass
class Docker:
    """`with Docker(work) as docker:`; `docker.run(…)` is a host where that engine is at Docker's usual socket.

    Args:
        work: the folder that the image has, and in which the host works.
        run_as_image: further environment of every container, as its image has it.
        kill: asked for each container that starts, by its number from 0: the signal that ends it at once, or 0.
    """

    work: Path
    run_as_image: dict[str, str] = field(default_factory=dict)
    kill: Any = lambda number: 0
    containers: list[Container] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Docker:
        self._folder = Path(tempfile.mkdtemp(prefix="docker"))  # the path of a socket must be short
        handler = type("Handler", (_Handler,), {"docker": self})
        self._server = _Server(str(self._folder / "docker.sock"), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for each in self.containers:
            if each.process is not None and each.process.poll() is None:
                each.process.kill()
                each.process.communicate()
        shutil.rmtree(self._folder)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the host to its end, with that engine at /run/docker.sock."""
        environ = environment(self.work, **variables)
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = container.start(
            command,
            environ,
            work=self.work,
            tmp=Path(tempfile.gettempdir()),
            mounts=[(self._folder, "/run")],
            **options,
        )
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def create(self, body: dict[str, Any]) -> Container:
        with self._lock:
            made = Container(f"{len(self.containers):064x}", body)
            self.containers.append(made)
        return made

    def start(self, made: Container) -> None:
        tmp = self._folder / made.id[-8:]
        tmp.mkdir()
        mounts = [self._mount(bind) for bind in made.created["HostConfig"].get("Binds") or ()]
        command = made.created["Cmd"]
        made.process = container.start(
            shlex.split(command) if isinstance(command, str) else command,
            {**container.image_environment(), **self.run_as_image, **made.environ},
            work=self.work,
            tmp=tmp,
            mounts=mounts,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wanted = self.kill(int(made.id, 16))
        if wanted:
            made.process.send_signal(wanted)

    def _mount(self, bind: str) -> tuple[Path, str]:
        """A folder of the host, which is made where there is none, as Docker does, and where it is in the container."""
        source, target = bind.split(":")[:2]
        folder = self.work / Path(source).relative_to(container.WORK)
        if not folder.exists():
            folder.mkdir(parents=True)
        return folder, target


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    docker: Docker

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""

    def do_GET(self) -> None:
        path = re.sub(r"^/v[\d.]+", "", self.path.partition("?")[0])
        if path == "/version":
            self._answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "test"})
        elif path.startswith("/images/"):
            self._answer(200, {"Id": DIGEST, "RepoDigests": [f"an-image@{DIGEST}"]})
        elif path.endswith("/logs"):
            self._logs(self._found(path))
        else:
            self._answer(200, self._described(self._found(path)))

    def do_POST(self) -> None:
        path = re.sub(r"^/v[\d.]+", "", self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/containers/create":
            made = self.docker.create(json.loads(body))
            self._answer(201, {"Id": made.id, "Warnings": []})
        else:
            self.docker.start(self._found(path))
            self._answer(204, None)

    def do_DELETE(self) -> None:
        self._found(self.path).removed = True
        self._answer(204, None)

    def _found(self, path: str) -> Container:
        name = path.partition("/containers/")[2].partition("/")[0].partition("?")[0]
        return next(each for each in self.docker.containers if each.id == name)

    @staticmethod
    def _described(made: Container) -> dict[str, Any]:
        process = made.process
        code = process.wait(timeout=60) if process is not None else None
        status = "created" if process is None else "exited"
        code = 128 - code if code is not None and code < 0 else code
        return {"Id": made.id, "Config": {"Tty": False}, "State": {"Status": status, "ExitCode": code or 0}}

    def _logs(self, made: Container) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.multiplexed-stream")
        self.end_headers()
        assert made.process is not None
        assert made.process.stdout is not None
        with made.process.stdout:
            for line in made.process.stdout:
                data = line.encode()
                self.wfile.write(struct.pack(">BxxxL", 1, len(data)) + data)
        made.process.wait()

    def _answer(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
