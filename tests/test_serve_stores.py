"""A live server whose store is full, away, or not to be had: what it answers, and how it goes on."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")

import httpx  # noqa: E402 - it may be missing

from support.disk import small_disk  # noqa: E402
from support.otlp import PROTOBUF, encoded, logs  # noqa: E402
from support.project import environment  # noqa: E402
from support.redis import RedisServer, needs_redis  # noqa: E402
from support.serve import Serve, completed, done, started, task, trace_id, whole_run  # noqa: E402
from support.waiting import wait_until  # noqa: E402

LARGE = {"inputs": {"x": "x" * 5000}}


def goes_down_and_comes_back(
    server: Serve, breaks: Callable[[], object], mends: Callable[[], object], why: str
) -> None:
    """While the store takes nothing: 503 with Retry-After, streams stay, it says why; then all goes on by itself."""
    server.send(started(1)).raise_for_status()
    with server.client() as client, server.stream("/runs/run-1/events") as stream:
        assert stream.uids(1) == [started(1)["uid"]]
        breaks()
        refused = [each for number in range(50) for each in (task(number, **LARGE), done(number))]
        for url in (server.otlp, server.url):
            answer = server.send(*refused, url=url)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) > 0
            assert why in answer.json()["message"]
        health = httpx.get(f"{server.url}/healthz", trust_env=False)
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert why in health.json()["reason"]
        mends()
        wait_until(lambda: client.get("/healthz").json()["status"] == "ok")
        wait_until(lambda: server.send(*refused, completed(1)).status_code == 200)
        expected = [each["uid"] for each in (*refused, completed(1))]
        assert stream.uids() == expected
        assert client.get("/runs/run-1").json()["tasks"]["completed"] == 50


def test_full_disk(tmp_path: Path) -> None:
    """No space on the disk of the file."""
    with small_disk(tmp_path / "disk") as disk, Serve(tmp_path, "--db", str(disk.folder / "runs.db")) as server:
        goes_down_and_comes_back(server, disk.fill, disk.free, "the disk is full")


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A limit of the system's that hits the file is not the end of the process."""
    with Serve(tmp_path, "--db", "runs.db") as server:

        def limit(size: int) -> Callable[[], object]:
            hard = resource.RLIM_INFINITY
            return lambda: resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))

        goes_down_and_comes_back(server, limit(64 * 1024), limit(resource.RLIM_INFINITY), "can't be written")


@pytest.mark.parametrize("append", ["no", "yes"])
def test_redis_is_away(tmp_path: Path, append: str) -> None:
    """Redis is not there for a while. What it kept is there again and streams go on, after a gap where it lost it."""
    needs_redis()
    options = {"appendonly": append, "appendfsync": "always"}
    with RedisServer(tmp_path, tcp=True, **options) as redis, Serve(tmp_path, "--db", redis.url) as server:
        if append == "yes":
            goes_down_and_comes_back(server, redis.stop, redis.start, "out of reach")
            return
        server.send(started(1))
        with server.client() as client, server.stream("/runs/run-1/events") as stream:
            assert stream.uids(1)
            redis.restart()
            wait_until(lambda: server.send(*whole_run(1, 2)).status_code == 200)
            wait_until(lambda: server.send(*whole_run(1)).status_code == 200)
            told = [event for event, _, _ in stream.frames()]
            assert (told[0], told[-1], told.count("message")) == ("gap", "end", 4)
            assert client.get("/runs/run-2").json()["status"] == "success"


def test_redis_is_full(tmp_path: Path) -> None:
    """Redis that may use no more memory takes nothing, says why, and goes on when it may."""
    needs_redis()
    with RedisServer(tmp_path, tcp=True) as redis, Serve(tmp_path, "--db", redis.url) as server:
        goes_down_and_comes_back(
            server,
            lambda: redis.command("CONFIG", "SET", "maxmemory", "1"),
            lambda: redis.command("CONFIG", "SET", "maxmemory", "0"),
            "is out of memory",
        )


def test_full_of_runs(tmp_path: Path) -> None:
    """A log in memory that is full of runs of which none is over: 503, and room as soon as one is."""
    with Serve(tmp_path, "--retain-runs", "2") as server, server.client() as client:
        server.send(started(1), started(2))
        answer = server.send(started(3))
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        assert "none of them is over" in client.get("/healthz").json()["reason"]
        body = encoded(logs(), PROTOBUF)
        kind = {"Content-Type": PROTOBUF}
        assert httpx.post(f"{server.otlp}/v1/logs", content=body, headers=kind, trust_env=False).status_code == 200
        server.send(completed(1))
        assert client.get("/healthz").json()["status"] == "ok"
        assert server.send(started(3)).status_code == 200
        assert {run["trace_id"] for run in client.get("/runs").json()["runs"]} == {trace_id(2), trace_id(3)}


# What it does not start with.


def refused(folder: Path, db: str, **variables: str) -> str:
    """What a server says that can't have its store: one line, and no other word; its exit code is 1."""
    command = [sys.executable, "-m", "runnable_otel", "serve", "--port", "0", "--otlp-http-port", "0"]
    command += ["--otlp-grpc-port", "off", "--db", db]
    env = environment(folder, **variables)
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert "--db" in done.stderr
    return done.stderr


def test_a_database_of_another_program(tmp_path: Path) -> None:
    """It is refused, and not a byte of it changes."""
    file = tmp_path / "accounts.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE accounts (name TEXT)")
    db.close()
    before = file.read_bytes(), file.stat().st_mtime_ns
    said = refused(tmp_path, "accounts.db")
    assert str(file) in said
    assert "another program" in said
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert [each.name for each in tmp_path.glob("accounts*")] == ["accounts.db"]


def test_a_database_that_is_in_use(tmp_path: Path) -> None:
    """A second server on the same file says so."""
    with Serve(tmp_path, "--db", "runs.db"):
        assert "another process has it open" in refused(tmp_path, "runs.db")


def test_a_read_only_disk(tmp_path: Path) -> None:
    """A file that can't be written is not served."""
    with small_disk(tmp_path / "disk") as disk:
        with Serve(tmp_path, "--db", str(disk.folder / "runs.db")) as server:
            server.send(*whole_run(1))
        subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
        assert "ead-only" in refused(tmp_path, str(disk.folder / "runs.db"))


@pytest.mark.parametrize("url", ["redis://user:secret@127.0.0.1:1/0", "rediss://:secret@127.0.0.1:1"])
def test_no_redis(tmp_path: Path, url: str) -> None:
    """A Redis that is not there is named without its password."""
    needs_redis()
    said = refused(tmp_path, url)
    assert "127.0.0.1:1" in said
    assert "secret" not in said


def test_a_redis_that_drops_keys(tmp_path: Path) -> None:
    """A Redis that would drop keys of ours when it is full is not taken; which setting it needs is said."""
    needs_redis()
    options: dict[str, Any] = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with RedisServer(tmp_path, tcp=True, **options) as redis:
        assert "noeviction" in refused(tmp_path, redis.url)


def test_a_redis_with_a_password(tmp_path: Path) -> None:
    """Its password is asked for, and shown nowhere."""
    needs_redis()
    with RedisServer(tmp_path, tcp=True, requirepass="open-sesame") as redis:
        assert "password" in refused(tmp_path, redis.url)
        wrong = redis.url.replace("redis://", "redis://:wrong-one@")
        assert "wrong-one" not in refused(tmp_path, wrong)
        with Serve(tmp_path, "--db", redis.url.replace("redis://", "redis://:open-sesame@")) as server:
            assert server.send(*whole_run(1)).status_code == 200
            with server.client() as client:
                run = client.get("/runs/run-1").json()
                assert json.dumps(run).count("open-sesame") == 0
            assert server.stop(signal.SIGTERM) == 0
        assert "open-sesame" not in "".join(server.lines)
