"""Who may come in: each sentence of the live server's security promise, against a real server."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")

import contextlib  # noqa: E402

import httpx  # noqa: E402 - it may be missing

from runnable_otel.server.tokens import CODE_SECONDS, Tokens  # noqa: E402
from support.serve import TOKEN, Serve, export, started, whole_run  # noqa: E402

BEARER = {"Authorization": f"Bearer {TOKEN}"}
MB = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(tmp_path_factory.mktemp("serve")) as server:
        server.send(*whole_run(1))
        yield server


@pytest.fixture
def stored(server: Serve) -> Iterator[None]:
    """What the test does writes nothing, and the server stays small."""
    with server.client() as client:
        before = client.get("/runs").json()
        yield
        assert client.get("/runs").json() == before
    assert server.memory() < 300 * MB


def ask(server: Serve, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    return httpx.request(method, server.url + path, trust_env=False, timeout=30, **more)


def flood(server: Serve, head: bytes, piece: bytes, size: int = 30 * MB) -> bytes:
    """Send so much on one connection and read nothing of it, until the server has enough; what it said."""
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        try:
            connection.sendall(head)
            while sent < size:
                sent += connection.send(piece)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(MB), b""))
        except ConnectionError:
            return b""


CHUNKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"GET / HTTP/1.1\r\n\r\n" * 10_000),
        (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10_000),
        (b"", b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n" * 10_000),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
        (CHUNKED + b"0\r\na: ", b"b" * 60_000),
        (CHUNKED, b"1\r\na\r\n" * 10_000),
        (CHUNKED + b"1;a=", b"b" * 60_000),
        (CHUNKED, b"000000000000" * 5_000),
        (b"GET /healthz HTTP/1.1\r\na: ", b"b" * 60_000),
        (b"GET /", b"b" * 60_000),
        (b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        (b"", b"\r\n" * 30_000),
        (b"", b"\x00" * 60_000),
    ],
    ids=lambda value: repr(value[-24:]),
)
def test_floods(server: Serve, head: bytes, piece: bytes, stored: None) -> None:
    """What comes without end is bounded in memory; others are served."""
    small = server.memory()
    for _ in range(3):
        flood(server, head, piece)
        assert ask(server, "/healthz").status_code == 200
    assert server.memory() < small + 60 * MB


def test_who_writes_before_reading(server: Serve, stored: None) -> None:
    """A client that sends all of a body that is too large sees why it is refused."""
    body = b"x" * (20 * MB)
    fields = ["Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join(["POST /v1/logs HTTP/1.1", *fields, "\r\n"])
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        rest = b"".join(iter(lambda: connection.recv(MB), b""))
        assert b"HTTP/1.1 200 OK" in rest


READS = ["/runs", "/runs/run-1", "/runs/run-1/events", "/events"]
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "chrome-extension://abcdef"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Cookie": f"token={TOKEN}"},
    ],
    ids=str,
)
def test_reading_needs_the_token(server: Serve, path: str, headers: dict[str, str]) -> None:
    """No token, a wrong one, one in a cookie: 401, and nothing is read."""
    answer = ask(server, path, headers=headers)
    assert answer.status_code == 401
    assert "run-1" not in answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", READS)
def test_no_token_in_a_query(server: Serve, path: str) -> None:
    """A token in the query is none; and nothing sets a cookie."""
    for name in ("token", "access_token", "authorization", "code"):
        answer = ask(server, f"{path}?{name}={TOKEN}")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_foreign_pages(server: Serve, stored: None, headers: dict[str, str]) -> None:
    """A foreign or `null` origin, or a fetch from another site, is 403 on every method and path, token or not."""
    paths = [*READS, "/", "/healthz", "/token", "/v1/logs", "/openapi.json", "/nonsense"]
    for path, method in product(paths, ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"]):
        body = {"content": json.dumps(export([started(2)]))} if method == "POST" else {}
        kind = {"Content-Type": "application/json"}
        answer = ask(server, path, method, headers={**headers, **kind, **BEARER}, **body)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    for otlp in (server.url, server.otlp):
        answer = server.send(started(2), url=otlp, **headers)
        assert answer.status_code == 403


def test_own_page(server: Serve) -> None:
    """The server's own page may read and write."""
    for name in ("127.0.0.1", "localhost"):
        own = {
            "Host": f"{name}:{server.port}",
            "Origin": f"http://{name}:{server.port}",
            "Sec-Fetch-Site": "same-origin",
        }
        assert ask(server, "/runs", headers={**own, **BEARER}).status_code == 200
    assert ask(server, "/", headers={"Sec-Fetch-Site": "none"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "0.0.0.0",
        "[::]",
        "[::1",
        "127.0.0.2",
        "localhost:x",
        "localhost:80:80",
        "",
        ":80",
        "2130706433",
    ],
)
def test_rebound_host(server: Serve, stored: None, host: str) -> None:
    """A host that is not ours is 403, on each path and port: a name that points here is not enough."""
    for path in (*READS, "/", "/healthz", "/openapi.json"):
        assert ask(server, path, headers={"Host": host}).status_code == 403
    for otlp in (server.url, server.otlp):
        assert server.send(started(3), url=otlp, Host=host).status_code == 403
    code = {"code": server.code}
    assert ask(server, "/token", "POST", json=code, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "localhost.:8765", "[::1]:80"])
def test_host_without_port(server: Serve, host: str) -> None:
    """Our names are ours whatever the port: a tunnel has another one."""
    assert ask(server, "/healthz", headers={"Host": host}).status_code == 200


def test_a_token_replaces_the_host(server: Serve) -> None:
    """Who has the token may call the server by any name; no other page knows it."""
    assert ask(server, "/runs", headers={"Host": "live.example", **BEARER}).status_code == 200


def test_no_or_two_hosts(server: Serve) -> None:
    """A request without a Host header, or with two, is refused."""
    assert b" 403 " in server.raw(b"GET /healthz HTTP/1.0\r\n\r\n").split(b"\r\n")[0]
    two = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert server.raw(two).split(b" ")[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/json, text/plain",
        "",
        None,
    ],
)
def test_content_types(server: Serve, stored: None, kind: str | None) -> None:
    """What a form or a blob of a web page can send is 415: only OTLP's two types are taken."""
    body = json.dumps(export([started(4)])).encode()
    headers = {} if kind is None else {"Content-Type": kind}
    for url in (server.url, server.otlp):
        answer = httpx.post(f"{url}/v1/logs", content=body, headers=headers, trust_env=False)
        assert answer.status_code == 415
    answer = httpx.post(f"{server.url}/token", content=json.dumps({"code": "x"}), headers=headers, trust_env=False)
    assert answer.status_code == 415


def test_code_once(tmp_path: Path) -> None:
    """The code of the printed address is exchanged for the token once; a wrong or used one is refused."""
    with Serve(tmp_path) as server:
        assert "#code=" in server.said
        assert TOKEN not in server.said
        assert ask(server, "/token", "POST", json={"code": "wrong"}).status_code == 403
        token = ask(server, "/token", "POST", json={"code": server.code}).json()["token"]
        assert ask(server, "/runs", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert ask(server, "/token", "POST", json={"code": server.code}).status_code == 403
        assert token not in "".join(server.lines)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"code": 1}', b'{"code": null}', b"null", b"\xff", b"[" * 4000])
def test_bad_token_bodies(server: Serve, body: bytes) -> None:
    """A body that is not the exchange's is 400."""
    answer = ask(server, "/token", "POST", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_old_code() -> None:
    """A code ends after ten minutes, and works until then; only the last sixteen are known."""
    now = 0.0
    tokens = Tokens("secret", clock=lambda: now)
    first, second = tokens.code(), tokens.code()
    now = CODE_SECONDS - 1
    assert tokens.exchange(first) == "secret"
    now = CODE_SECONDS + 1
    assert tokens.exchange(second) is None
    codes = [tokens.code() for _ in range(17)]
    assert tokens.exchange(codes[0]) is None
    assert tokens.exchange(codes[1]) == "secret"


def test_tokens_are_compared_whole() -> None:
    """A token is its own only; readers' and writers' are apart; an empty one is refused."""
    tokens = Tokens("reader", "writer")
    for text in ("", "reade", "readers", "READER", "writer", "réader", "\ud800", None):
        assert not tokens.reads(text)
    assert tokens.reads("reader")
    assert tokens.writes("writer")
    assert not tokens.writes("reader")
    assert not Tokens("reader").writes("")
    assert len({Tokens().token for _ in range(10)}) == 10
    for name in ("token", "ingest_token"):
        with pytest.raises(ValueError, match="can't be empty"):
            Tokens(**{name: ""})


def test_forwarded_ingest(server: Serve, stored: None) -> None:
    """A proxy on this machine does not make its clients programs of this machine."""
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded", "X-Real-IP", "Via"):
        for url in (server.url, server.otlp):
            assert server.send(started(5), url=url, **{name: "127.0.0.1"}).status_code == 401


def test_ingest_token(tmp_path: Path) -> None:
    """Where there is a writers' token only it writes, and it reads nothing."""
    with Serve(tmp_path, RUNNABLE_OTEL_SERVE_INGEST_TOKEN="writer") as server, server.client() as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, BEARER):
            assert server.send(started(6), **headers).status_code == 401
        assert client.get("/runs").json()["runs"] == []
        writer = {"Authorization": "Bearer writer", "Host": "live.example"}
        assert server.send(started(6), **writer).status_code == 200
        assert len(client.get("/runs").json()["runs"]) == 1
        assert ask(server, "/runs", headers=writer).status_code == 401


def test_security_headers(server: Serve) -> None:
    """Every answer has them, errors and streams too."""
    asked = [ask(server, path, headers=BEARER) for path in ("/", "/runs", "/runs/x", "/healthz", "/runs/run-1/events")]
    asked += [ask(server, "/runs"), ask(server, "/runs", headers={"Host": "evil.example"}), ask(server, "/x", "PUT")]
    asked += [ask(server, "/", headers={"Accept": "text/html"})]
    for answer in asked:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


def test_cors_only_if_asked(tmp_path: Path) -> None:
    """A page that is named may read with a token; its preflight is answered, and no other page's."""
    origin = "https://dash.example"
    with Serve(tmp_path, "--cors", origin) as server:
        browser = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = ask(server, "/runs", headers={**browser, **BEARER})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert "access-control-allow-credentials" not in answer.headers
        preflight = ask(server, "/runs", "OPTIONS", headers={**browser, "Access-Control-Request-Method": "GET"})
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, origin)
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert ask(server, "/runs", headers=browser).status_code == 401
        other = {"Origin": "https://evil.example"}
        assert ask(server, "/runs", "OPTIONS", headers=other).status_code == 403


def test_a_page_that_reads_does_not_write(tmp_path: Path) -> None:
    """A page that `--cors` names is no program of this machine: it writes with the writers' token, or not at all."""
    browser = {"Origin": "https://dash.example", "Sec-Fetch-Site": "cross-site"}
    with Serve(tmp_path, "--cors", "https://Dash.example") as server:
        for headers in (browser, {**browser, **BEARER}):
            assert server.send(started(6), **headers).status_code == 401
        assert ask(server, "/runs", headers={**browser, **BEARER}).json()["runs"] == []
    with Serve(tmp_path, "--cors", "https://dash.example", RUNNABLE_OTEL_SERVE_INGEST_TOKEN="writer") as server:
        assert server.send(started(6), **browser, Authorization="Bearer writer").status_code == 200


# What is too much.


def post(server: Serve, body: bytes, **headers: str) -> int:
    """The status of an export request; 0 where the server closed before the body was sent."""
    headers = {"Content-Type": "application/json", **headers}
    try:
        return httpx.post(
            f"{server.otlp}/v1/logs", content=body, headers=headers, trust_env=False, timeout=60
        ).status_code
    except httpx.TransportError:
        return 0


def test_zip_bomb(server: Serve, stored: None) -> None:
    """A small body that unpacks to a large one is 413."""
    bomb = gzip.compress(bytes(200 * MB))
    assert post(server, bomb, **{"Content-Encoding": "gzip"}) == 413
    assert post(server, gzip.compress(bomb), **{"Content-Encoding": "gzip"}) in (400, 413)


def test_ten_million_records(server: Serve, stored: None) -> None:
    """Ten million empty records, packed into some kilobytes, are not unpacked to objects."""
    head, tail = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[', b"{}]}]}]}"
    assert post(server, gzip.compress(head + b"{}," * 10_000_000 + tail), **{"Content-Encoding": "gzip"}) == 413
    assert post(server, head + b"{}," * 20_000 + tail) == 413
    wire = b"\x0a\x00" * 10_000_000  # empty ResourceLogs
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/x-protobuf"}
    assert post(server, gzip.compress(wire), **packed) == 413
    assert post(server, b"\x0a\x00" * 20_000, **{"Content-Type": "application/x-protobuf"}) == 413


def test_nesting(server: Serve, stored: None) -> None:
    """Values inside one another without end are refused."""
    assert post(server, b"[" * 1_000_000) in (400, 413)
    assert post(server, b'{"a":' * 100_000 + b"1" + b"}" * 100_000) in (400, 413)


def test_large_body(server: Serve, stored: None) -> None:
    """A body of 100 MB is refused before it is here, whether it says its length or not."""
    assert post(server, bytes(100 * MB)) in (413, 0)
    chunk = b"100000\r\n" + bytes(MB) + b"\r\n"
    head = b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((server.host, server.port), 30) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(100):
                connection.sendall(chunk)
            # All of it went into the system's own buffers: then the answer does not.
            assert b" 413 " in connection.recv(65536)
            raise ConnectionError


@pytest.mark.parametrize("size", [100_000, MB, 20 * MB])
def test_large_heads(server: Serve, stored: None, size: int) -> None:
    """A header, a path or a query without end is refused."""
    tail = f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    heads = [
        b"GET /runs/run-1/events" + tail + b"Last-Event-ID: " + b"9" * size + b"\r\n\r\n",
        b"GET /runs/" + b"9" * size + tail + b"\r\n",
        b"GET /runs?text=" + b"9" * size + tail + b"\r\n",
        b"GET /runs" + tail + b"a: b\r\n" * (size // 6) + b"\r\n",
    ]
    for head in heads:
        answer = server.raw(head)
        assert not answer or answer.split(b" ")[1] in (b"400", b"414", b"431")
        assert b"pipeline_started" not in answer


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..\\..\\etc\\passwd",
        "/assets//etc/passwd",
        "/assets/%00",
        "//etc/passwd",
        "/runs/../healthz/../runs",
        "/runs/%2e%2e",
        "/runs/..%2f..",
        "/runs/%00/events",
        "/runs/%ff%fe",
        "/runs/%ed%a0%80",
        "/runs/%F0%9F%98%80/events",
        "/%2e%2e/runs",
        "http://evil.example/runs",
        "/runs;/events",
        "*",
    ],
)
def test_path_tricks(server: Serve, stored: None, path: str) -> None:
    """No path leads out of the page's files, around the token, or to an error of the server's own."""
    for token in ("", f"Authorization: Bearer {TOKEN}\r\n"):
        answer = server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n".encode())
        status = answer.split(b" ")[1]
        assert status in ((b"400", b"401", b"404") if not token else (b"200", b"400", b"404")), answer
        assert b"root:" not in answer


def test_slow_head(server: Serve) -> None:
    """Who opens a connection and says nothing is cut."""
    with socket.create_connection((server.host, server.port), 30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_websocket(server: Serve) -> None:
    """There are no web sockets."""
    head = b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    answer = server.raw(head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"401", b"403", b"426")
