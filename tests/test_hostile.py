"""Whatever a task gives, raises, yields or writes into a span: OTLP can say it, and the task goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runnable_otel import errors
from runnable_otel.events import Event
from runnable_otel.facade import Facade, shim_methods
from runnable_otel.telemetry import Telemetry
from test_capture import CALLED, HostileMeta, hostile, hostile_values, trap
from test_capture import VALUES as ANY

TEXT = st.text(max_size=40) | st.text(st.characters(min_codepoint=0xD7FF, max_codepoint=0xE000), max_size=5)


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None: ...


class World:
    """A telemetry of its own, with what it let out."""

    def __init__(self) -> None:
        self.telemetry, self.kept, self.exporter = Telemetry(), Kept(), InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry.tracing.explicit = provider
        self.telemetry.hub.add([self.kept])
        self.facade, self.shim = Facade(self.telemetry), shim_methods(self.telemetry)

    def own_span(self, name: Any, **attributes: Any) -> Any:
        """What `logfire_api.span` gives to a task, where logfire is not installed."""
        return self.shim["span"](lambda *_, **__: None, None, (name,), attributes)

    def check(self, spans: int) -> None:
        """Every span is there, and OTLP and JSON can say all of it."""
        finished = self.exporter.get_finished_spans()
        assert len(finished) == spans
        encode_spans(finished).SerializeToString()
        for event in self.kept.events:
            json.dumps(event.to_dict()).encode()
            event.to_json().encode()
        self.exporter.clear()
        self.kept.events.clear()


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def run(world: World, name: str, value: object, error: BaseException | None = None) -> None:
    """One task that has this value wherever it can have one, and that ends as it would without us."""
    seen = None
    try:
        with world.facade.span("task:{task_name}", task_name=name, task_type="python") as task:
            world.facade.info("Task started", inputs={"x": value, name: value})
            with world.own_span(name, x=value) as span:
                span.set_attribute(name, value)
                span.set_attribute(value, name)
                span.set_attributes(value)
                span.set_attributes({name: value})
                span.record_exception(value)
            task.say({"type": name, "x": value, name: 1})
            task.say({"type": value})
            world.facade.info("Task completed", outputs={"y": value})
            if error is not None:
                raise error
    except BaseException as raised:
        seen = raised
    same = seen is error  # apart: pytest would ask a hostile value for its text
    assert same


@pytest.mark.parametrize("examples", [100, pytest.param(2000, marks=pytest.mark.faults)])
def test_any_value_in_any_place(world: World, examples: int) -> None:
    """Inputs, outputs, attributes, names, events, errors: in none of these places does a value raise or lose a span."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(name=TEXT, value=ANY, message=TEXT)
    def holds(name: str, value: object, message: str) -> None:
        run(world, name, value, ValueError(message, value) if message else None)
        world.check(spans=2)

    holds()


def test_no_code_of_a_users_class_runs(world: World) -> None:
    """A value whose class redefines all that one could ask is asked nothing, in any place; an error its `str()`."""
    for value in hostile_values():
        CALLED.clear()
        run(world, "task", value)
        world.check(spans=2)
        assert set(CALLED) <= ({"__str__"} if issubclass(type(value), Exception) else set())


def test_a_text_of_a_users_class(world: World) -> None:
    """Names and types of events that are texts of a user's class are read as the texts that they are."""
    CALLED.clear()
    text = str.__new__(hostile(str), "progress")
    with world.facade.span("task:{task_name}", task_name="t", task_type="python") as task:
        with world.own_span(text, a=text) as span:
            span.set_attribute(text, 1)
        task.say({"type": text, "n": 1})
    assert [event.type for event in world.kept.events if event.fields.get("n")] == ["progress"]
    world.check(spans=2)
    assert not CALLED


def hanging(base: type[BaseException] = Exception, *args: object, **more: Any) -> BaseException:
    return type("HangingError", (base,), more)(*args)


class Once(Exception):  # noqa: N818
    """Hangs until the test is over."""

    release: Any = None

    def __str__(self) -> str:
        self.release.wait(60)
        return "late"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Little patience, and what lets those that hang come to their end."""
    import threading

    monkeypatch.setattr(errors, "PATIENCE", 0.05)
    monkeypatch.setattr(Once, "release", threading.Event())
    yield Once.release
    Once.release.set()


class Waits:
    """A value whose text never comes."""

    def __str__(self) -> str:
        return str(Once())

    __repr__ = __str__


@pytest.mark.parametrize(
    "make",
    [
        Once,
        lambda: ValueError(Waits()),
        lambda: KeyError(Waits()),
        lambda: OSError(2, "x", Waits()),
        lambda: hanging(OSError, 1, Waits()),
    ],
    ids=["its own", "its argument", "a key", "a file's name", "a subclass"],
)
def test_an_exception_that_never_finds_words(make: Callable[[], BaseException], patience: Any) -> None:
    """A `__str__` that hangs, of the exception or of what it holds, costs a moment and its message, and no more."""
    failure = errors.describe(make())
    assert failure.message == "<unprintable>"
    assert failure.stacktrace.rstrip().endswith("<unprintable>")


@pytest.mark.parametrize(
    "exc",
    [ValueError("x"), KeyError("k"), OSError(2, "no", "file"), RuntimeError(), StopIteration(1), ImportError("m")],
)
def test_plain_exceptions_need_no_thread(exc: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own exceptions with plain arguments are read where they are."""
    monkeypatch.setattr(errors, "_aside", trap("_aside"))
    assert errors.describe(exc).message == str(exc)


def test_users_exceptions_are_read_whole() -> None:
    """An exception with a `__str__` of its own says what it says, also where that looks at its context."""
    from contextvars import ContextVar

    place: ContextVar[str] = ContextVar("place")
    place.set("here")
    exc = hanging(__str__=lambda self: f"in {place.get()}")
    assert errors.describe(exc).text() == "HangingError: in here"


def test_exceptions_of_hostile_classes(world: World) -> None:
    """An exception whose metaclass and methods must not be asked anything ends a task as any other does."""

    class Raisable(HostileMeta):
        __subclasscheck__ = type.__subclasscheck__  # Python itself asks this where an exception is raised

    for meta in (type, Raisable):
        body = {"__str__": lambda self: "said", "__class__": property(trap("__class__"))}
        run(world, "t", 1, meta("Hostile", (Exception,), body)("x"))
        world.check(spans=2)
