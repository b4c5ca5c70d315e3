"""Which names are a secret's: decided on words, so that `token_count`, `author` and `secretary` stay readable."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["names_a_secret"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(first: str, *seconds: str) -> frozenset[str]:
    return frozenset(word + second for word in first.split() for second in seconds)


_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

# Words that make a name secret by themselves. Not "tokens", nor "key", nor "sessions".
_SECRET: Final = _words(
    "authorization bearer cookie cookies credential credentials creds jwt passcode passphrase passphrases passwd "
    "password passwords pwd secret secrets token"
)
# Two words that make it secret together: `api_key`, `x-api-key`, `apikey`, `pass_word`.
_PAIRS: Final = (
    _pairs("access account api auth private secret shared signing ssh", "key", "keys")
    | _pairs("encryption master", "key")
    | _pairs("access api auth bearer oauth refresh session", "token", "tokens")
    | _pairs("bot csrf id", "token")
    | _pairs("auth", "code", "cookie", "data", "header", "headers", "info")
    | _pairs("session", "cookie", "data", "id", "ids")
    | _pairs("pass", "code", "phrase", "wd", "word")
    | _pairs("admin db ftp mysql pg redis root smtp user", "pass")
)
# At the end of a word that is not split: `dbpassword`, `myapikey`, `PHPSESSID`.
_ENDINGS: Final = (*_PAIRS, "credentials", "passphrases", "passwords", "secret", "secrets", "sessid")
# Words that are a secret only as the last one: `auth_method` and `session_length` tell nothing.
_LAST: Final = _words("auth session")
# A later word that makes it innocent: a property of the secret, or its place, not the secret.
_ABOUT: Final = _words(
    "accuracy age algorithm banner budget class classification consent cost count counts dim dir directory domain "
    "dropout duration embedding embeddings enabled endpoint expiration expired expires expiry file filename folder "
    "format frequency index indices len length level lifetime limit limits logprob logprobs loss manager mask masks "
    "max method min mode name names num number path per policy position positions price prices probs provider rate "
    "ratio required scope scopes size sizes stats throughput timeout total ttl type types uri url usage used valid "
    "validity vocab"
)
# A word right before `token` that makes it a language model's.
_MODEL: Final = _words(
    "avg bos cls end eos first last mask max mean min n num pad per prefix sep special start stop suffix total unk"
)
_QUESTION: Final = _words("count has is num")


def _is_secret(words: list[str], at: int) -> bool:
    """Whether the word at this place, alone or with the one before, names a secret."""
    word, before, after = words[at], words[at - 1] if at else "", words[at + 1 : at + 2]
    if word in _LAST:
        return not after
    if word == "token" and (before in _MODEL or after == ["ids"]):
        return False
    return word in _SECRET or word.endswith(_ENDINGS) or (bool(before) and before + word in _PAIRS)


@lru_cache(maxsize=4096)
def names_a_secret(name: str) -> bool:
    """Whether a name, in snake, camel, kebab, dotted or upper case, looks like a secret's.

    The answer is cached by name, so pass short ones: the cache keeps them.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[0] in _QUESTION:
        return False
    return any(_is_secret(words, at) and _ABOUT.isdisjoint(words[at + 1 :]) for at in range(len(words)))
