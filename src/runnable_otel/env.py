"""`runnable-otel env`: what to put into a configuration, so that a container or pod sends where this shell would.

Credentials go by reference, never by value: what is printed may be committed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from runnable_otel.cli import PROGRAM, Parser
from runnable_otel.handover import Reference, credentials, local_endpoints, passed_on
from runnable_otel.redact import Redactor
from runnable_otel.settings import SettingError, Settings

_EPILOG: Final = """\
It prints the OTEL_* and RUNNABLE_OTEL_* variables of this environment that mean
something elsewhere:

  argo    `env` of the defaults of runnable's Argo configuration
  k8s     `env` of the container in runnable's Kubernetes job configuration
  docker  `environment` of runnable's local-container configuration
  dotenv  an .env file

Credentials are references: secretKeyRef:SECRET/KEY becomes a secretKeyRef in
the workflow or job, env:NAME the variable of the process that starts the
container.

example:
  OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.monitoring:4317 \\
      runnable-otel env --format argo
"""
_WHERE: Final = {
    "argo": "pipeline-executor: config: defaults:",
    "k8s": "job-executor: config: jobSpec: template: spec: container:",
    "docker": "pipeline-executor: config: (the same in job-executor)",
}
_SECRET: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_EXAMPLE: Final = {"docker": "host.docker.internal:4317", "dotenv": "host.docker.internal:4317"}


def main(arguments: Sequence[str]) -> int:
    """Print what to put into a configuration.

    Returns:
        The exit code: 0, or 1 where there is nothing to print.
    """
    parser = Parser(
        "env",
        usage=f"{PROGRAM} env --format argo|docker|k8s|dotenv [--secret NAME]",
        description="Print what to put into a configuration:\ncontainers and pods then send where this shell would.",
        epilog=_EPILOG,
    )
    formats = ("argo", "docker", "k8s", "dotenv")
    parser.add_argument("--format", choices=formats, required=True, help="for what", metavar="NAME")
    parser.add_argument(
        "--secret", metavar="NAME", default="runnable-otel",
        help="the Kubernetes secret that holds the credentials; runnable-otel unless told",
    )  # fmt: skip
    words = parser.parse_args(list(arguments))
    if not _SECRET.fullmatch(words.secret):
        parser.error(f"--secret {ascii(words.secret)[:80]}: expected the name of a Kubernetes secret")
    try:
        redactor = Redactor(Settings.read().redact)
    except SettingError as error:
        return _say(str(error))
    given, held_back = passed_on(os.environ, redactor), credentials(os.environ, redactor)
    if not given and not held_back:
        return _say("no variable is set: set OTEL_EXPORTER_OTLP_ENDPOINT to where containers are to send")
    for name in local_endpoints(given):
        example = _EXAMPLE.get(words.format, "collector.monitoring:4317")
        _say(f"{name}={given[name]} is the container itself when it is in one: name what it reaches, such as {example}")
    print(text(words.format, given, held_back, words.secret))  # noqa: T201 - a command's own output
    return 0


def _say(reason: str) -> int:
    print(f"{PROGRAM} env: {reason}", file=sys.stderr)  # noqa: T201 - a command's own output
    return 1


def text(kind: str, given: Mapping[str, str], held_back: Sequence[str], secret: str) -> str:
    """The variables in one of the formats.

    Args:
        kind: `argo`, `k8s`, `docker` or `dotenv`.
        given: name and value of those that are no credentials.
        held_back: the names of those that are.
        secret: the Kubernetes secret that has them, each under its own name.
    """
    if kind == "dotenv":
        plain = [f"{name}={_quoted(value)}" for name, value in given.items()]
        return "\n".join([*plain, *(f"{name}=${{{name}}}" for name in held_back)])
    if kind == "docker":
        lines = [f"  {name}: {json.dumps(value)}" for name, value in given.items()]
        lines += [f"  {name}: env:{name}" for name in held_back]
        return "\n".join([f"# {_WHERE[kind]}", "environment:", *lines])
    entries = {**given, **{name: str(Reference(secret, name)) for name in held_back}}
    lines = [f"  - name: {name}\n    value: {json.dumps(value)}" for name, value in entries.items()]
    created = [f"# kubectl create secret generic {secret} {_literals(held_back)}"] if held_back else []
    return "\n".join([*created, f"# {_WHERE[kind]}", "env:", *lines])


def _literals(names: Sequence[str]) -> str:
    return " ".join(f'--from-literal={name}="${name}"' for name in names)


def _quoted(value: str) -> str:
    """A value as .env files and shells read it; single quotes take everything as it is."""
    return value if re.fullmatch(r"[\w./:@%+,=-]*", value) else "'" + value.replace("'", "'\\''") + "'"
