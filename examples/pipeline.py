"""The smallest pipeline worth a trace: two steps, the second gets what the first returned."""

from runnable import Pipeline, PythonTask


def compute(x: int = 10) -> int:
    return x * 2


def finalize(result: int) -> str:
    return f"Result: {result}"


def main():
    pipeline = Pipeline(
        name="example",
        steps=[
            PythonTask(name="compute", function=compute, returns=["result"]),
            PythonTask(name="finalize", function=finalize, returns=["final"]),
        ],
    )
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
