"""Cases of the sweep for secrets: which secret, in which place, in which surroundings; the same ones each time."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Iterator
from typing import Any, Final

PLACES: Final = (
    "output",
    "nested",
    "returned name",
    "exception",
    "cause",
    "group",
    "source line",
    "own span",
    "own span's exception",
    "printed",
    "event",
    "metric name",
    "metric value",
    "map item",
    "command",
    "shell output",
    "shell error",
    "shell variable",
    "step name",
    "node name",
    "branch name",
    "pipeline name",
    "run id",
    "tag",
    "pool",
    "job",
    "retry",
)
_NAMED: Final = (
    "step name",
    "node name",
    "branch name",
    "pipeline name",
    "run id",
    "tag",
    "returned name",
    "retry",
)
# In these places a text is known before any task is given a secret, so they are for those that show by their look.
_BEFORE: Final = (*_NAMED, "source line")
_NAMES: Final = (*_NAMED, "metric name")  # on one line, and no path
_SHELL: Final = ("command", "shell output", "shell error")
_ONLY_MANAGER: Final = ("shell variable",)
_BY_KEY: Final = ("output", "nested", "own span", "event", "map item", "metric value", "pool", "job")
_AS_NUMBER: Final = ("output", "nested", "own span", "event", "map item", "metric value")

_ALNUM: Final = string.ascii_letters + string.digits
KEYS: Final = (
    "password", "db_password", "apiKey", "X-Api-Key", "accessToken", "client_secret", "authorization", "cookie",
    "private_key", "session_id", "aws_secret_access_key", "PGPASSWORD", "refresh_token", "credentials",
)  # fmt: skip
INNOCENT: Final = (
    "token_count", "author", "session_length", "secretary", "max_tokens", "tokens", "author_name", "compass",
    "keyboard", "primary_key", "cache_key", "pass_rate", "learning_rate", "batch_size",
)  # fmt: skip


def _some(rng: random.Random, count: int, alphabet: str = _ALNUM) -> str:
    return "".join(rng.choices(alphabet, k=count))


def _card(rng: random.Random) -> str:
    digits = rng.choice("45") + _some(rng, 14, string.digits)
    total = sum(int(d) if at % 2 else (2 * int(d) - 9 * (int(d) > 4)) for at, d in enumerate(digits))
    return digits + str(-total % 10)


def _spaced(rng: random.Random) -> str:
    card = _card(rng)
    return rng.choice(" -").join(card[at : at + 4] for at in range(0, 16, 4))


def _jwt(rng: random.Random) -> tuple[str, str]:
    core = f"eyJ{_some(rng, 40)}.{_some(rng, 30)}"
    return f"eyJ{_some(rng, 20)}.{core}", core  # the header is no secret


def _pem(rng: random.Random) -> tuple[str, str]:
    core = _some(rng, 64)
    name = rng.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"])
    return f"-----BEGIN {name}-----\n{core}\n-----END {name}-----", core


def _basic(rng: random.Random) -> tuple[str, str]:
    core = base64.b64encode(f"user:{_some(rng, 12)}".encode()).decode().rstrip("=")
    return f"Authorization: Basic {core}", core


def _whole(make: Callable[[random.Random], str]) -> Callable[[random.Random], tuple[str, str]]:
    return lambda rng: (text := make(rng), text)


def _in(frame: str, size: int) -> Callable[[random.Random], tuple[str, str]]:
    return lambda rng: (frame.format(core := _some(rng, size)), core)


LOOKS: Final[dict[str, Callable[[random.Random], tuple[str, str]]]] = {
    "aws id": lambda rng: (text := "AKIA" + _some(rng, 16, string.ascii_uppercase + string.digits), text),
    "github": lambda rng: (text := f"gh{rng.choice('pousr')}_{_some(rng, 36)}", text),
    "github pat": _in("github_pat_{}", 40),
    "slack": lambda rng: (text := f"xox{rng.choice('abprs')}-{_some(rng, 12, string.digits)}-{_some(rng, 20)}", text),
    "jwt": _jwt,
    "card": _whole(_card),
    "card in groups": _whole(_spaced),
    "stripe": _in("sk_live_{}", 24),
    "hugging face": _in("hf_{}", 34),
    "pem": _pem,
    "bearer": _in("Bearer {}", 32),
    "basic": _basic,
    "userinfo": _in("postgres://user:{}@host:5432/db", 16),
    "aws secret": _in("aws_secret_access_key={}", 40),
    "named": _in("password={}", 14),
    "named in JSON": _in('{{"api_key": "{}"}}', 14),
    "option": _in("tool --client-secret {} -x", 14),
    "query": _in("https://host/path?access_token={}&x=1", 24),
}
_ONE_WORD: Final = ("aws id", "github", "github pat", "slack", "card", "stripe", "hugging face")
FRAMES: Final = ("{}", "say {} it is", "({})", "one\ntwo {}\nthree", "é☃ {}", '{{"x": "{}"}}', "[{}, 1]", "<{}>")
# What a secrets manager may hand out is any text.
_MANAGER: Final = (
    lambda rng: _some(rng, rng.randint(8, 40)),
    lambda rng: f"{_some(rng, 8)} {_some(rng, 8)}",
    lambda rng: f'{_some(rng, 9)}"{_some(rng, 9)}\\{_some(rng, 9)}',
    lambda rng: f"{_some(rng, 10)}é☃{_some(rng, 10)}",
    lambda rng: f"{_some(rng, 12)}&/=?{_some(rng, 9)}%",
    lambda rng: f"{_some(rng, 16)}\n{_some(rng, 16)}",
    lambda rng: _some(rng, 600),
)


def cases(count: int, seed: int = 8) -> Iterator[dict[str, Any]]:
    """That many cases; the first ones of a longer row are those of a shorter one."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        place = PLACES[number % len(PLACES)]
        yield {"number_of": number, "place": place, "key": "", "number": False, "file": "", **_case(rng, place)}


def _kinds(place: str) -> list[str]:
    if place in _ONLY_MANAGER:
        return ["manager"]
    kinds = ["look", "look"]
    kinds += ["key"] if place in _BY_KEY else []
    kinds += ["number"] if place in _AS_NUMBER else []
    kinds += [] if place in _BEFORE else ["manager"]
    kinds += ["innocent"] if place in ("output", "nested", "own span", "event") else []
    return ["number", "key"] if place == "metric value" else kinds


def _case(rng: random.Random, place: str) -> dict[str, Any]:
    kind = rng.choice(_kinds(place))
    control = "ctl" + _some(rng, 8, string.ascii_lowercase)
    known = {"kind": kind, "control": control}
    if kind == "innocent":
        return {
            **known,
            "kind": "key",
            "innocent": True,
            "key": rng.choice(INNOCENT),
            "core": _some(rng, 12),
            "text": control,
        }
    if kind == "key":
        core = _card(rng) if place == "metric value" else _some(rng, 14)
        return {**known, "key": rng.choice(KEYS), "core": core, "text": control, "number": place == "metric value"}
    if kind == "number":
        core = _card(rng)
        return {**known, "core": core, "text": control, "number": True}
    if kind == "manager":
        made = _MANAGER[0 if place in (*_NAMES, *_SHELL) else rng.randrange(len(_MANAGER))](rng)
        frame = f"{control} {_frame(rng, place)}".replace("{{", "{").replace("}}", "}")
        return {**known, "core": made, "frame": frame, "text": frame.replace("{}", made)}
    look = rng.choice(_ONE_WORD if place in _NAMES else list(LOOKS))
    text, core = LOOKS[look](rng)
    framed = _frame(rng, place).format(text)
    return {**known, "look": look, "core": core, "text": f"{control} {framed}", "file": f"{control}.py"}


def _frame(rng: random.Random, place: str) -> str:
    if place in _NAMES:
        return "{}"
    frames = FRAMES[:3] if place in _SHELL else FRAMES
    padding = rng.choice(
        ["", "", "y" * rng.randrange(20) + " ", "word " * rng.randrange(60), "z" * rng.randrange(900) + " "]
    )
    if (
        place == "map item"
    ):  # of one that makes a file's name too long runnable tells the letters, without what parts them
        padding = padding[:40]
    return padding + rng.choice(frames)


def leaks(case: dict[str, Any], haystack: bytes) -> bool:
    """Whether a part of the secret is there, in any way of writing it: 8 characters in a row, of a card number 10."""
    size = 10 if case["core"].replace(" ", "").replace("-", "").isdigit() else 8
    words = case["core"].splitlines() if "\n" in case["core"] else [case["core"]]
    return any(window.encode() in haystack for word in words for window in _windows(word, size))


def _windows(word: str, size: int) -> Iterator[str]:
    for at in range(max(1, len(word) - size + 1)):
        window = word[at : at + size]
        if window.isascii() and not set(window) & set('"\\&/=?%'):  # those are written in other ways
            yield window
