"""The package as it is installed: entry points, the door, and imports that point one way."""

from __future__ import annotations

import ast
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import runnable_otel
from support.environments import ROOT

SOURCE = ROOT / "src" / "runnable_otel"
WORDS = {"_version", "semconv", "events", "settings", "environment_variables", "capture", "redact", "errors"}
LAYERS = [
    # Each may import those above it. The words, and what is pure, import nothing of ours but each other.
    {*WORDS, "budget", "gaps", "jsontext", "foreign", "secret_names", "secret_texts", "forks", "helper", "still_open"},
    {
        "propagation",
        "handover",
        "resource",
        "late",
        "calm",
        "exporters",
        "tracing",
        "metrics",
        "naming",
        "outline",
        "patches",
        "unused",
        "tree",
    },
    {"spans", "backlog", "log", "pulse", "console", "picture", "runlog"},
    {"worker", "spool"},
    {"delivery"},
    {"sinks", "telemetry"},
    {"scopes"},
    {"run_scope", "node_scope"},
    {"output", "task_scope", "user_span", "elsewhere", "skipped"},
    {"pools"},
    {"facade"},
    {"subprocesses", "argo", "wrappers"},
    {"_startup", "hooks"},
    {"signals", "end"},
    {"instrumentor", "processor", "queues", "provider", "_site"},
    {"sse", "sse_reader", "server_end", "fanout", "inapp", "ingest", "page"},
    {"server"},
    {"cli", "run", "demo", "serve", "watch", "backfill", "replay", "doctor", "env", "testing", "__main__", "__init__"},
]


def top_level_imports(file: Path) -> set[str]:
    """Modules of ours that a file imports when it is imported (not inside a function)."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "runnable_otel":
            rest = (node.module or "").split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names}
    return found


def test_imports_point_one_way() -> None:
    """No module imports one that stands above it."""
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for file in SOURCE.rglob("*.py"):
        relative = file.relative_to(SOURCE).parts
        if "project" in relative:
            continue
        name = relative[0].removesuffix(".py")
        assert name in rank, f"{name} stands in no layer"
        wrong += [(name, other) for other in top_level_imports(file) if rank[other] > rank[name]]
    assert wrong == []


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("opentelemetry_instrumentor", "RunnableInstrumentor"),
        ("opentelemetry_resource_detector", "RunnableResourceDetector"),
        ("opentelemetry_span_processor", "RunnableSpanProcessor"),
    ],
)
def test_entry_point(group: str, name: str) -> None:
    """Each entry point loads the class of the door."""
    (entry,) = entry_points(group=group, name="runnable")
    assert entry.load() is getattr(runnable_otel, name)


def test_environment_variables_entry_point() -> None:
    """opentelemetry-instrument finds our variables."""
    (entry,) = entry_points(group="opentelemetry_environment_variables", name="runnable")
    assert [name for name in dir(entry.load()) if name.startswith("OTEL_")] == ["OTEL_RUNNABLE_SINK_TOKEN"]


def test_door() -> None:
    """All that the door names is there, and nothing else is public."""
    for name in runnable_otel.__all__:
        assert getattr(runnable_otel, name) is not None
    assert dir(runnable_otel) == sorted(runnable_otel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        runnable_otel.nonsense  # noqa: B018 - the access is the test


def test_instruments_extra() -> None:
    """The loader of OpenTelemetry checks the versions of the `instruments` extra; they are the instrumentor's."""
    requires = distribution("runnable-otel").requires or []
    assert "runnable>=0.50; extra == 'instruments'" in [each.replace('"', "'") for each in requires]
    assert list(runnable_otel.RunnableInstrumentor().instrumentation_dependencies()) == ["runnable >= 0.50"]
    assert not [each for each in requires if each.startswith("runnable") and "extra" not in each]
