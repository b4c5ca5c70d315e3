"""`file:`: each event is one line, whole or absent."""

from __future__ import annotations

import json

from support.project import Project

SCRIPT = """
import json, resource, sys
from runnable_otel.events import Event
from runnable_otel.sinks.file import FileSink

sink = FileSink("file:events.jsonl")
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
failed = []
for number in range(3):
    try:
        sink.emit(Event("chunk", f"uid:{number}", {"text": "x" * 40}))
    except OSError as error:
        failed.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.emit(Event("chunk", "uid:3", {}))
print(json.dumps(failed))
"""


def test_room_for_half_a_line(project: Project) -> None:
    """A line that there is no room for is an error, and leaves nothing behind; the next one that fits is whole."""
    done = project.script(SCRIPT)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    assert len(failed) == 2
    assert "room for" in failed[0]
    lines = (project.folder / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["uid"] for line in lines] == ["uid:0", "uid:3"]
