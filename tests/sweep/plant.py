"""The tasks of the sweep: each says the text of the case in one place. `CASE` is the case that runs."""

import os
from typing import Any

CASE: dict[str, Any] = {}


def text() -> str:
    """What the task says: the planted text; for a secret of the secrets manager, as the task was given it."""
    if CASE["kind"] == "manager":
        return CASE["frame"].replace("{}", os.environ["PLANTED"])
    return CASE["text"]


def value():
    """The text as a value, under a key, or as a number."""
    if CASE["kind"] == "key":
        return {CASE["key"]: CASE["core"], "control": CASE["control"]}
    if CASE["number"]:
        return [CASE["control"], int(CASE["core"])]
    return text()


def gives():
    return value()


def nests():
    return {"deep": [{"er": [value()]}], "also": (value(), "x")}


def items():
    """The items of a map: the text, or a number."""
    return [int(CASE["core"]) if CASE["number"] else text(), CASE["control"]]


def takes(given=None) -> int:
    return 1


def first() -> int:
    return 1


def fails_once() -> None:
    """Fails until the run is tried again."""
    if "RUNNABLE_RETRY_RUN_ID" not in os.environ:
        raise ValueError("once more")


def raises():
    raise ValueError(text())


def chains():
    try:
        raise KeyError(text())
    except KeyError as error:
        made = RuntimeError("see above")
        if hasattr(made, "add_note"):
            made.add_note(text())
        raise made from error


def raises_group():
    group = __builtins__.get("ExceptionGroup") if isinstance(__builtins__, dict) else None
    raise group("several", [ValueError(text()), TypeError(text())]) if group else ValueError(text())


def source():
    """An exception whose line of source holds the text."""
    exec(compile(f"raise ValueError(len({CASE['text']!r}))", CASE["file"], "exec"))


def spans():
    """A span of the task's own: its name, and attributes of each kind."""
    import logfire_api

    with logfire_api.span(text(), **{"value": value(), CASE["key"] or "plain": value()}) as span:
        span.set_attribute("again", value())
        span.set_attribute(text(), 1)
        if CASE["number"]:
            span.set_attribute("bare", int(CASE["core"]))
        logfire_api.info(text())
        logfire_api.error("said {what}", what=text())
    return 1


def span_fails():
    import logfire_api

    try:
        with logfire_api.span("own"):
            raise ValueError(text())
    except ValueError:
        return 1


def prints() -> int:
    print(text())
    return 1


def measures():
    return float(CASE["core"]) if CASE["number"] else 1.5


async def speaks():
    yield {"type": "progress", "value": value(), text(): 1}
    yield {"type": text(), "x": 1}
    yield {"type": "task_completed", "text": text()}
    yield {"type": "done", "said": value()}
