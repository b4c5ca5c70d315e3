"""HTTP to a live server: addresses, tokens, answers. The standard library's client; it follows no redirection."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote, unquote, urlsplit

TIMEOUT: Final = 45.0
"""Seconds without a byte after which a connection is dead: a live one has a heartbeat each 15 seconds."""

_MOST: Final = 8 * 2**20
_EXPECTED: Final = "expected a URL such as http://127.0.0.1:8765/#code=…"


class Refused(Exception):  # noqa: N818 - the end of the watching, in one sentence
    """The server will not have us, and will not the next time either: why, in one sentence."""


class Unavailable(Exception):  # noqa: N818 - a state that passes
    """The server can't be reached, or can't answer now.

    Attributes:
        reason: why, in a few words.
        after: seconds after which it wants to be asked again; 0 where it does not say.
        status: of its answer; 0 where there was none.
    """

    def __init__(self, reason: str, after: float = 0, status: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.after, self.status = reason, after, status


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, from the URL that it prints, or that of one of its pages.

    Attributes:
        scheme: http or https.
        host: without brackets.
        port: a number.
        base: what stands before all paths; empty or `/…`.
        code: the one-time code of the fragment, if there is one.
        run: the run that the page shows, if it is that of one.
    """

    scheme: str
    host: str
    port: int
    base: str
    code: str = ""
    run: str = ""

    @classmethod
    def read(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            ValueError: it is none of a server; the message says what one looks like, and shows nothing of it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # brackets without an address between them, a port that is no number
            raise ValueError(_EXPECTED) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ValueError(_EXPECTED)
        if parts.username is not None or parts.password is not None or parts.query:
            raise ValueError(
                "a token belongs into OTEL_RUNNABLE_WATCH_TOKEN or --token-file: others can read command lines"
            )
        code = parts.fragment.removeprefix("code=") if parts.fragment.startswith("code=") else ""
        page = re.fullmatch(r"(.*)/runs/([^/]+)(?:/events)?", parts.path.rstrip("/"))
        base, run = (page[1], unquote(page[2])) if page else (parts.path.rstrip("/"), "")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.hostname, default if port is None else port, base, unquote(code), run)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base}"


class Client:
    """Asks one server.

    Args:
        address: where it is.
        token: for reading; empty: none.
    """

    def __init__(self, address: Address, token: str = "") -> None:
        self.address = address
        self.token = token

    def exchange(self) -> None:
        """Get a token for the address's code.

        Raises:
            Refused: the code is used up, too old, or wrong.
            Unavailable: there is no answer.
        """
        body = json.dumps({"code": self.address.code})
        status, answer = self._ask("POST", "/token", {"Content-Type": "application/json"}, body)
        token = answer.get("token")
        if status != 200 or not isinstance(token, str):
            raise Refused(
                "the server does not take this code: it works once, for ten minutes; "
                "set OTEL_RUNNABLE_WATCH_TOKEN, or start the server anew"
            )
        self.token = token

    def json(self, path: str) -> Mapping[str, Any] | None:
        """A JSON object of the API; None where there is none of that name (404).

        Raises:
            Refused: the token is wrong, or there is another server.
            Unavailable: there is no answer.
        """
        status, answer = self._ask("GET", path, {"Accept": "application/json"})
        return None if status == 404 else answer

    def stream(self, path: str, last_id: str = "") -> http.client.HTTPResponse | None:
        """An open stream of events, or None where there will be no more of them (204).

        Raises:
            Refused: the token is wrong, or there is another server.
            Unavailable: there is no answer, or no such run (404).
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        response = self._open("GET", path, headers)
        if response.status == 204:
            response.close()
            return None
        if response.status == 404:
            response.close()
            raise Unavailable("the server does not know this run (any more)", status=404)
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            response.close()
            raise Refused(f"{self.address} is no server of runnable-otel's: it sends no stream")
        return response

    def _ask(self, method: str, path: str, headers: dict[str, str], body: str = "") -> tuple[int, Mapping[str, Any]]:
        with self._open(method, path, headers, body) as response:
            try:
                data: object = json.loads(response.read(_MOST))
            except (ValueError, RecursionError):
                data = None
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(_why(error)) from None
        if not isinstance(data, dict):
            raise Refused(f"{self.address} is no server of runnable-otel's: it does not answer in JSON")
        return response.status, cast("dict[str, Any]", data)

    def _open(self, method: str, path: str, headers: dict[str, str], body: str = "") -> http.client.HTTPResponse:
        kind = http.client.HTTPSConnection if self.address.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.address.host, self.address.port, timeout=TIMEOUT)
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token and path != "/token" else {}
        try:
            connection.request(
                method, self.address.base + path, body or None, {**headers, **bearer, "Connection": "close"}
            )
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable(_why(error)) from None
        except UnicodeError:
            raise Refused(f"{self.address.host} is no name of a host") from None
        if response.status in (200, 204, 404) or path == "/token":
            return response
        said, after = _said(response), response.headers.get("Retry-After", "")
        response.close()
        if response.status == 401:
            raise Refused(
                "the server wants a token, or another one: set OTEL_RUNNABLE_WATCH_TOKEN, name a --token-file, "
                "or use the URL with the code that `serve` prints"
            )
        if response.status == 429 or response.status >= 500:
            seconds = min(int(after), 60) if after.isdigit() and len(after) < 9 else 0
            raise Unavailable(said or f"status {response.status}", seconds, response.status)
        raise Refused(f"{self.address} answers with status {response.status}{said and ': '}{said}")


def run_path(run: str) -> str:
    """The path of a run, by trace id or run id."""
    return f"/runs/{quote(run, safe='')}"


def _said(response: http.client.HTTPResponse) -> str:
    """The sentence of an error, which is JSON."""
    with suppress(ValueError, RecursionError, OSError, http.client.HTTPException):
        data: object = json.loads(response.read(65536))
        if isinstance(data, dict):
            said = cast("dict[str, Any]", data).get("error")
            return said[:200] if isinstance(said, str) else ""
    return ""


def _why(error: Exception) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, http.client.HTTPException):
        return "no answer that is HTTP" if not isinstance(error, http.client.IncompleteRead) else "connection lost"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()[:200]
