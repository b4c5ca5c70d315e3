"""A pipeline of the test project as an Argo workflow: rendered by runnable, run by the controller of `support.argo`."""

from __future__ import annotations

from typing import Any

from support.argo import Argo
from support.project import Project
from support.receiver import Receiver
from support.runlog import run_logs

CONFIG = "argo.yaml"


def rendered(project: Project, receiver: Receiver, name: str, *, config: str = CONFIG, **options: Any) -> Argo:
    """Render a pipeline as a workflow; the controller that runs it, with a new volume."""
    project.pipeline(
        name, CONFIGURATION=config, RUNNABLE_VAR_endpoint=receiver.grpc, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc
    )
    (submit,) = receiver.spans
    assert (submit.kind, submit.attributes["status"]) == ("submit", "submitted")
    receiver.clear()
    volume = project.folder / "volume"
    volume.mkdir()
    return Argo(work=project.folder, volume=volume, environ={"PIPELINE": name}, **options)


def submit(argo: Argo, run_id: str = "nightly", **more: str) -> str:
    """Run the workflow that was rendered; the phase in which it ends."""
    return argo.submit(argo.work / "argo-pipeline.yaml", run_id=run_id, **more)


def log_of(argo: Argo) -> dict[str, Any]:
    """runnable's run log on the volume."""
    (log,) = run_logs(argo.volume, "run_logs")
    return log
