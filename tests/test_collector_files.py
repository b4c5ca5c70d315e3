"""The files of collector-config/ as they are written: structure, names and types, without a Collector.

What the Collector makes of them, tests/test_collector*.py ask the real one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.collector import COMBINATIONS, FOLDER, NEEDED
from support.environments import ROOT

FILES = sorted(path for path in FOLDER.rglob("*") if path.suffix == ".yaml" or path.name == "build")
LAYERS = sorted({"base", *(layer for layers in COMBINATIONS for layer in layers)})
SECTIONS = ("receivers", "processors", "exporters", "connectors", "extensions")
VARIABLE = re.compile(r"\$\{env:([A-Z0-9_]+)(?::-([^}]*))?\}")
DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+")
SECRET = re.compile(r"authorization|token|api-?key|team|password|secret", re.IGNORECASE)
REPEATED = re.compile(r"--config[ =](?:\S*/)?([a-z-]+(?:/[a-z-]+)?)\.yaml")

# What a setting is, by its name: those that the files use.
TYPES: dict[str, Any] = {
    **dict.fromkeys(
        ("initial_interval", "max_interval", "max_elapsed_time", "flush_timeout", "check_interval"), "duration"
    ),
    **dict.fromkeys(("flush_interval", "metrics_flush_interval", "metrics_expiration", "timeout"), "duration"),
    **dict.fromkeys(("series_expiration", "metric_expiration", "decision_wait"), "duration"),
    **dict.fromkeys(("max_connection_age", "max_connection_age_grace"), "duration"),
    **dict.fromkeys(("enabled", "insecure", "create_directory", "recreate", "fsync", "on_start", "on_rebound"), bool),
    **dict.fromkeys(("cleanup_on_start", "allow_all_keys", "redact_all_types"), bool),
    **dict.fromkeys(("queue_size", "num_consumers", "min_size", "max_size", "num_traces", "limit_percentage"), int),
    **dict.fromkeys(("spike_limit_percentage", "maximum_trace_size_bytes", "sampling_percentage", "max_backups"), int),
    **dict.fromkeys(("max_megabytes", "aggregation_cardinality_limit", "max_recv_msg_size_mib", "port"), int),
    **dict.fromkeys(("endpoint",), "endpoint"),
}


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def layer(name: str) -> dict[str, Any]:
    return read(FOLDER / f"{name}.yaml")


def head(file: Path) -> str:
    """The comment at the top, as one line."""
    lines = file.read_text().removeprefix("#!/usr/bin/env bash\n").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return re.sub(r"\s+", " ", " ".join(line.lstrip("#").rstrip("\\ ") for line in comment))


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each setting with the keys that lead to it."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, str(key)))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, path)
    else:
        yield path, value


def filled(value: Any) -> Any:
    """A value as it is when no variable is set that need not be: as YAML reads it then."""
    if not isinstance(value, str) or not VARIABLE.search(value):
        return value
    return yaml.safe_load(VARIABLE.sub(lambda found: found[2] if found[2] is not None else "set:1", value))


def kind_of(name: str) -> str:
    """A component's type as its module is called: `otlp_http/live` is of the module `otlphttp…`."""
    kind = name.partition("/")[0].replace("_", "")
    return "otlp" if kind == "otlpgrpc" else kind


def in_build_list() -> dict[str, set[str]]:
    """The types that each section of builder-config.yaml has."""
    suffix = re.compile(r"(receiver|processor|exporter|connector|extension)$")
    built = {section: [entry["gomod"].split()[0] for entry in entries] for section, entries in sections().items()}
    return {section: {suffix.sub("", each.rpartition("/")[2]) for each in built[section]} for section in built}


def sections() -> dict[str, Any]:
    return {name: entries for name, entries in layer("builder-config").items() if name in SECTIONS}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_head(file: Path) -> None:
    """Each file says at its top what it is for, how it is started, and what is seen then."""
    said = head(file)
    assert [words for words in ("What it is for:", "How to start", "What you will see:") if words not in said] == []


@pytest.mark.parametrize("name", LAYERS)
def test_components(name: str) -> None:
    """What a file names is in the build list, and is defined there or in the files that come before it."""
    built = in_build_list()
    known: dict[str, set[str]] = {section: set() for section in SECTIONS}
    combination = next(layers for layers in (*COMBINATIONS, (name,)) if name in ("base", *layers))
    for each in ("base", *combination):
        content = layer(each)
        assert set(content) <= {*SECTIONS, "service"}, each
        for section in SECTIONS:
            known[section] |= set(content.get(section) or {})
    for section in SECTIONS:
        for component in layer(name).get(section) or {}:
            assert kind_of(component) in built[section], f"{component} is not in builder-config.yaml"
    ends = {
        "receivers": known["receivers"] | known["connectors"],
        "processors": known["processors"],
        "exporters": known["exporters"] | known["connectors"],
    }
    for pipeline, parts in (layer(name).get("service") or {}).get("pipelines", {}).items():
        assert re.fullmatch(r"(traces|logs|metrics)(/[a-z_]+)?", pipeline)
        assert set(parts) <= set(ends), pipeline
        for section, components in parts.items():
            assert set(components) <= ends[section], f"{pipeline}: {section}"
    assert set((layer(name).get("service") or {}).get("extensions", [])) <= known["extensions"]


@pytest.mark.parametrize("name", LAYERS)
def test_types(name: str) -> None:
    """Durations, sizes, switches and addresses are what they are called, with the defaults of their variables."""
    for path, raw in leaves({section: layer(name).get(section) for section in SECTIONS}):
        value, wanted = filled(raw), TYPES.get(path[-1])
        where = f"{'.'.join(path)}: {raw!r}"
        if wanted == "duration":
            assert DURATION.fullmatch(str(value)), where
        elif wanted == "endpoint":
            assert re.fullmatch(r"(https?://)?[\w.:-]+", str(value)), where
        elif wanted is not None:
            assert type(value) is wanted, where


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_is_lost_in_an_outage(name: str) -> None:
    """Whatever sends over a network has a bounded queue on disk, and tries again without end."""
    for exporter, settings in (layer(name).get("exporters") or {}).items():
        if kind_of(exporter) not in ("otlp", "otlphttp", "loadbalancing"):
            continue
        queue, retry = settings["sending_queue"], settings["retry_on_failure"]
        assert (queue["enabled"], queue["storage"], queue["sizer"]) == (True, "file_storage", "bytes"), exporter
        assert 0 < queue["queue_size"] <= 2**30, exporter
        assert (retry["enabled"], retry["max_elapsed_time"]) == (True, "0s"), exporter


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_no_credential(file: Path) -> None:
    """What holds a credential names a variable, and gives it no default but an empty one."""
    documents = [] if file.name == "build" else yaml.safe_load_all(file.read_text())
    for path, value in leaves(list(documents)):
        if not (isinstance(value, str) and SECRET.search(path[-1])) or path[-1] == "automountServiceAccountToken":
            continue
        references = re.findall(r"\$\{(?:env:)?[A-Z0-9_]+(?::-?\}|:\?[^}]*\}|\})", value)
        assert value.removeprefix("Bearer ") in references, f"{'.'.join(path)}: {value}"


@pytest.mark.parametrize("name", LAYERS)
def test_variables(name: str) -> None:
    """The head names each variable, and those that must be set are those without a default."""
    text, said = (FOLDER / f"{name}.yaml").read_text(), head(FOLDER / f"{name}.yaml")
    used = {found[1]: found[2] for found in VARIABLE.finditer(text)}
    base = {found[1] for found in VARIABLE.finditer((FOLDER / "base.yaml").read_text())}
    assert [variable for variable in used if variable not in said and not (name != "base" and variable in base)] == []
    assert {variable for variable, default in used.items() if default is None} == set(NEEDED.get(name, {}))
    must, _, _ = said.partition("May be set:")
    assert [variable for variable in NEEDED.get(name, {}) if variable not in must.partition("Must be set:")[2]] == []


def test_rules_are_the_same_everywhere() -> None:
    """What is masked in spans is masked in logs; each rule of names knows the same names."""
    redact = layer("base")["processors"]["transform/redact"]
    spans, logs = redact["trace_statements"][0]["statements"], redact["log_statements"][0]["statements"]
    rules = [[each for each in statements if each.startswith("replace_all_patterns")] for statements in (spans, logs)]
    assert [rule.replace("span.attributes", "log.attributes") for rule in rules[0]] == rules[1]
    names = [re.findall(r"passw.*?cred\(\?:ential\)\?s\?", re.sub(r"\[[_.-]+\]\?", "[_-]?", rule)) for rule in rules[0]]
    found = {each for many in names for each in many}
    assert len(found) == 1
    assert sum(map(len, names)) >= 2


def documented() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each command line with several files: in the heads, the README and the manifests."""
    for file in [*FILES, ROOT / "README.md"]:
        text = re.sub(r"\\\s*\n#?\s*", "", file.read_text())
        for line in text.splitlines():
            found = REPEATED.findall(line)
            if len(found) > 1:
                yield str(file.relative_to(ROOT)), tuple(each for each in found if each != "base")


def test_documented_combinations_are_run() -> None:
    """What a head, the README, compose or a manifest puts together, the real Collector is tested with."""
    named = {"agent": "gateway/agent", "gateway": "gateway/gateway"}
    tested = {frozenset(layers) for layers in COMBINATIONS}
    seen = [(where, frozenset(named.get(each, each) for each in layers)) for where, layers in documented()]
    assert len(seen) > 8
    assert [(where, sorted(layers)) for where, layers in seen if layers not in tested] == []


def test_manifests() -> None:
    """Each object has a kind and a name, images have the version of the build list, and what is mounted is there."""
    version = layer("builder-config")["dist"]["version"]
    for file in FOLDER.glob("kubernetes/*.yaml"):
        for made in yaml.safe_load_all(file.read_text()):
            assert {"apiVersion", "kind", "metadata"} <= set(made), file.name
            assert made["metadata"].keys() & {"name", "generateName"}, file.name
    images = {
        value
        for file in FILES
        if file.name != "build"
        for path, value in leaves(list(yaml.safe_load_all(file.read_text())))
        if path[-1] == "image"
    }
    assert {image for image in images if "collector" in image} == {f"otel/opentelemetry-collector-contrib:{version}"}
    assert all(re.search(r":v?\d", image) for image in images if image != "your-image")
    kustomization = layer("kustomization")
    for made in kustomization["configMapGenerator"]:
        assert all((FOLDER / each.rpartition("=")[2]).is_file() for each in made["files"])
    assert all((FOLDER / each).is_file() for each in kustomization["resources"])
    compose = layer("docker-compose")
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        sources = [volume.partition(":")[0] for volume in service.get("volumes", ())]
        assert all((FOLDER / each).exists() if each.startswith(".") else each in compose["volumes"] for each in sources)


def test_dashboard() -> None:
    """Each panel asks for metrics that prometheus-red.yaml makes, by labels that it sets."""
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "runs.json").read_text())
    red = layer("prometheus-red")["connectors"]["span_metrics"]
    labels = {each["name"] for each in red["dimensions"]} | {"le", "service_name", "job", "instance"}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 5
    made = re.compile(rf"{red['namespace']}_(calls_total|duration_seconds_(bucket|sum|count))")
    for query in queries:
        metrics = set(re.findall(r"\b[a-z_]+(?=\{)", query))
        assert metrics
        assert [each for each in metrics if not made.fullmatch(each)] == [], query
        asked = {
            label for found in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)\s*(?:=|!)", found)
        }
        grouped = {label.strip() for found in re.findall(r"\bby \(([^)]*)\)", query) for label in found.split(",")}
        assert asked | grouped <= labels, query
