"""Runs a rendered Argo workflow: each container as a process, in the order and with the fan-out that it states.

What is modelled is what runnable's workflows use: DAG templates with `depends`, `when` and `withParam`, container
templates with inputs, an output from a file, memoisation and retries, and the variables of Argo's documentation.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from support import container

SUCCEEDED, FAILED, SKIPPED, OMITTED = "Succeeded", "Failed", "Skipped", "Omitted"
TAG = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
RESULT = re.compile(r"([\w-]+)\.(\w+)")


@dataclass(frozen=True)
class Ran:
    """One container that ran, and how it ended."""

    template: str
    command: list[str]
    environ: dict[str, str]
    retry: int
    code: int
    output: str


@dataclass
class Outcome:
    """A node of the workflow that is over."""

    phase: str
    output: str = ""


@dataclass
class Argo:
    """A controller, with the config maps that it keeps between workflows.

    Args:
        work: the folder that the image has.
        volume: the persistent volume, which runnable mounts at /tmp.
        environ: further environment of every container, as its image has it.
        secrets: name to keys and values of the cluster's secrets.
        kill: asked for each container that starts; where it says so the container is killed at once.
        parent: gives each container a TRACEPARENT, as Argo 4 does where it has tracing on.
    """

    work: Path
    volume: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kill: Callable[[str, int], int] = lambda template, retry: 0
    parent: Callable[[], str] = lambda: ""
    ran: list[Ran] = field(default_factory=list)
    uid: str = ""
    _caches: dict[tuple[str, str], str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, file: Path, *, uid: str = "", **parameters: str) -> str:
        """Run the workflow of a file to its end; the phase in which it ends.

        Args:
            uid: the workflow's, a new one unless told; with one that was there it is a retry of that workflow.
            parameters: of the workflow, over those that it has.
        """
        workflow = YAML(typ="safe").load(file)
        spec = workflow["spec"].get("workflowSpec", workflow["spec"])
        given = {each["name"]: each.get("value") for each in spec["arguments"]["parameters"]}
        given |= parameters
        missing = [name for name, value in given.items() if value is None]
        assert not missing, f"no value for {missing}"
        created = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        scope = {"workflow.uid": uid or str(uuid.uuid4()), "workflow.creationTimestamp": created}
        scope |= {f"workflow.parameters.{name}": str(value) for name, value in given.items()}
        self.uid = scope["workflow.uid"]
        return _Workflow(self, spec, scope).template(spec["entrypoint"], {}).phase

    def cached(self, key: tuple[str, str]) -> str | None:
        with self._lock:
            return self._caches.get(key)

    def cache(self, key: tuple[str, str], output: str) -> None:
        with self._lock:
            self._caches[key] = output

    def note(self, ran: Ran) -> None:
        with self._lock:
            self.ran.append(ran)


@dataclass
class _Workflow:
    argo: Argo
    spec: dict[str, Any]
    scope: dict[str, str]

    def template(self, name: str, inputs: Mapping[str, str]) -> Outcome:
        (found,) = [each for each in self.spec["templates"] if each["name"] == name]
        defaults = self.spec.get("templateDefaults", {})
        template = {**{key: value for key, value in defaults.items() if key == "retryStrategy"}, **found}
        declared = [each["name"] for each in (template.get("inputs") or {}).get("parameters") or ()]
        scope = {**self.scope, **{f"inputs.parameters.{each}": inputs[each] for each in declared}}
        if "dag" in template:
            return self.dag(template, scope)
        return self.container(template, scope)

    def dag(self, template: dict[str, Any], scope: dict[str, str]) -> Outcome:
        tasks = {each["name"]: each for each in template["dag"]["tasks"]}
        over: dict[str, Outcome] = {}
        running: dict[Future[Outcome], str] = {}
        with ThreadPoolExecutor(8) as pool:
            while len(over) < len(tasks):
                failed = template.get("failFast", True) and FAILED in [each.phase for each in over.values()]
                for name, task in tasks.items():
                    needed = {match[1] for match in RESULT.finditer(task.get("depends") or "")}
                    if name in over or name in running.values() or not needed <= set(over):
                        continue
                    if failed or not _holds(task.get("depends") or "", over):
                        over[name] = Outcome(OMITTED)
                        break
                    outputs = {each: one.output for each, one in over.items()}
                    running[pool.submit(self.task, task, scope, outputs)] = name
                else:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for each in done:
                        over[running.pop(each)] = each.result()
        phases = {each.phase for each in over.values()}
        return Outcome(FAILED if FAILED in phases else SUCCEEDED)

    def task(self, task: dict[str, Any], scope: dict[str, str], outputs: Mapping[str, str]) -> Outcome:
        known = dict(scope)
        for name, output in outputs.items():
            known |= dict.fromkeys(
                (f"tasks.{name}.outputs.parameters.{each}" for each in ("iterate-on", "case")), output
            )
        arguments = (task.get("arguments") or {}).get("parameters") or ()
        if task.get("when"):
            left, right = (each.strip().strip("'\"") for each in substituted(task["when"], known).split("=="))
            if left != right:
                return Outcome(SKIPPED)
        if not task.get("withParam"):
            inputs = {each["name"]: substituted(each["value"], known) for each in arguments}
            return self.template(task["template"], inputs)
        items = json.loads(substituted(task["withParam"], known))
        with ThreadPoolExecutor(8) as pool:
            runs = []
            for item in items:
                known["item"] = item if isinstance(item, str) else json.dumps(item)
                inputs = {each["name"]: substituted(each["value"], known) for each in arguments}
                runs.append(pool.submit(self.template, task["template"], inputs))
            phases = {each.result().phase for each in runs}
        return Outcome(FAILED if FAILED in phases else SUCCEEDED)

    def container(self, template: dict[str, Any], scope: dict[str, str]) -> Outcome:
        memoize = template.get("memoize")
        key = (memoize["cache"]["configMap"]["name"], substituted(memoize["key"], scope)) if memoize else None
        hit = self.argo.cached(key) if key else None
        if hit is not None:
            return Outcome(SUCCEEDED, hit)
        strategy = template.get("retryStrategy")
        for retry in range(1 + int(strategy["limit"] if strategy else 0)):
            known = {**scope, "retries": str(retry)} if strategy else scope
            outcome = self.once(template, known, retry)
            if outcome.phase == SUCCEEDED:
                if key:
                    self.argo.cache(key, outcome.output)
                break
        return outcome

    def once(self, template: dict[str, Any], scope: dict[str, str], retry: int) -> Outcome:
        core = template["container"]
        command = [substituted(word, scope) for word in core["command"]]
        environ = {**container.image_environment(), **self.argo.environ}
        environ |= {each["name"]: self.value(each, scope) for each in core.get("env") or ()}
        if self.argo.parent():
            environ["TRACEPARENT"] = self.argo.parent()
        process = container.start(
            command,
            environ,
            work=self.argo.work,
            tmp=self.argo.volume,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wanted = self.argo.kill(template["name"], retry)
        if wanted:
            process.send_signal(wanted)
        said, _ = process.communicate(timeout=300)
        self.argo.note(Ran(template["name"], command, environ, retry, process.returncode, said))
        if process.returncode:
            return Outcome(FAILED)
        outputs = (template.get("outputs") or {}).get("parameters") or ()
        files = [self.argo.volume / Path(each["valueFrom"]["path"]).relative_to("/tmp") for each in outputs]
        return Outcome(SUCCEEDED, "".join(json.dumps(json.loads(file.read_text())) for file in files).strip('"'))

    def value(self, entry: dict[str, Any], scope: dict[str, str]) -> str:
        if "valueFrom" in entry:
            key = entry["valueFrom"]["secretKeyRef"]
            return self.argo.secrets[key["name"]][key["key"]]
        return substituted(entry["value"], scope)


def substituted(text: str, scope: Mapping[str, str]) -> str:
    """A text with its variables; one that is not known is an error, as it is when a workflow is submitted."""
    return TAG.sub(lambda match: scope[match[1]], text)


def _holds(depends: str, over: Mapping[str, Outcome]) -> bool:
    if not depends:
        return True
    return any(over[match[1]].phase == match[2] for match in RESULT.finditer(depends))
