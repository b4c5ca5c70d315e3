"""The one task of the soak."""


def step(x: int = 1) -> int:
    return x % 1000 + 1
