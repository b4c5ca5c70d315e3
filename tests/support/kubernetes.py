"""Enough of the Kubernetes API for runnable's executors: the pods of a Job run as processes.

`batch/v1` Jobs and CronJobs: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/
"""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support import container

CONFIG = """
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: test}}]
clusters: [{name: test, cluster: {server: "%s"}}]
users: [{name: test, user: {}}]
"""


@dataclass(frozen=True)
class Ran:
    """One pod that ran, and how it ended."""

    job: str
    environ: dict[str, str]
    code: int
    output: str


@dataclass
class Kubernetes:
    """`with Kubernetes(work, …) as cluster:`; `work / "kube.yaml"` is how to reach it.

    Args:
        work: the folder that the image has.
        volumes: name of a persistent volume claim, or path on the node, to the folder that it is.
        environ: further environment of every container, as its image has it.
        secrets: name to keys and values of the cluster's secrets.
        kill: asked for each pod that starts, by its number from 0: the signal that ends it at once, or 0.
    """

    work: Path
    volumes: Mapping[str, Path]
    environ: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kill: Callable[[int], int] = lambda number: 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    _jobs: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Kubernetes:
        handler = type("Handler", (_Handler,), {"cluster": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        (self.work / "kube.yaml").write_text(CONFIG % address)
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
        self._server.shutdown()
        self._server.server_close()

    def settle(self) -> None:
        """Wait until all jobs are over."""
        for job in self._jobs:
            job.join()

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """A Job starts at once; a CronJob waits for `fire`."""
        self.bodies.append(body)
        if kind == "jobs":
            self.start(body["metadata"]["name"], body["spec"])
        body["metadata"]["uid"] = str(uuid.uuid4())
        return body

    def fire(self, cron: dict[str, Any]) -> None:
        """A CronJob's time has come."""
        name = f"{cron['metadata']['name']}-{len(self._jobs)}"
        self.start(name, cron["spec"]["jobTemplate"]["spec"])

    def start(self, name: str, spec: dict[str, Any]) -> None:
        job = threading.Thread(target=self._run, args=(name, str(uuid.uuid4()), spec))
        self._jobs.append(job)
        job.start()

    def _run(self, name: str, uid: str, spec: dict[str, Any]) -> None:
        """Pods one after the other, until one succeeds or the limit is reached."""
        for _ in range(1 + spec["backoffLimit"]):
            if self._pod(name, uid, spec["template"]["spec"]) == 0:
                return

    def _pod(self, name: str, uid: str, spec: dict[str, Any]) -> int:
        (main,) = spec["containers"]
        sources = {each["name"]: each for each in spec.get("volumes") or ()}
        mounts = [(self._folder(sources[each["name"]]), each["mountPath"]) for each in main.get("volumeMounts") or ()]
        values = {each["name"]: self._value(each, uid) for each in main.get("env") or ()}
        environ = {**container.image_environment(), **self.environ, **values}
        number = len(self.ran)
        tmp = self.work / f"pod-{uuid.uuid4()}"
        tmp.mkdir()
        process = container.start(
            main["command"],
            environ,
            work=self.work,
            tmp=tmp,
            mounts=mounts,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wanted = self.kill(number)
        if wanted:
            process.send_signal(wanted)
        said, _ = process.communicate(timeout=300)
        self.ran.append(Ran(name, environ, process.returncode, said))
        return process.returncode

    def _folder(self, volume: dict[str, Any]) -> Path:
        claim = volume.get("persistentVolumeClaim")
        return self.volumes[claim["claimName"] if claim else volume["hostPath"]["path"]]

    def _value(self, entry: dict[str, Any], uid: str) -> str:
        source = entry.get("valueFrom")
        if source is None:
            return entry["value"]
        if "secretKeyRef" in source:
            return self.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        labels = {"metadata.labels['batch.kubernetes.io/controller-uid']": uid}
        return labels[source["fieldRef"]["fieldPath"]]


class _Handler(BaseHTTPRequestHandler):
    cluster: Kubernetes

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = self.path.partition("?")[0].rpartition("/")[2]
        data = json.dumps(self.cluster.create(kind, body)).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
