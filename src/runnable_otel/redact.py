"""What must not leave: secrets in names and texts, masked at the producer before anything is cut.

Two rules decide. A *name* looks secret by its words (`dbPassword`, `x-api-key`, but not `token_count`): then its whole
value is masked. A *text* may hold a secret anywhere: what `secret_texts` recognises, and the literal values that a
secrets manager handed out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Final

from runnable_otel.secret_names import names_a_secret
from runnable_otel.secret_texts import (
    MASK,
    without_cards,
    without_named,
    without_schemes,
    without_tokens,
    without_userinfo,
)

__all__ = ["MASK", "NAME", "Redactor"]

NAME: Final = 4096
"""Characters of a name or an id that are looked at, and at most kept."""

# By how many of its own characters a secret is known: of a text that is cut, no more is read beyond the cut. Most are
# known by few; the userinfo of a URL by its "@", and a JWT by the "." after its header.
_REACH: Final = 64
_FAR_REACH: Final = 512

_PIECES: Final = 128  # of a secret, that are looked for alone
_ESCAPE: Final = re.compile(r"\\(?:0?[0-7]{1,3}|x[0-9A-Fa-f]{1,2}|.)")


def _forms(value: str) -> set[str]:
    """A literal secret as it may turn up: whole, stripped, escaped for JSON or a URL, only its letters, in pieces."""
    from urllib.parse import quote, quote_plus

    bare = value.strip()
    forms = {value, bare, quote(bare, safe="", errors="replace"), quote_plus(bare, errors="replace")}
    forms.add("".join(filter(str.isalnum, bare)))  # as runnable makes names of files
    forms |= {form[1:-1] for form in (encode_basestring(bare), encode_basestring_ascii(bare), repr(bare))}
    pieces = bare.splitlines()[:_PIECES]  # logs are written line by line
    if "\\" in bare:  # a shell's echo takes what follows for an escape, and each shell for another one
        parts = (part for line in pieces for part in _ESCAPE.split(line) if len(part) >= 8)
        pieces += islice(parts, _PIECES)
    forms.update(piece.strip() for piece in pieces if len(piece.strip()) >= 8)
    return {form for form in forms if len(form) >= 4 and form not in MASK}


NO_PATTERN: Final = (re.error, RecursionError, OverflowError)
"""What `re.compile` raises for a text that is no regular expression, or one that is too large."""


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except NO_PATTERN as error:
        raise ValueError(f"redact pattern {pattern!r} is not a regular expression: {error}") from error


def _without_end(masked: str, read_ahead: int) -> str:
    """A masked text without what was read ahead: masks may have moved that to where it would be shown."""
    drop, need = 0, read_ahead
    while need > drop:  # a mask is up to 9 characters longer than what it stands for
        drop = need
        need = read_ahead + 9 * masked.count(MASK, max(0, len(masked) - drop - len(MASK)))
    return masked[: max(0, len(masked) - drop)]


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Redactor:
    """Masks secrets as `[redacted]`. Immutable, so safe to share between threads.

    Args:
        extra: further key patterns, as case-insensitive regular expressions found anywhere in a name.
        secrets: literal values to mask wherever they turn up; those shorter than 4 characters are ignored, they would
            mask innocent text everywhere.

    Raises:
        ValueError: a pattern is no regular expression; the message names it.
    """

    extra: tuple[str, ...]
    passes: Callable[[str], bool] = field(repr=False)
    """Whether a name is no secret's and holds none: the usual case, answered from a cache where it can be."""
    _patterns: tuple[re.Pattern[str], ...] = field(repr=False)
    _literals: tuple[tuple[str, int], ...] = field(repr=False)  # (the first 512 characters, the length of it all)

    def __init__(self, extra: tuple[str, ...] = (), secrets: Iterable[str] = ()) -> None:
        self._set(extra, tuple(map(_compiled, extra)), secrets, ())

    def _set(
        self,
        extra: tuple[str, ...],
        patterns: tuple[re.Pattern[str], ...],
        secrets: Iterable[str],
        literals: tuple[tuple[str, int], ...],
    ) -> None:
        found = set(literals).union((form[:_FAR_REACH], len(form)) for value in secrets for form in _forms(value))
        object.__setattr__(self, "extra", tuple(extra))
        object.__setattr__(self, "_patterns", patterns)
        # The longest first: a secret may contain another one.
        ordered = tuple(sorted(found, key=lambda item: (-item[1], item[0])))
        object.__setattr__(self, "_literals", ordered)
        object.__setattr__(self, "passes", partial(_passes_too, patterns, ordered) if patterns or found else _passes)

    def with_secrets(self, values: Iterable[str]) -> Redactor:
        """A copy that masks these literal values too; itself when none of them is new and long enough."""
        copy = object.__new__(Redactor)
        copy._set(self.extra, self._patterns, values, self._literals)
        return self if copy._literals == self._literals else copy

    def key(self, name: str) -> bool:
        """Whether a name looks like a secret's, so that its whole value must be masked."""
        if len(name) > 256:
            name = f"{name[:128]} {name[-128:]}"
        if names_a_secret(name):
            return True
        return bool(self._patterns) and any(pattern.search(name) for pattern in self._patterns)

    def text(self, value: str) -> str:
        """The text with each secret in it masked; the same object when there is none. Linear in its length.

        Most texts are innocent, so each kind of secret is looked for only where a character or two of it are there.
        """
        if self._literals:
            value = self._without_literals(value)
        if "=" in value or ":" in value or "--" in value:
            value = without_named(without_userinfo(value), self.key, bool(self._patterns))
        if len(value) < 13:  # the shortest secret without a name: a card number, or "Basic " and 7 letters
            return value
        if "_" in value or "-" in value or "eyJ" in value or "AKIA" in value or "ASIA" in value or "AIza" in value:
            value = without_tokens(value)
        if " " in value:
            value = without_schemes(value)
        if "4" in value or "5" in value or "3" in value or "6" in value or "2" in value:
            value = without_cards(value)
        return value

    def head(self, value: str, size: int) -> tuple[str, bool, bool]:
        """The beginning of a text, masked as if all of it had been read, for a caller who cuts it by `size` characters.

        Returns:
            The text (an exact `str`, of a few hundred characters more than `size` at most), whether something in it is
            masked, and whether the text went on.
        """
        reach = max(_REACH, len(self._literals[0][0])) if self._literals else _REACH
        text = str.__getitem__(value, slice(0, size + reach))
        if "://" in text or "eyJ" in text:
            text = str.__getitem__(value, slice(0, size + _FAR_REACH))
        masked = self.text(text)
        more = str.__len__(value) > len(text)
        changed = masked is not text
        if more and changed and not masked.endswith(MASK):
            masked = _without_end(masked, len(text) - size)
        return masked, changed, more

    def _without_literals(self, value: str) -> str:
        for head, length in self._literals:
            if head not in value:
                continue
            if len(head) == length:
                value = value.replace(head, MASK)
                continue
            while (at := value.find(head)) >= 0:
                value = value[:at] + MASK + value[at + length :]
        return value


@lru_cache(maxsize=2048)
def _passes(name: str) -> bool:
    return not _PLAIN.key(name) and _PLAIN.text(name) is name


def _passes_too(patterns: tuple[re.Pattern[str], ...], literals: tuple[tuple[str, int], ...], name: str) -> bool:
    if any(head in name for head, _ in literals) or any(pattern.search(name) for pattern in patterns):
        return False
    return _passes(name)


_PLAIN: Final = Redactor()
