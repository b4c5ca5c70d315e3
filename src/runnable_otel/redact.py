"""What must not leave: secrets in names and texts, masked at the producer before anything is cut.

Two rules decide. A *name* looks secret by its words (`dbPassword`, `x-api-key`, but not `token_count`): then its
whole value is masked. A *text* may hold a secret anywhere: tokens of known shape, `name=value` pairs whose name looks
secret, credentials in URLs, card numbers, and the literal values that a secrets manager handed out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Final

from runnable_otel.secret_names import names_a_secret

__all__ = ["MASK", "Redactor"]

MASK: Final = "[redacted]"

# By how many of its own characters a secret is known: of a text that is cut, no more is read beyond the cut. Most are
# known by few; the userinfo of a URL by its "@", and a JWT by the "." after its header.
_REACH: Final = 64
_FAR_REACH: Final = 512

# Splicing: (start, end) of each part to mask, in order and without overlap.
_Spans = Iterator[tuple[int, int]]

# Tokens of a published shape. A search without groups or lookarounds at its start can skip to its first letters.
_TOKEN_CUE: Final = re.compile(
    r"A(?:KIA|SIA|Iza)|eyJ|g(?:h[pousr]_|ithub_pat|lpat-)|xox|[sr]k_|sk-|pylf_|hf_|-----BEGIN"
)
_TOKEN: Final = re.compile(
    r"A(?:KIA|SIA)(?<![A-Za-z0-9]....)[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS access key id
    r"|AIza[\w-]{35}"  # Google
    # JWT: header.payload.signature; a header that does not end within 300 characters is masked as one
    r"|eyJ(?<![\w-]eyJ)[\w-]{5,300}(?:\.(?:eyJ)?[\w-]*(?:\.[\w-]*)*|(?<=[\w-]{300})[\w-]*)"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abeoprs]-[\w-]{8,}"  # Slack
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{8,}"  # Stripe
    r"|sk-(?<![A-Za-z0-9]sk-)(?=[\w-]{0,60}[0-9])[\w-]{16,}"  # OpenAI, Anthropic
    r"|pylf_v[0-9]+_\w{8,}|hf_[A-Za-z0-9]{20,}"  # Logfire, Hugging Face
)
# A private key, even where its end is missing: then as far as its alphabet goes (RFC 7468, RFC 4880 section 6.2).
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:(?!-----BEGIN )[\s\S]){0,16384}?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|[\w+/=\s\\:,.-]*)"
)
# Userinfo (RFC 3986 section 3.2.1), also with a raw "/" in the password; `host:80/` and ssh's `git@` are none.
# A host name has at most 253 characters: a longer run is masked, whether or not its "@" is in sight.
_USERINFO: Final = re.compile(
    r"://(?!git@)((?:[^\s/?#\"'<>]{1,256}(?=@)|[^\s/?#@:\"'<>]{0,64}:(?![0-9]{0,5}(?:[/?#]|$))[^\s\"'<>@]{1,256}(?=@))"
    r"|[^\s/?#\"'<>]{256,})"
)
_SIGNED_URL: Final = re.compile(r"[?&](?:sig|x-amz-signature|x-goog-signature)=([^&\s\"']+)")
_CURL_USER: Final = re.compile(r"-(?<!\S-)(?:u|-user)[ =][\"']?(?![0-9]+:[0-9])[^\s:+\"']{1,128}:([^\s\"']+)")
_SCHEME: Final = re.compile(r"b(?<![a-z0-9]b)(earer|asic)[ \t]+([\w.~+/=-]{6,})")
# ISO/IEC 7812: banking and travel numbers start with 2-6. Times since 1970 in ms, us or ns start with 1.
_CARD: Final = re.compile(
    r"[2-6](?<![0-9A-Za-z].)(?<![0-9]\..)"
    r"(?:[0-9]{12,18}|[0-9]{3}(?:([ -])[0-9]{4})(?:\1[0-9]{4}){1,2}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})(?![0-9A-Za-z])"
)
_LUHN: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# `name = value`: the part of a name that may be secret, its end, its quote, and what separates it from the value. The
# name decides afterwards. Runs on the lower-cased text, since IGNORECASE takes the skipping away.
_NAMED: Final = re.compile(
    r"(?:pass|pwd|secret|token|key|auth|cred|cookie|sess|jwt|bearer)[\w.-]{0,48}"
    r"(?:(?:\\{0,4}[\"'`])?\]?[ \t]*(?::=|=>|==?|:)[ \t]*|(?P<flag>[ \t]+))"
)
_ANY_NAMED: Final = re.compile(  # for further patterns of the user's, which may match any name
    r"(?:^|(?<=[^\w.-]))[\w.-]{1,64}(?:(?:\\{0,4}[\"'`])?\]?[ \t]*(?::=|=>|==?|:)[ \t]*|(?P<flag>[ \t]+))"
)
_VALUE: Final = re.compile(
    r"[bfru]{0,2}(?P<q>\\{0,4}(?:\"\"\"|'''|[\"'`]))(?P<quoted>(?:(?!(?P=q))(?:\\.|[^\\\n]))+)"
    r"|(?P<group>[\[{(][^\]})\n]*[\]})]?)"
    r"|(?P<bare>(?:(?:bearer|basic|digest|negotiate|token|apikey)[ \t]+)?[^\s\"'`&]*[^\s\"'`&,;:.)}\]>])"
)
_LINE: Final = re.compile(r"[^\r\n\"'`]+")
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
_PLAIN_WORDS: Final = frozenset(
    {"none", "null", "true", "false", "str", "int", "bool", "bytes", "float", "any", "optional"}
)


def _is_card(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1 annex B) over a text whose digits count 13 to 19."""
    numbers = [ord(digit) - 48 for digit in reversed(digits) if digit.isdigit()]
    if not 13 <= len(numbers) <= 19:
        return False
    return (sum(numbers[::2]) + sum(_LUHN[number] for number in numbers[1::2])) % 10 == 0


def _cards(text: str) -> _Spans:
    for match in _CARD.finditer(text):
        if _is_card(match.group()):
            yield match.span()


def _looks_basic(token: str) -> bool:
    """Whether this is the payload of RFC 7617, and not the word after "basic" in a sentence."""
    try:
        if b":" in base64.b64decode(token + "=" * (-len(token) % 4), validate=True):
            return True
    except (binascii.Error, ValueError):
        pass
    return not token.isalpha() or not (token.islower() or token.istitle())


def _schemes(text: str, low: str) -> _Spans:
    """The credentials after `Bearer` (RFC 6750) and `Basic` (RFC 7617)."""
    for match in _SCHEME.finditer(low):
        start, end = match.span(2)
        token = text[start:end]
        if not token.lower().startswith(("token", "auth")) if match[1] == "earer" else _looks_basic(token[:1024]):
            yield start, end


def _name(text: str, low: str, match: re.Match[str]) -> str:
    """The whole name of which a match of `_NAMED` found the end; of `api key` both words."""
    start, end = match.span()
    while start and low[start - 1] in _NAME_CHARACTERS and match.start() - start < 64:
        start -= 1
    if low.startswith("key", start) and low[start - 1 : start] == " ":
        start -= 1
        while start and low[start - 1] in _NAME_CHARACTERS and match.start() - start < 64:
            start -= 1
    return text[start:end].rstrip(" \t\"'`]\\:=>")


def _assigned(text: str, low: str, pattern: re.Pattern[str], is_secret: Callable[[str], bool]) -> _Spans:
    """The values of `name=value`, `"name": "value"` and `--name value` whose name looks secret."""
    at = 0
    while match := pattern.search(low, at):
        at = match.end()
        name = _name(text, low, match)
        if match["flag"] is not None and not (name.startswith("--") and low[at : at + 1] not in ("-", "")):
            continue
        if not is_secret(name):
            continue
        to_line_end = match.group().rstrip(" \t").endswith(":") and name.lower().endswith(("authorization", "cookie"))
        value = (_LINE.match(low, at) if to_line_end else None) or _VALUE.match(low, at)
        if value is None:
            continue
        group = value.lastgroup or 0
        if value[group] not in _PLAIN_WORDS and value[group] != MASK:
            yield value.span(group)
        at = value.end()


def _groups(pattern: re.Pattern[str], text: str) -> _Spans:
    return (match.span(1) for match in pattern.finditer(text))


def _whole(pattern: re.Pattern[str], text: str) -> _Spans:
    return (match.span() for match in pattern.finditer(text))


def _spliced(text: str, spans: _Spans) -> str:
    """The text with a mask in place of each span; the same object when there is none."""
    parts: list[str] = []
    done = 0
    for start, end in spans:
        parts += text[done:start], MASK
        done = end
    return "".join((*parts, text[done:])) if parts else text


def _lower(text: str) -> str:
    """Lower case of the same length: U+0130 is the one character whose lower case has two."""
    low = text.lower()
    return low if len(low) == len(text) else text.replace("\u0130", "i").lower()


def _forms(value: str) -> set[str]:
    """A literal secret as it may turn up: as it is, stripped, escaped for JSON or a URL, and line by line."""
    from urllib.parse import quote, quote_plus

    bare = value.strip()
    forms = {value, bare, quote(bare, safe="", errors="replace"), quote_plus(bare, errors="replace")}
    forms |= {form[1:-1] for form in (encode_basestring(bare), encode_basestring_ascii(bare), repr(bare))}
    if "\n" in bare:  # logs are written line by line
        forms.update(line.strip() for line in bare.splitlines()[:128] if len(line.strip()) >= 8)
    return {form for form in forms if len(form) >= 4 and form not in MASK}


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"redact pattern {pattern!r} is not a regular expression: {error}") from error


def _without_schemes(text: str) -> str:
    low = _lower(text)
    return _spliced(text, _schemes(text, low)) if "bearer " in low or "basic " in low else text


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
        object.__setattr__(self, "_literals", tuple(sorted(found, key=lambda item: (-item[1], item[0]))))

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

    def passes(self, name: str) -> bool:
        """Whether a name is no secret's and holds none: the usual case, answered from a cache where it can be."""
        if len(name) > 64 or self._patterns or self._literals:
            return not self.key(name) and self.text(name) is name
        return _passes(name)

    def text(self, value: str) -> str:
        """The text with each secret in it masked; the same object when there is none. Linear in its length."""
        if self._literals:
            value = self._without_literals(value)
        named = "=" in value or ":" in value or "--" in value
        if named:
            value = self._without_named(value)
        if len(value) < 13:  # the shortest secret without a name: a card number, or "Basic " and 7 letters
            return value
        if _TOKEN_CUE.search(value):
            value = _spliced(_spliced(value, _whole(_PEM, value)), _whole(_TOKEN, value))
        if " " in value:
            value = _without_schemes(value)
        if _CARD.search(value):
            value = _spliced(value, _cards(value))
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
        return masked, masked is not text, str.__len__(value) > len(text)

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

    def _without_named(self, value: str) -> str:
        if "://" in value:
            value = _spliced(value, _groups(_USERINFO, value))
        if "-u" in value:
            value = _spliced(value, _groups(_CURL_USER, value))
        pattern = _ANY_NAMED if self._patterns else _NAMED
        low = _lower(value)
        if pattern.search(low):
            value = _spliced(value, _assigned(value, low, pattern, self.key))
            low = _lower(value)
        return _spliced(value, _groups(_SIGNED_URL, low)) if "sig" in low else value


@lru_cache(maxsize=4096)
def _passes(name: str) -> bool:
    return not names_a_secret(name) and _PLAIN.text(name) is name


_PLAIN: Final = Redactor()
