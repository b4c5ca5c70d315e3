"""python, shell and notebook tasks, two branches in parallel, a map, and a task that fails and has a recovery."""

# pyright: basic

from runnable import Map, NotebookTask, Parallel, Pipeline, PythonTask, ShellTask


def load() -> list[str]:
    return ["north", "south"]


def count_stock() -> int:
    return 200


def sell(region: str) -> int:
    return 10 * len(region)


def publish(summary: str) -> None:
    raise ConnectionError(f"the shop is closed, not published: {summary}")


def keep(summary: str) -> str:
    return f"kept for later: {summary}"


def main() -> Pipeline:
    """runnable calls this function once more to find the graph, so it must return the pipeline."""
    look = Parallel(
        name="look up",
        branches={
            "stock": Pipeline(steps=[PythonTask(name="count", function=count_stock, returns=["stock"])]),
            "price": Pipeline(steps=[ShellTask(name="price", command="export price=$((4 * 5))", returns=["price"])]),
        },
    )
    each = Map(
        name="each region",
        branch=Pipeline(steps=[PythonTask(name="sell", function=sell, returns=["sold"])]),
        iterate_on="regions",
        iterate_as="region",
    )
    recovery = Pipeline(steps=[PythonTask(name="keep", function=keep, returns=["kept"])])
    pipeline = Pipeline(
        steps=[
            PythonTask(name="load", function=load, returns=["regions"]),
            look,
            each,
            NotebookTask(name="report", notebook="report.ipynb", returns=["summary"]),
            PythonTask(name="publish", function=publish, on_failure=recovery),
        ]
    )
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
