"""What the README shows is run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from runnable_otel.settings import ACTIVATING, Settings
from support import environments
from support.environments import ROOT
from support.project import Project

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FIRST = next(code for language, code in BLOCKS if language == "python")
TREE = next(code for language, code in BLOCKS if language == "text")
OTHERS = [code for language, code in BLOCKS if language == "python" and code != FIRST]


def without_durations(text: str) -> list[str]:
    return [re.sub(r"\[[\d.]+m?s\]", "[…]", line) for line in text.splitlines()]


def test_first_example(project: Project) -> None:
    """The first example draws the tree that the README shows."""
    (project.folder / "pipeline.py").write_text(FIRST)
    done = project.command(project.python, "pipeline.py", RUNNABLE_TELEMETRY_CONSOLE="true")
    drawn = without_durations(done.stderr)
    start = drawn.index(without_durations(TREE)[0])
    assert drawn[start : start + len(TREE.splitlines())] == without_durations(TREE)


def test_example_file() -> None:
    """The example in the README is the file in examples/."""
    assert (ROOT / "examples" / "pipeline.py").read_text().endswith(FIRST)


@pytest.mark.parametrize("number", range(len(OTHERS)))
def test_other_examples(project: Project, tmp_path: Path, number: int) -> None:
    """Each other Python block of the README runs."""
    code = OTHERS[number]
    if "import logfire\n" in code:
        project.python = str(environments.python("logfire"))
    (project.folder / "block.py").write_text(code)
    done = project.command(project.python, "block.py", LOGFIRE_SEND_TO_LOGFIRE="false")
    assert "Traceback" not in done.stderr


def test_scrubbing_callback(project: Project) -> None:
    """The README's callback keeps logfire's scrubber from our keys, and from nothing else."""
    callback = next(code for code in OTHERS if "keep_ours" in code).replace(
        "logfire.configure(scrubbing",
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "kept = InMemorySpanExporter()\n"
        "logfire.configure(send_to_logfire=False, console=False, "
        "additional_span_processors=[SimpleSpanProcessor(kept)], scrubbing",
    )
    (project.folder / "block.py").write_text(
        f"{callback}\n"
        "with logfire.span('x', **{'inputs': 'session 5', 'other': 'session 5'}): pass\n"
        "(span,) = kept.get_finished_spans()\n"
        "print(span.attributes['inputs'], '|', span.attributes['other'])\n"
    )
    done = project.command(str(environments.python("logfire")), "block.py")
    assert done.stdout.splitlines()[-1] == "session 5 | [Scrubbed due to 'session']"


def test_settings_table() -> None:
    """The table names every setting, and every variable of way in 2 is named."""
    variables = [each.metadata["variable"] for each in dataclasses.fields(Settings)]
    table = README[README.index("## Settings") : README.index("## With logfire")]
    assert [name for name in variables if f"| `{name}` |" not in table] == []
    assert [name for name in ACTIVATING if f"`{name}`" not in README] == []
