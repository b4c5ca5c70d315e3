"""What a watcher shows: a tree that is drawn anew, or a line for each start and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TextIO

from runnable_otel.picture import Picture
from runnable_otel.tree import Line, clean, encodable
from runnable_otel.watch.screen import OFTEN, Screen
from runnable_otel.watch.view import counts, entry, tree

_MAX_RUNS: Final = 64  # in sight at once: then the oldest is forgotten


class Display(Protocol):
    """Shows runs. What it raises is an error of the terminal's."""

    @property
    def pictures(self) -> Mapping[str, Picture]:
        """What is known of each run, by trace id; those that are over and told are gone."""
        ...

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        ...

    def say(self, text: str) -> None:
        """The state of the watching itself, such as `reconnecting`."""
        ...

    def tick(self) -> None:
        """To be called about ten times a second."""
        ...

    def close(self) -> None:
        """Leave what has become of the runs."""
        ...


class Lines:
    """A line for each start and end, as it becomes known; no cursor is moved.

    Args:
        stream: where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = ""
        self.pictures: dict[str, Picture] = {}
        self._told: dict[str, dict[str, str]] = {}  # by trace and item, the state that was told

    def take(self, event: Mapping[str, Any]) -> None:
        """Write a line, if the event tells something new."""
        trace = _trace(event)
        item = _picture(self.pictures, trace).add(event)
        if item is None:
            return
        told = self._told.setdefault(trace, {})
        line = entry(item)
        if line and told.get(item.key) != item.state:
            told[item.key] = item.state
            self._write(line)

    def say(self, text: str) -> None:
        """Write a line, if it is another than before, and there is one."""
        if text != self._said:
            self._said = text
            if text:
                self._write(f"-- {clean(text)}")

    def tick(self) -> None:
        """Nothing: each line is written at once."""

    def close(self) -> None:
        """Nothing: all is said."""

    def _write(self, line: str) -> None:
        self._stream.write(encodable(line + "\n", getattr(self._stream, "encoding", None)))
        self._stream.flush()


class Tree:
    """The tree of each run that goes on, in place; a run that is over stays where it was when another one begins.

    Args:
        screen: the terminal.
        now: nanoseconds since 1970.
    """

    def __init__(self, screen: Screen, now: Callable[[], int] = time.time_ns) -> None:
        self._screen = screen
        self._now = now
        self._state = ""
        self._changed = True
        self._second: int = 0
        self._ticked_at = 0.0
        self._size: tuple[int, int] = screen.size()
        self.pictures: dict[str, Picture] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        trace = _trace(event)
        if trace not in self.pictures:
            for done in [known for known, picture in self.pictures.items() if picture.over]:
                self._leave(self.pictures.pop(done))
        if _picture(self.pictures, trace).add(event) is not None:
            self._changed = True

    def say(self, text: str) -> None:
        """Stands below the tree."""
        self._changed = self._changed or text != self._state
        self._state = text

    def tick(self) -> None:
        """Draw what has changed; what runs has a clock that shows seconds."""
        if time.monotonic() - self._ticked_at < OFTEN:
            return
        self._ticked_at = time.monotonic()
        second, size = self._now() // 10**9, self._screen.size()
        if self._changed or second != self._second or size != self._size:
            self._changed, self._second, self._size = False, second, size
            self._screen.show(self._lines())
        self._screen.draw()

    def close(self) -> None:
        """Leave the trees as they are now."""
        left = [line for picture in self.pictures.values() for line in self._final(picture)]
        if self._state and len(self.pictures) == 1 and self._many(*self.pictures.values()):
            left[-1] = Line("", f"{clean(self._state)} · {left[-1].text}", "dim")
        elif self._state:
            left.append(Line("", clean(self._state), "dim"))
        self._screen.close(left)

    def _leave(self, picture: Picture) -> None:
        self._screen.close(self._final(picture))

    def _final(self, picture: Picture) -> list[Line]:
        summary = [Line("", counts(picture), "dim")] if self._many(picture) else []
        return [*tree(picture, self._width, self._screen.room, self._now()), *summary]

    def _many(self, picture: Picture) -> bool:
        return len(picture.items) > self._screen.room

    @property
    def _width(self) -> int:
        return self._screen.size()[0] - 1

    def _lines(self) -> list[Line]:
        room = self._screen.size()[1] - 3  # one for the program's own, one that stays free, one for the state
        each = max(room // max(len(self.pictures), 1), min(room, 3))
        lines = [line for picture in self.pictures.values() for line in tree(picture, self._width, each, self._now())]
        known = ", ".join(counts(picture) for picture in self.pictures.values()) if len(self.pictures) == 1 else ""
        state = " · ".join(filter(None, [clean(self._state), known]))
        return [*lines[: max(room, 0)], *([Line("", state, "dim")] if state else [])]


def _trace(event: Mapping[str, Any]) -> str:
    trace = event.get("trace_id")
    return trace if isinstance(trace, str) else ""


def _picture(pictures: dict[str, Picture], trace: str) -> Picture:
    if trace not in pictures:
        while len(pictures) >= _MAX_RUNS:
            done = next((known for known, picture in pictures.items() if picture.over), next(iter(pictures)))
            del pictures[done]
        pictures[trace] = Picture()
    return pictures[trace]
