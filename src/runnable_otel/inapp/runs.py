"""A run of a pipeline inside of an app, whose events can be read while it runs."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, cast

from runnable_otel import naming
from runnable_otel.events import CUSTOM, OURS, TASK_LOG
from runnable_otel.hooks import switch_on
from runnable_otel.inapp import calls
from runnable_otel.log import OLDEST, wait, wait_async
from runnable_otel.log.memory import MemoryStream, json_text

logger = logging.getLogger(__name__)

_tasks: set[asyncio.Task[None]] = set()  # an event loop holds its tasks weakly


class _Feed:
    """The queue of one run: what runnable and this package put into it goes into the run's stream.

    Args:
        ours: the instrumentation is on, so that events of our types come by `put_event`, and all others are a task's.
    """

    def __init__(self, stream: MemoryStream, queue: Any, *, ours: bool) -> None:
        self._stream, self._queue, self._ours = stream, queue, ours
        self._pid = os.getpid()
        self.first: dict[str, Any] = {}

    def put_event(self, event: dict[str, Any]) -> None:
        """Take one event of ours: what the hub calls where a queue has it."""
        self._put(event, known=True)

    def put_nowait(self, item: Any) -> None:
        """Take one event of a task's. A copy is kept: the task may change its own once it has yielded it."""
        self._put(item, known=not self._ours)

    put = put_nowait

    def _put(self, item: Any, *, known: bool) -> None:
        if os.getpid() != self._pid:
            return  # a forked worker has a copy of this run that nobody reads, with locks that others may have held
        self._append(item, known=known)
        if self._queue is not None:
            self._queue.put_nowait(item)

    def _append(self, item: Any, *, known: bool) -> None:
        event = cast("dict[str, Any]", item) if isinstance(item, dict) else {"type": CUSTOM, "data": item}
        kind, uid = event.get("type"), event.get("uid")
        if not (isinstance(kind, str) and kind in OURS):
            known = False
        elif not known:
            event = {"type": CUSTOM, "data": event}  # a task's own event in our name
        if known and not self.first:
            self.first = dict(event)
        self._stream.append(
            json_text(event),
            uid=uid if known and isinstance(uid, str) else "",
            expendable=not known or kind == TASK_LOG,
        )


class Run:
    """A pipeline that runs, or has run. Made by `run_pipeline`.

    `async for event in run` and `for event in run` give its events as dicts, from the first one on, however often and
    whoever else reads; they end when the run does. `await run` and `run.result()` wait for the end and raise what the
    pipeline raised. A Run keeps its events as long as it is kept itself.
    """

    def __init__(self, run_id: str, stream: MemoryStream, feed: _Feed) -> None:
        self.stream: MemoryStream = stream
        self._run_id, self._feed = run_id, feed
        self._future: Future[Any] = Future()
        self._future.set_running_or_notify_cancel()  # a waiter that is cancelled cancels no run

    @property
    def run_id(self) -> str:
        """runnable's run id: the one that the run was given, until its first event says which it has."""
        return str(self._feed.first.get("run_id") or self._run_id)

    @property
    def trace_id(self) -> str | None:
        """The trace id, 32 hexadecimal digits; None before the first event."""
        return self._feed.first.get("trace_id")

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end in this thread; return what `execute`, or your function, returned.

        Never call it on the event loop that an `AsyncPipeline` runs on: `await` the run there.

        Args:
            timeout: seconds; None for as long as it takes.

        Raises:
            TimeoutError: the run is not over; of `concurrent.futures` in Python 3.10.
            BaseException: what the pipeline raised.
        """
        return self._future.result(timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._future).__await__()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        position = OLDEST
        while True:
            batch = self.stream.read(position)
            for entry in batch.entries:
                yield json.loads(entry.text)
            if batch.ended:
                return
            position = batch.position
            await wait_async(self.stream, position)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        position = OLDEST
        while True:
            batch = self.stream.read(position)
            for entry in batch.entries:
                yield json.loads(entry.text)
            if batch.ended:
                return
            position = batch.position
            wait(self.stream, position)

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        """The pipeline has returned or raised; called once, by who runs it."""
        if error is not None and not self._feed.first:
            # No event says so: a client would see an end without a start, and nobody else anything.
            logger.error("run %s failed before it started", self._run_id, exc_info=error)
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)
        self.stream.end()


def run_pipeline(
    pipeline: Any, /, *, queue: Any = None, parameters: Mapping[str, Any] | None = None, **execute_kwargs: Any
) -> Run:
    """Start a pipeline, and return at once with a `Run` that gives its events while it runs.

    A `Pipeline` runs in a thread of its own, an `AsyncPipeline` as a task of the running event loop; each in a context
    of its own, in which no other run is set. The run's span hangs below the caller's current span. At the exit of the
    process neither is waited for.

    runnable finds the graph of a `Pipeline` by calling the function again that called `execute`, which a request
    handler can't stand. For a pipeline object this function answers that question itself. So the object must run in
    this process: with an executor that starts others (containers, Kubernetes, Argo) give a function instead, that is in
    a module below the working folder, calls `execute` and returns the pipeline:
    `def main(**options): pipeline.execute(**options); return pipeline`. runnable calls it again, without arguments.

    Each run gets a run id of its own, unless you pass one. What can't be kept apart, since runnable holds it in the
    environment of the process: `RUNNABLE_RUN_ID` (which shell tasks see, and which the next run that is not started
    here reuses), `RUNNABLE_RETRY_RUN_ID` (it wins over every run id: no run beside a retry), `configuration_file` and
    `tag` (the first configuration that is passed holds for all later runs), `RUNNABLE_PRM_*` and secrets. Use
    `parameters` for what belongs to one request.

    Args:
        pipeline: a `Pipeline`, an `AsyncPipeline`, or a function, `def` or `async def`, that executes one. A function
            gets the run id if it takes `run_id` or `**options`.
        queue: gets the events too, as with `set_stream_queue`; anything with `put_nowait` that threads may call.
        parameters: the pipeline's parameters, as JSON values. They go by a file of their own, not by the environment.
        execute_kwargs: for `execute`, such as `run_id`, `configuration_file` and `parameters_file`.

    Raises:
        TypeError: it is no pipeline and no function; or both `parameters` and `parameters_file` are given.
        ValueError: `parameters` is not JSON.
        RuntimeError: no event loop runs here, and the pipeline needs one.
    """
    asynchronous = hasattr(pipeline, "execute_streaming") or inspect.iscoroutinefunction(pipeline)
    if not (asynchronous or hasattr(pipeline, "return_dag") or callable(pipeline)):
        raise TypeError(f"expected a Pipeline, an AsyncPipeline or a function, not {type(pipeline).__name__}")
    if parameters is not None and "parameters_file" in execute_kwargs:
        raise TypeError("parameters and parameters_file exclude each other")
    loop = _running_loop() if asynchronous else None
    if hasattr(pipeline, "return_dag"):
        pipeline = calls.named(pipeline, naming.calling_function())
    context = contextvars.copy_context()
    stream = MemoryStream()
    feed = _Feed(stream, queue, ours=switch_on())
    context.run(_prepare, feed)
    options = {**execute_kwargs, "run_id": execute_kwargs.get("run_id") or calls.new_run_id()}
    path = "" if parameters is None else calls.write_parameters(parameters)
    if path:
        options["parameters_file"] = path
    run = Run(options["run_id"], stream, feed)
    if loop is not None:
        task = context.run(loop.create_task, _run_async(run, _coroutine(pipeline, options), path))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    else:
        work = _work(pipeline, options)
        threading.Thread(target=context.run, args=(_run, run, work, path), name=run.run_id, daemon=True).start()
    return run


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("an AsyncPipeline needs a running event loop: call run_pipeline in an async def") from None


def _prepare(feed: _Feed) -> None:
    """Make the context one in which no run is set: in one that is, `execute` returns at once and runs nothing."""
    import runnable.context
    import runnable.telemetry

    context: Any = runnable.context
    telemetry: Any = runnable.telemetry
    context.set_run_context(None)
    telemetry.set_stream_queue(feed)


def _work(pipeline: Any, options: Mapping[str, Any]) -> Callable[[], Any]:
    if hasattr(pipeline, "return_dag"):
        return lambda: calls.execute(pipeline, options)
    return lambda: pipeline(**_for_function(pipeline, options))


def _coroutine(pipeline: Any, options: Mapping[str, Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    if not hasattr(pipeline, "execute_streaming"):
        return lambda: pipeline(**_for_function(pipeline, options))

    async def drain() -> None:
        # It yields the tasks' own events only; with the others they are in the stream already.
        async for _ in pipeline.execute_streaming(**options):
            pass

    return drain


def _for_function(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if key != "run_id"}
    return calls.accepted(function, given, options["run_id"])


def _run(run: Run, work: Callable[[], Any], path: str) -> None:
    try:
        with calls.removing(path):
            result = work()
    except BaseException as error:  # noqa: BLE001 - SystemExit of a task too: whoever waits for the run gets it
        run.finish(error=error)
    else:
        run.finish(result)


async def _run_async(run: Run, work: Callable[[], Coroutine[Any, Any, Any]], path: str) -> None:
    try:
        with calls.removing(path):
            result = await work()
    except asyncio.CancelledError as error:
        run.finish(error=error)
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        run.finish(error=error)
    else:
        run.finish(result)
