"""The real Collector, built by `make collector`, with the files of collector-config/, in a process of its own."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.environments import ROOT
from support.project import environment
from support.table import TABLE
from support.waiting import free_port, wait_until

FOLDER = ROOT / "collector-config"

# What a file needs before it can start: its head says the same.
NEEDED: dict[str, dict[str, str]] = {
    "datadog": {"DD_API_KEY": "a-key"},
    "honeycomb": {"HONEYCOMB_API_KEY": "a-key"},
    "elastic": {"ELASTIC_OTLP_ENDPOINT": "http://127.0.0.1:9", "ELASTIC_AUTHORIZATION": "ApiKey a-key"},
    "logfire": {"LOGFIRE_TOKEN": "a-token"},
    "gateway/agent": {"GATEWAY_RESOLVER": '{static: {hostnames: ["127.0.0.1:9"]}}'},
}

# base.yaml comes first in each. Those of the files' own heads, the README and the manifests: test_collector_files.py
# compares.
COMBINATIONS: list[tuple[str, ...]] = [
    (),
    ("jaeger",),
    ("tempo-grafana",),
    ("datadog",),
    ("honeycomb",),
    ("elastic",),
    ("logfire",),
    ("file",),
    ("live",),
    ("prometheus-red",),
    ("tail-sampling",),
    ("gateway/agent",),
    ("jaeger", "prometheus-red", "live"),
    ("tempo-grafana", "prometheus-red"),
    ("tail-sampling", "jaeger"),
    ("tail-sampling", "prometheus-red", "jaeger", "gateway/gateway"),
    ("logfire", "file", "live"),
]


def program() -> str:
    """The binary that `make collector` made of this builder-config.yaml; skips where there is none."""
    digest = hashlib.sha256((FOLDER / "builder-config.yaml").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = cache / "runnable-otel" / f"collector-{digest}" / "otelcol-runnable"
    if not found.exists():
        pytest.skip("needs collector: make collector, with Go 1.25 or later")
    TABLE.versions = [version(str(found))]
    return str(found)


@cache
def version(binary: str) -> str:
    """What the binary says of itself, and the Go that it was built with."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    go = shutil.which("go")
    built = subprocess.run([go, "version", binary], capture_output=True, text=True, check=True).stdout if go else ""
    return f"{said}, {built.rpartition(' ')[2].strip() or 'Go unknown'}, {Path(binary).parent.name}"


def command(verb: str, *layers: str) -> list[str]:
    """The command line: base.yaml, then the layers."""
    files = [str(FOLDER / f"{layer}.yaml") for layer in ("base", *layers)]
    return [program(), *([verb] if verb else []), *(word for file in files for word in ("--config", file))]


def needed(*layers: str) -> dict[str, str]:
    return {name: value for layer in layers for name, value in NEEDED.get(layer, {}).items()}


def validate(*layers: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `otelcol validate` says."""
    return subprocess.run(
        command("validate", *layers),
        env=environment(FOLDER, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Collector:
    """`with Collector(folder, "jaeger", JAEGER_ENDPOINT=…) as collector:`; its ports stay when it stops and starts.

    `collector.grpc` and `collector.http` take OTLP, `collector.red` serves the RED metrics; its queues are in the folder.
    """  # noqa: E501

    def __init__(self, folder: Path, *layers: str, **variables: str) -> None:
        self.layers, self.folder = layers, folder
        folder.mkdir(parents=True, exist_ok=True)
        names = ("OTELCOL_GRPC_PORT", "OTELCOL_HTTP_PORT", "OTELCOL_HEALTH_PORT", "OTELCOL_METRICS_PORT")
        ports = {name: str(free_port()) for name in (*names, "OTELCOL_RED_PORT")}
        self.grpc = f"http://127.0.0.1:{ports['OTELCOL_GRPC_PORT']}"
        self.http = f"http://127.0.0.1:{ports['OTELCOL_HTTP_PORT']}"
        self.red = f"http://127.0.0.1:{ports['OTELCOL_RED_PORT']}/metrics"
        self._health = f"http://127.0.0.1:{ports['OTELCOL_HEALTH_PORT']}/"
        self._own = f"http://127.0.0.1:{ports['OTELCOL_METRICS_PORT']}/metrics"
        storage = {"OTELCOL_STORAGE": str(folder / "storage")}
        self.variables = {**ports, **storage, **needed(*layers), **variables}
        self._log = folder / "collector.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command("", *self.layers), cwd=self.folder, env=environment(self.folder, **self.variables), stderr=log
            )
        wait_until(self._ready, self.said)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()
        try:
            return httpx.get(self._health, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL: it can save nothing."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop, as a supervisor does; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()

    def said(self) -> str:
        return self._log.read_text()

    def complaints(self) -> list[str]:
        """Each line of its log that is a warning or worse; deprecations are warnings."""
        return [line for line in self.said().splitlines() if re.search(r"\t(warn|error|fatal|dpanic|panic)\t", line)]

    def own_metric(self, name: str) -> float:
        """The sum of one of its own metrics."""
        lines = httpx.get(self._own, trust_env=False).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def post(self, signal_name: str, body: bytes) -> int:
        """Send a request as it is, `signal_name` being traces, logs or metrics; the status of the answer."""
        headers = {"Content-Type": "application/x-protobuf"}
        url = f"{self.http}/v1/{signal_name}"
        return httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False).status_code

    def send(self, signal_name: str, body: bytes) -> None:
        """Send a request, which must be taken."""
        assert self.post(signal_name, body) == 200, self.complaints()

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Raw:
    """`with Raw() as raw:` takes any POST and keeps path, headers and the inflated bytes.

    While `raw.away` is true it answers 503; `raw.refused` are the paths of those requests.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []
        self.away = False
        self.refused: set[str] = set()

    def __enter__(self) -> Raw:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Keeping,), {"raw": self}))
        self.http = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Keeping(BaseHTTPRequestHandler):
    raw: Raw

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        away = self.raw.away
        if away:
            self.raw.refused.add(self.path)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.raw.requests.append((self.path, headers, body))
        self.send_response(503 if away else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""


SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Prometheus' text format as (name, labels, value)."""
    found = [SAMPLE.match(line) for line in text.splitlines() if line and not line.startswith("#")]
    return [(m["name"], dict(LABEL.findall(m["labels"] or "")), float(m["value"])) for m in found if m]
