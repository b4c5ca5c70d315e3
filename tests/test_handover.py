"""What a process elsewhere is told of this one's environment, and how a configuration names a credential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from runnable_otel import handover
from runnable_otel.env import text
from runnable_otel.redact import Redactor
from support.project import Project

REDACTOR = Redactor()
PASSED = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    "OTEL_SERVICE_NAME": "nightly",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,team=a b",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.5",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis",
    "RUNNABLE_OTEL_CAPTURE": "keys",
    "RUNNABLE_OTEL_REDACT": "internal_.*",
    "RUNNABLE_OTEL_MAX_VALUE_BYTES": "512",
    "RUNNABLE_OTEL_SINKS": "otlp:",
}
CREDENTIALS = {
    "LOGFIRE_TOKEN": "pylf_v1_eu_x",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-scope=1",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-scope=1",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-scope=1",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://user:hunter2@zipkin:9411",
    "OTEL_MY_API_KEY": "1234",
    "OTEL_RUNNABLE_SINK_TOKEN": "abc",
    "RUNNABLE_OTEL_SOME_TOKEN": "abc",
}
LEFT = {
    # Files and folders of this machine, the server's own options, and what a pod is told.
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/etc/ca.pem",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": "/etc/key.pem",
    "OTEL_CONFIG_FILE": "/etc/otel.yaml",
    "RUNNABLE_OTEL_SPOOL": "/var/spool",
    "RUNNABLE_OTEL_SERVE_TOKEN": "abc",
    "RUNNABLE_OTEL_SERVE_PORT": "8765",
    "RUNNABLE_OTEL_SEED": "uid",
    "RUNNABLE_OTEL_STARTED": "2026-01-01T00:00:00Z",
    "RUNNABLE_OTEL_TRY": "0/1",
    # Not ours, or not set.
    "RUNNABLE_TELEMETRY_CONSOLE": "true",
    "RUNNABLE_PRM_x": "1",
    "AWS_SECRET_ACCESS_KEY": "x",
    "PATH": "/bin",
    "OTEL_EXPORTER_OTLP_INSECURE": "",
}


def test_what_is_passed_on() -> None:
    """The variables of OpenTelemetry and ours that mean something elsewhere, and no credential, by name or by look."""
    environ = {**PASSED, **CREDENTIALS, **LEFT}
    assert handover.passed_on(environ, REDACTOR) == PASSED
    assert handover.credentials(environ, REDACTOR) == sorted(CREDENTIALS)


def test_the_users_own_patterns_count() -> None:
    """What `RUNNABLE_OTEL_REDACT` calls secret is a credential here too."""
    environ = {"OTEL_SCOPE_ORG": "acme"}
    assert handover.passed_on(environ, REDACTOR) == environ
    assert handover.passed_on(environ, Redactor(("scope_org",))) == {}
    assert handover.credentials(environ, Redactor(("scope_org",))) == ["OTEL_SCOPE_ORG"]


@pytest.mark.parametrize(
    ("name", "value", "local"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://LOCALHOST", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317", True),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://127.0.0.1:4317/v1", True),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://127.8.9.1:4317", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:4317", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://0.0.0.0:4317", True),
        ("RUNNABLE_OTEL_SINKS", "file:x.jsonl, otlp:http://localhost:4318", True),
        ("RUNNABLE_OTEL_SINKS", "otlp:,file:localhost", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost.example.com:4317", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1:4317", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", False),
        ("OTEL_SERVICE_NAME", "http://localhost", False),
    ],
)
def test_endpoints_of_this_machine(name: str, value: str, local: bool) -> None:
    """An endpoint on this machine is another one in a container; what is no URL is for the exporter to complain of."""
    assert handover.local_endpoints({name: value}) == [name] * local


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("secretKeyRef:otel/headers", ("otel", "headers")),
        ("secretKeyRef:my.secret-1/OTEL_EXPORTER_OTLP_HEADERS", ("my.secret-1", "OTEL_EXPORTER_OTLP_HEADERS")),
        ("secretKeyRef:otel", None),
        ("secretKeyRef:UPPER/x", None),
        ("secretKeyRef:otel/a/b", None),
        ("secretKeyRef:otel/headers\n", None),
        ("x-key=1", None),
        ("", None),
    ],
)
def test_references(value: str, expected: tuple[str, str] | None) -> None:
    """A reference reads back as what it was written from; what only looks like one is a value."""
    found = handover.reference(value)
    assert found == expected
    assert found is None or str(found) == value


def test_variables_of_the_process_that_starts_a_container() -> None:
    """`env:NAME` stands for a variable, of ours only: no configuration can read another one."""
    configured = {"OTEL_EXPORTER_OTLP_HEADERS": "env:HEADERS", "OTEL_SERVICE_NAME": "x", "OTHER": "env:AWS_SECRET"}
    environ = {"HEADERS": "x-key=1", "AWS_SECRET": "x"}
    assert handover.resolved(configured, environ) == {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=1"}
    assert handover.resolved({"LOGFIRE_TOKEN": "env:NOT_THERE"}, {}) == {"LOGFIRE_TOKEN": ""}


# --- the command -----------------------------------------------------------------------------------------------------


def env(project: Project, *arguments: str, check: bool = True, **variables: str) -> Any:
    return project.command(
        str(Path(project.python).parent / "runnable-otel"), "env", *arguments, check=check, **variables
    )


ENVIRON = {**PASSED, **CREDENTIALS}
SECRETS = ("pylf_v1_eu_x", "x-scope=1", "hunter2", "1234", "abc")


@pytest.mark.parametrize("kind", ["argo", "k8s"])
def test_kubernetes_formats(project: Project, kind: str) -> None:
    """A list of names and values that runnable's own models take, credentials as references to the secret."""
    printed = env(project, "--format", kind, "--secret", "otel", **ENVIRON).stdout
    made = YAML(typ="safe").load(printed)["env"]
    assert {each["name"]: each["value"] for each in made} == {
        **PASSED,
        **{name: f"secretKeyRef:otel/{name}" for name in CREDENTIALS},
    }
    assert all(secret not in printed for secret in SECRETS)
    from extensions.job_executor.k8s import EnvVar as JobVariable
    from extensions.pipeline_executor.argo import EnvVar as WorkflowVariable

    for each in made:
        (WorkflowVariable if kind == "argo" else JobVariable)(**each)


def test_docker_format(project: Project) -> None:
    """The `environment` of a local container; credentials are the variables of the process that starts it."""
    printed = env(project, "--format", "docker", **ENVIRON).stdout
    made = YAML(typ="safe").load(printed)["environment"]
    assert made == {**PASSED, **{name: f"env:{name}" for name in CREDENTIALS}}
    assert handover.resolved(made, ENVIRON) == CREDENTIALS
    assert all(secret not in printed for secret in SECRETS)


def test_dotenv_format(project: Project) -> None:
    """An .env file that a shell reads back; credentials are those of that shell."""
    odd = {"OTEL_RESOURCE_ATTRIBUTES": 'a=it\'s $HOME `x`,b="c"'}
    printed = env(project, "--format", "dotenv", **{**ENVIRON, **odd}).stdout
    (project.folder / ".env").write_text(printed)
    script = "set -a; . ./.env; env"
    back = dict(
        line.split("=", 1)
        for line in project.command("/bin/sh", "-c", script, **CREDENTIALS).stdout.splitlines()
        if "=" in line
    )
    expected = {**ENVIRON, **odd}
    assert {name: back.get(name) for name in expected} == expected
    assert all(secret not in printed for secret in SECRETS)


def test_what_the_command_says(project: Project) -> None:
    """Nothing set, an endpoint that no container reaches, and a name that is none: one line each."""
    done = env(project, "--format", "argo", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "set OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr
    done = env(project, "--format", "k8s", OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4317")
    assert len(done.stderr.splitlines()) == 1
    assert "http://localhost:4317 is the container itself" in done.stderr
    for arguments in (("--format", "helm"), (), ("--format", "argo", "--secret", "No Name")):
        done = env(project, *arguments, check=False)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    done = env(project, "--format", "argo", check=False, RUNNABLE_OTEL_MAX_VALUE_BYTES="1", OTEL_SERVICE_NAME="x")
    assert done.returncode == 1
    assert "RUNNABLE_OTEL_MAX_VALUE_BYTES" in done.stderr


def test_no_credentials_no_secret() -> None:
    """Where no credential is set, no secret is spoken of."""
    assert "kubectl" not in text("argo", {"OTEL_SERVICE_NAME": "x"}, [], "otel")
    assert '--from-literal=A="$A" --from-literal=B="$B"' in text("k8s", {}, ["A", "B"], "otel")
