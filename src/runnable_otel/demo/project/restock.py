"""Fails as long as there is no delivery.txt: then `runnable retry` runs what failed, and passes over the rest."""

# pyright: basic

from pathlib import Path

from runnable import Pipeline, PythonTask


def count() -> int:
    return 3


def unload() -> int:
    return int(Path("delivery.txt").read_text())


def shelve(stock: int, boxes: int) -> int:
    return stock + boxes


def main() -> Pipeline:
    pipeline = Pipeline(
        steps=[
            PythonTask(name="count", function=count, returns=["stock"]),
            PythonTask(name="unload", function=unload, returns=["boxes"]),
            PythonTask(name="shelve", function=shelve, returns=["stock"]),
        ]
    )
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
