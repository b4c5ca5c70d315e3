"""The tasks of the fault matrix."""

import os

import strikes
from values import ERRORS, VALUES, Unhashable


def before(x: int = 10) -> int:
    return x + 1


def after(first: int) -> str:
    return f"after {first}"


def strike() -> int:
    """What the fault does to the process happens here, with spans pending."""
    return strikes.strike()


def shows() -> int:
    """A value where runnable itself does not look: in a span of the task's own."""
    import logfire_api

    value = VALUES[os.environ["INPUT"]]()
    with logfire_api.span("own {kind}", kind="logfire", value=value) as span:
        span.set_attribute("again", value)
        span.set_attribute(value, 1)
        span.set_attributes(value)
        span.record_exception(value)
        logfire_api.info("inside")
    return 1


def gives():
    """The value as a parameter."""
    return {"value": VALUES[os.environ["INPUT"]]()}


def gives_text() -> str:
    return "mine"


def gives_pickled():
    return VALUES[os.environ["INPUT"]]()


def items() -> list:
    return [1, 2, 3]


def takes(given=None) -> int:
    return 1


def fails():
    raise ERRORS[os.environ["INPUT"]]()


def fails_inside():
    """An exception that ends a span of the task's own, and that the task handles."""
    import logfire_api

    try:
        with logfire_api.span("own"):
            fails()
    except Exception as error:
        return type(error).__name__


def surrogates():
    """A lone surrogate in each text of a span of the task's own."""
    from opentelemetry import trace

    bad = "lone \ud800 surrogate"
    with trace.get_tracer("user").start_as_current_span(f"own {bad}") as span:
        span.set_attribute(bad, 1)
        span.set_attribute("value", bad)
        span.set_attribute("list", ["good", bad])
        span.add_event(bad, {bad: bad})
        span.set_status(trace.StatusCode.ERROR, bad)
    return 1


async def abefore() -> int:
    return 1


async def speaks():
    """A value in an event of the task's own."""
    yield {"type": "progress", "value": VALUES[os.environ["INPUT"]]()}
    yield {"type": "progress", "step": 2}
    yield {"type": "done", "said": 1}


async def speaks_surrogates():
    bad = "lone \ud800 surrogate"
    yield {"type": bad, bad: bad}
    yield {"type": "done", "said": 1}


async def speaks_keys():
    yield {"type": 5, 5: "five", None: 1}
    yield {"type": Unhashable("progress"), "x": 1}
    yield {"type": "done", "said": 1}


async def aafter() -> int:
    return 2
