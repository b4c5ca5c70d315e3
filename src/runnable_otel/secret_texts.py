"""Secrets inside a text: tokens of known shape, `name=value` pairs, credentials in URLs and headers, card numbers.

Each function returns the text with a mask in place of each secret, or the same object when there is none, in time
linear in its length: every repetition that can fail is bounded, or starts only where another one ended.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["MASK", "without_cards", "without_named", "without_schemes", "without_tokens", "without_userinfo"]

MASK: Final = "[redacted]"

# (start, end) of each part to mask, in order and without overlap.
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
_USERINFO: Final = re.compile(
    r"://(?!git@)((?:[^\s/?#\"'<>]{1,256}(?=@)|[^\s/?#@:\"'<>]{0,64}:(?![0-9]{0,5}(?:[/?#]|$))[^\s\"'<>@]{1,256}(?=@)))"
)
# A host name has at most 253 characters: a longer run is masked, whether or not its "@" is in sight.
_LONG_USERINFO: Final = re.compile(r"://([^\s/?#\"'<>]{256,})")
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
    # A quote, escaped or not, single or triple; it closes where it stands again without a further backslash.
    r"[bfru]{0,2}(?P<q>(?P<b>\\{0,4})[\"'`](?:(?P=b)[\"'`](?P=b)[\"'`])?)(?P<quoted>(?:(?!(?<!\\)(?P=q))[^\n])+)"
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
        if value[group].partition("[")[0] not in _PLAIN_WORDS and value[group] != MASK:
            yield value.span(group)
        at = value.end()


def _groups(pattern: re.Pattern[str], text: str) -> _Spans:
    return (match.span(1) for match in pattern.finditer(text) if match[1] != MASK)


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


def without_tokens(text: str) -> str:
    """Tokens of a published shape, and private keys."""
    if not _TOKEN_CUE.search(text):
        return text
    text = _spliced(text, _whole(_PEM, text))
    return _spliced(text, _whole(_TOKEN, text))


def without_cards(text: str) -> str:
    """Card numbers that pass Luhn's check."""
    return _spliced(text, _cards(text)) if _CARD.search(text) else text


def without_schemes(text: str) -> str:
    """What follows `Bearer` and `Basic`."""
    low = _lower(text)
    return _spliced(text, _schemes(text, low)) if "bearer " in low or "basic " in low else text


def without_userinfo(text: str) -> str:
    """`user:password` in URLs and in curl's `--user`."""
    if "://" in text:
        text = _spliced(text, _groups(_USERINFO, text)) if "@" in text else text
        text = _spliced(text, _groups(_LONG_USERINFO, text))
    return _spliced(text, _groups(_CURL_USER, text)) if "-u" in text else text


def without_named(text: str, is_secret: Callable[[str], bool], any_name: bool) -> str:
    """The values of names for which `is_secret` holds; asks for those with a usual part, or for any name."""
    pattern = _ANY_NAMED if any_name else _NAMED
    low = _lower(text)
    if pattern.search(low):
        text = _spliced(text, _assigned(text, low, pattern, is_secret))
        low = _lower(text)
    return _spliced(text, _groups(_SIGNED_URL, low)) if "sig" in low else text
