"""Six processes: this one and one for each of five tasks, which say that they are there and go on when they may.

A task N touches `at-N`, and goes on when there is `gate-N`. `CONFIGURATION` says whether the processes are a pool's,
for the items of a map, or the emulator's, for steps one after the other.
"""

import multiprocessing
import os
import time
from pathlib import Path

from opentelemetry import trace
from runnable import Map, Pipeline, PythonTask

TASKS = 5


def wait_at(number: int) -> None:
    with trace.get_tracer("user").start_as_current_span("inside"):
        Path(f"at-{number}").touch()
        while not Path(f"gate-{number}").exists():
            time.sleep(0.005)


def numbers() -> list[int]:
    return list(range(TASKS))


def item(number: int) -> int:
    wait_at(number)
    return number


def step(number: int) -> int:
    wait_at(number)
    return number + 1


def main():
    if "emulator" in os.environ["CONFIGURATION"]:
        pipeline = Pipeline(steps=[PythonTask(name=f"s{n}", function=step, returns=["number"]) for n in range(TASKS)])
    else:
        branch = Pipeline(steps=[PythonTask(name="work", function=item, returns=["done"])])
        each = Map(name="each", branch=branch, iterate_on="numbers", iterate_as="number")
        pipeline = Pipeline(steps=[PythonTask(name="numbers", function=numbers, returns=["numbers"]), each])
    pipeline.execute(configuration_file=os.environ["CONFIGURATION"], parameters_file="first.yaml")
    return pipeline


if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    os.cpu_count = lambda: TASKS  # so many does a pool make
    main()
