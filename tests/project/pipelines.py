"""Pipelines of every kind: `PIPELINE=NAME python pipelines.py` runs one."""

import asyncio
import json
import logging
import multiprocessing
import os
import sys
from queue import Queue

import tasks
from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Catalog,
    Conditional,
    Loop,
    Map,
    NotebookJob,
    NotebookTask,
    Parallel,
    Pipeline,
    PythonJob,
    PythonTask,
    ShellJob,
    ShellTask,
    Stub,
    metric,
    pickled,
    set_stream_queue,
)


def run(pipeline, **kwargs):
    return pipeline, kwargs


def main():
    """runnable finds the graph by calling the function that called `execute` once more."""
    made = globals()[os.environ["PIPELINE"]]()
    if made is None:
        return None
    pipeline, kwargs = made
    if os.environ.get("CONFIGURATION"):
        kwargs["configuration_file"] = os.environ["CONFIGURATION"]
    try:
        pipeline.execute(**kwargs)
    except Exception as error:
        print("raised", type(error).__name__)
    return pipeline


def python():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="give", function=tasks.give, returns=["doubled"]),
                PythonTask(name="take", function=tasks.take, returns=["final"]),
                PythonTask(name="nothing", function=tasks.nothing),
            ]
        )
    )


def named():
    return run(Pipeline(name="my pipeline", steps=[PythonTask(name="give", function=tasks.give, returns=["doubled"])]))


def objects():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="measure", function=tasks.measure, returns=[metric("loss"), metric("epochs")]),
                PythonTask(name="obj", function=tasks.obj, returns=[pickled("thing")]),
                PythonTask(name="use", function=tasks.use_obj, returns=["size"]),
            ]
        )
    )


def shell():
    return run(
        Pipeline(
            steps=[
                ShellTask(name="export", command="export answer=42\n\n   echo   hi", returns=["answer"]),
                ShellTask(name="trace", command="export seen=$TRACEPARENT", returns=["seen"]),
            ]
        )
    )


def shell_fails():
    return run(Pipeline(steps=[ShellTask(name="boom", command="echo nope >&2; exit 3")]))


def shell_state():
    return run(Pipeline(steps=[ShellTask(name="trace", command="export seen=$TRACESTATE", returns=["seen"])]))


def notebook():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="give", function=tasks.give, returns=["doubled"]),
                NotebookTask(name="note", notebook="add.ipynb", returns=["total"]),
            ]
        )
    )


def notebook_spans():
    return run(Pipeline(steps=[NotebookTask(name="note", notebook="spans.ipynb", returns=["total"])]))


def notebook_fails():
    return run(Pipeline(steps=[NotebookTask(name="note", notebook="bad.ipynb")]))


def stub():
    return run(Pipeline(steps=[Stub(name="one"), PythonTask(name="give", function=tasks.give, returns=["doubled"])]))


def fails():
    return run(
        Pipeline(steps=[PythonTask(name="kaput", function=tasks.kaput), PythonTask(name="never", function=tasks.give)])
    )


def slow_fails():
    steps = [PythonTask(name=f.__name__, function=f, returns=[f.__name__]) for f in (tasks.slow, tasks.slower)]
    return run(Pipeline(name="slow", steps=[*steps, PythonTask(name="kaput", function=tasks.kaput)]))


def chained():
    return run(Pipeline(steps=[PythonTask(name="chained", function=tasks.chained)]))


def import_fails():
    function = type(sys)("gone")
    exec("def gone(): pass", vars(function))
    function.gone.__module__ = "no_such_module"
    return run(Pipeline(steps=[PythonTask(name="gone", function=function.gone)]))


def wrong_returns():
    return run(Pipeline(steps=[PythonTask(name="wrong", function=tasks.wrong_number, returns=["a", "b"])]))


def missing_parameter():
    return run(Pipeline(steps=[PythonTask(name="take", function=tasks.take)]))


def missing_secret():
    return run(Pipeline(steps=[PythonTask(name="give", function=tasks.give, secrets=["NO_SUCH_SECRET"])]))


def secret():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="secret", function=tasks.secret_in_use, secrets=["MY_SECRET"], returns=["said"]),
                ShellTask(
                    name="shell", command="export heard=$SHELL_SECRET", secrets=["SHELL_SECRET"], returns=["heard"]
                ),
            ]
        )
    )


def recovers():
    recovery = Pipeline(steps=[PythonTask(name="recover", function=tasks.recover, returns=["how"])])
    return run(
        Pipeline(steps=[PythonTask(name="kaput", function=tasks.kaput, on_failure=recovery), Stub(name="after")])
    )


def recovery_fails():
    recovery = Pipeline(steps=[PythonTask(name="chained", function=tasks.chained)])
    return run(
        Pipeline(steps=[PythonTask(name="kaput", function=tasks.kaput, on_failure=recovery), Stub(name="after")])
    )


def _branch(name):
    return Pipeline(
        steps=[
            PythonTask(name="give", function=tasks.give, returns=[name]),
            ShellTask(name="say", command=f"export said={name}", returns=["said"]),
        ]
    )


def parallel():
    return run(Pipeline(steps=[Parallel(name="both", branches={"left": _branch("l"), "right": _branch("r")})]))


def small():
    """A step and two branches: what is run over and over."""
    one = Pipeline(steps=[PythonTask(name="give", function=tasks.give, returns=["l"])])
    other = Pipeline(steps=[PythonTask(name="give", function=tasks.give, returns=["r"])])
    return run(
        Pipeline(
            steps=[
                PythonTask(name="first", function=tasks.give, returns=["doubled"]),
                Parallel(name="both", branches={"left": one, "right": other}),
            ]
        )
    )


def parallel_fails():
    bad = Pipeline(steps=[PythonTask(name="kaput", function=tasks.kaput)])
    return run(Pipeline(steps=[Parallel(name="both", branches={"good": _branch("l"), "bad": bad})]))


def nested():
    inner = Pipeline(steps=[Parallel(name="inner", branches={"a": _branch("x"), "b": _branch("y")})])
    return run(Pipeline(steps=[Parallel(name="outer", branches={"one": inner, "two": _branch("z")})]))


def _mapped(function, **kwargs):
    branch = Pipeline(steps=[PythonTask(name="work", function=function, returns=["worked"])])
    return Map(name="each", branch=branch, iterate_on="items", iterate_as="chunk", **kwargs)


def mapped():
    return run(
        Pipeline(steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), _mapped(tasks.work)])
    )


def map_reduced():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="chunks", function=tasks.chunks, returns=["items"]),
                _mapped(tasks.work, reducer="lambda *x: max(x)"),
            ]
        )
    )


def map_reducer_fails():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="chunks", function=tasks.chunks, returns=["items"]),
                _mapped(tasks.work, reducer="lambda *x: 1 / 0"),
            ]
        )
    )


def map_fails():
    return run(
        Pipeline(
            steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), _mapped(tasks.fail_on_two)]
        )
    )


def map_nested():
    inner = Pipeline(
        steps=[
            Map(
                name="inner",
                branch=Pipeline(steps=[PythonTask(name="work", function=tasks.work_two, returns=["worked"])]),
                iterate_on="letters",
                iterate_as="letter",
            )
        ]
    )
    return run(
        Pipeline(
            steps=[
                PythonTask(name="chunks", function=tasks.chunks, returns=["items"]),
                PythonTask(name="letters", function=tasks.letters, returns=["letters"]),
                Map(name="outer", branch=inner, iterate_on="items", iterate_as="chunk"),
            ]
        )
    )


def map_shell():
    branch = Pipeline(steps=[ShellTask(name="say", command="export said=$chunk", returns=["said"])])
    return run(
        Pipeline(
            steps=[
                PythonTask(name="chunks", function=tasks.chunks, returns=["items"]),
                Map(name="each", branch=branch, iterate_on="items", iterate_as="chunk"),
            ]
        )
    )


def conditional():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="choose", function=tasks.choose, returns=["coin"]),
                Conditional(
                    name="toss",
                    parameter="coin",
                    branches={
                        "heads": Pipeline(steps=[PythonTask(name="h", function=tasks.heads, returns=["said"])]),
                        "tails": Pipeline(steps=[PythonTask(name="t", function=tasks.tails, returns=["said"])]),
                    },
                ),
            ]
        )
    )


def loop():
    branch = Pipeline(steps=[PythonTask(name="count", function=tasks.count, returns=["counter", "stop"])])
    return run(Pipeline(steps=[Loop(name="again", branch=branch, max_iterations=5, break_on="stop", index_as="round")]))


def catalog():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="write", function=tasks.write_file, catalog=Catalog(put=["data/out.txt"])),
                ShellTask(name="remove", command="/bin/rm data/out.txt"),
                PythonTask(
                    name="read", function=tasks.read_file, catalog=Catalog(get=["data/out.txt"]), returns=["size"]
                ),
            ]
        )
    )


def catalog_fails():
    return run(
        Pipeline(steps=[PythonTask(name="give", function=tasks.give, catalog=Catalog(put=["no/such/file.txt"]))])
    )


def ends_in_fail():
    return run(Pipeline(steps=[PythonTask(name="give", function=tasks.give, terminate_with_failure=True)]))


def flagged():
    """Fails until there is a file named flag: what a retry is for."""
    return run(
        Pipeline(
            steps=[
                PythonTask(name="give", function=tasks.give, returns=["doubled"]),
                Parallel(name="both", branches={"left": _branch("l"), "right": _branch("r")}),
                PythonTask(name="flag", function=tasks.needs_flag, returns=["flag"]),
                PythonTask(name="take", function=tasks.take, returns=["final"]),
            ]
        ),
        run_id="flagged",
    )


def spans():
    return run(Pipeline(steps=[PythonTask(name="spans", function=tasks.user_spans, returns=["one"])]))


def spans_fail():
    user = PythonTask(name="spans", function=tasks.user_spans, returns=["one"])
    return run(Pipeline(steps=[user, PythonTask(name="kaput", function=tasks.kaput)]))


def many():
    steps = [PythonTask(name=f"give{n}", function=tasks.give, returns=[f"d{n}"]) for n in range(20)]
    return run(Pipeline(steps=steps))


def mocked():
    return run(
        Pipeline(
            steps=[
                PythonTask(name="give", function=tasks.give, returns=["doubled"]),
                PythonTask(name="take", function=tasks.take, returns=["final"]),
            ]
        ),
        configuration_file="mocked.yaml",
    )


def secret_names():
    branch = Pipeline(steps=[ShellTask(name="say", command="true --key AKIAIOSFODNN7EXAMPLE")])
    return run(
        Pipeline(
            steps=[
                PythonTask(name="keys", function=tasks.keys, returns=["items"]),
                Map(name="each", branch=branch, iterate_on="items", iterate_as="item"),
            ]
        )
    )


def span_user():
    return run(Pipeline(steps=[PythonTask(name="user", function=tasks.span_user)]))


def card_numbers():
    branch = Pipeline(steps=[PythonTask(name="one", function=tasks.nothing)])
    return run(
        Pipeline(
            steps=[
                PythonTask(name="cards", function=tasks.cards, returns=["items"]),
                Map(name="each", branch=branch, iterate_on="items", iterate_as="item"),
            ]
        )
    )


def mapped_many():
    return run(
        Pipeline(steps=[PythonTask(name="chunks", function=tasks.two_hundred, returns=["items"]), _mapped(tasks.work)])
    )


def mapped_killed():
    """One branch's process is killed in the middle of its second task."""
    branch = Pipeline(
        steps=[
            PythonTask(name="first", function=tasks.work, returns=["worked"]),
            PythonTask(name="second", function=tasks.killed_on_two, returns=["more"]),
        ]
    )
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="chunk")
    return run(Pipeline(steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), each]))


def mapped_catalog():
    branch = Pipeline(steps=[PythonTask(name="write", function=tasks.write_chunk, catalog=Catalog(put=["data/*.txt"]))])
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="chunk")
    return run(Pipeline(steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), each]))


def parallel_secret():
    """A branch is given a secret; the step after the pool says it."""
    told = Pipeline(
        steps=[PythonTask(name="secret", function=tasks.secret_in_use, secrets=["MY_SECRET"], returns=["said"])]
    )
    return run(
        Pipeline(
            steps=[
                Parallel(name="both", branches={"told": told, "other": _branch("o")}),
                PythonTask(name="after", function=tasks.says_it, returns=["again"]),
            ]
        )
    )


def mapped_speaks():
    return run(
        Pipeline(steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), _mapped(tasks.speaks)])
    )


def mapped_rich():
    return run(
        Pipeline(steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), _mapped(tasks.rich_spans)])
    )


def talks():
    logging.basicConfig()
    recovery = Pipeline(steps=[PythonTask(name="recover", function=tasks.recover)])
    return run(
        Pipeline(
            steps=[
                PythonTask(name="python", function=tasks.talk, returns=["doubled"]),
                ShellTask(name="shell", command="echo one; sleep 0.3; echo two >&2; export out=three", returns=["out"]),
                NotebookTask(name="notebook", notebook="talk.ipynb"),
                PythonTask(name="fails", function=tasks.talk_and_fail, on_failure=recovery),
            ]
        )
    )


def python_waits():
    return run(Pipeline(steps=[PythonTask(name="python", function=tasks.talk_and_wait)]))


def shell_waits():
    command = "for n in 0 1 2 3 4; do echo line $n; done; while [ ! -e gate ]; do :; done"
    return run(Pipeline(steps=[ShellTask(name="shell", command=command)]))


def talks_on_and_on():
    return run(Pipeline(steps=[PythonTask(name="python", function=tasks.talk_on_and_on)]))


def mapped_talks():
    return run(
        Pipeline(steps=[PythonTask(name="chunks", function=tasks.chunks, returns=["items"]), _mapped(tasks.talk_of)])
    )


def threads():
    """Tasks that use a pool of threads and asyncio."""
    return run(
        Pipeline(
            steps=[
                PythonTask(name="pool", function=tasks.in_threads, returns=["a"]),
                PythonTask(name="again", function=tasks.again_in_threads, returns=["c"]),
                PythonTask(name="loop", function=tasks.in_asyncio, returns=["b"]),
            ]
        )
    )


def thread_fails():
    return run(Pipeline(steps=[PythonTask(name="threads", function=tasks.fails_in_a_thread)]))


def nested_run():
    _streamed(tasks.handles_failure, name="outer")


def inner_secret():
    _streamed(tasks.hands_over, name="outer")


def argo():
    pipeline, _ = python()
    return run(pipeline, configuration_file="argo.yaml")


def pool_fails():
    pipeline, _ = parallel_fails()
    return run(pipeline, configuration_file="pool.yaml")


def exits():
    def leave():
        sys.exit(7)

    globals()["leave"] = tasks.leave = leave
    leave.__module__ = "tasks"
    return run(Pipeline(steps=[PythonTask(name="leave", function=leave)]))


def job():
    return run(PythonJob(function=tasks.give, returns=["doubled"]))


def job_fails():
    return run(PythonJob(function=tasks.kaput))


def job_shell():
    return run(ShellJob(command="export answer=42", returns=["answer"]))


def job_notebook():
    return run(NotebookJob(notebook="alone.ipynb", returns=["total"]))


async def stream(pipeline):
    try:
        async for event in pipeline.execute_streaming():
            print("event", event)
    except Exception as error:
        print("raised", type(error).__name__)


def _streamed(*functions, **kwargs):
    steps = [AsyncPythonTask(name=f.__name__, function=f, returns=[f"{f.__name__}_r"]) for f in functions]
    asyncio.run(stream(AsyncPipeline(steps=steps, **kwargs)))


def async_sequence():
    _streamed(tasks.ahello, tasks.astream)


def async_named():
    _streamed(tasks.ahello, name="async one")


def async_fails():
    _streamed(tasks.ahello, tasks.afail)


def async_imposter():
    _streamed(tasks.animposter)


def async_hostile():
    """Its events can't be printed."""

    async def drain():
        task = AsyncPythonTask(name="hostile", function=tasks.ahostile, returns=["value"])
        print("events", len([event async for event in AsyncPipeline(steps=[task]).execute_streaming()]))

    asyncio.run(drain())


def with_queue():
    """Run with the caller's queue set, and print what it got."""
    events = Queue(int(os.environ.get("QUEUE_SIZE", "0")))
    set_stream_queue(events)
    main()
    print("EVENTS", json.dumps([events.get_nowait() for _ in range(events.qsize())], default=repr))


if __name__ == "__main__":
    if os.environ.get("START_METHOD"):
        multiprocessing.set_start_method(os.environ["START_METHOD"])
    if os.environ.get("WORKERS"):
        os.cpu_count = lambda: int(os.environ["WORKERS"])  # so many does a pool make
    with_queue() if os.environ.get("QUEUE") else main()
