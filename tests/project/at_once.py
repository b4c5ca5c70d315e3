"""Many runs at once, each in a thread of its own with a queue of its own: `RUNS`, `START_METHOD`, `CONFIGURATION`."""

import json
import multiprocessing
import os
import threading
from queue import Queue

import tasks
from runnable import Parallel, Pipeline, PythonTask, set_stream_queue


def main():
    left = Pipeline(steps=[PythonTask(name="give", function=tasks.give, returns=["l"])])
    right = Pipeline(steps=[PythonTask(name="give", function=tasks.give, returns=["r"])])
    pipeline = Pipeline(
        steps=[
            PythonTask(name="give", function=tasks.give, returns=["doubled"]),
            Parallel(name="both", branches={"left": left, "right": right}),
            PythonTask(name="take", function=tasks.take, returns=["final"]),
        ]
    )
    name = threading.current_thread().name
    pipeline.execute(run_id=name, configuration_file=os.environ.get("CONFIGURATION", ""))
    return pipeline


def one(found):
    events = Queue()
    set_stream_queue(events)
    main()
    found[threading.current_thread().name] = [events.get_nowait() for _ in range(events.qsize())]


if __name__ == "__main__":
    if os.environ.get("START_METHOD"):
        multiprocessing.set_start_method(os.environ["START_METHOD"])
    found = {}
    runs = [threading.Thread(target=one, args=(found,), name=f"run-{n}") for n in range(int(os.environ["RUNS"]))]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    print("EVENTS", json.dumps(found))
