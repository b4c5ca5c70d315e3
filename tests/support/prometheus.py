"""A real Prometheus on loopback, in a process of its own, that scrapes one address."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.project import environment
from support.waiting import free_port, wait_until


def tool(name: str) -> str:
    """`prometheus` or `promtool`; skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip("needs prometheus: apt-get install prometheus")
    return found


class Prometheus:
    """`with Prometheus(folder, "127.0.0.1:8889") as prometheus:`; it scrapes that address each second."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._port = folder, free_port()
        jobs = [{"job_name": "runnable", "static_configs": [{"targets": [target]}]}]
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
        (folder / "prometheus.yaml").write_text(json.dumps(config))  # JSON is YAML
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Prometheus:
        command = [tool("prometheus"), f"--config.file={self._folder / 'prometheus.yaml'}"]
        command += [f"--storage.tsdb.path={self._folder / 'data'}", f"--web.listen-address=127.0.0.1:{self._port}"]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, env=environment(self._folder), stdout=log, stderr=log)
        wait_until(self._ready, "Prometheus is not ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _get(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30, trust_env=False).json()
        assert answer["status"] == "success", answer
        return answer["data"] if isinstance(answer["data"], list) else answer["data"]["result"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each series, now."""
        return [(each["metric"], float(each["value"][1])) for each in self._get("query", query=expression)]

    def points(self, expression: str, start: float, end: float) -> list[tuple[dict[str, str], list[float]]]:
        """(labels, values) of each series, at each second from `start` to `end`, in seconds since 1970."""
        found = self._get("query_range", query=expression, start=start, end=end, step=1)
        return [(each["metric"], [float(value) for _, value in each["values"]]) for each in found]

    def values_of(self, label: str, matching: str) -> list[str]:
        """The values that a label has among matching series."""
        return self._get(f"label/{label}/values", **{"match[]": matching})  # type: ignore[return-value]
