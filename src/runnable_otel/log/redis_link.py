"""The connections of a log on Redis: scripts, what a new server means, and the one reader that wakes who waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, cast
from urllib.parse import urlsplit

from runnable_otel.log import CannotOpen, StoreUnavailable

VERSION: Final = b"1"
_BACKOFF: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Script:
    """One of the Lua scripts, by its name."""

    def __init__(self, name: str) -> None:
        folder = files("runnable_otel.log") / "lua"
        self.text = (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # how Redis names scripts


class Link:
    """The way to one Redis server.

    Each new connection says whether the server is still the same: its `run_id` is new after each start, and then it may
    have lost what it took last. So no write and no read goes to a server that was not looked at.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`; what stands before an `@` in it is shown nowhere.
        prefix: what the names of all keys begin with.

    Raises:
        CannotOpen: the server is out of reach, would drop keys of ours, or holds a log of a newer version.
        ModuleNotFoundError: the package redis is not installed.
    """

    def __init__(self, url: str, prefix: str) -> None:
        try:
            import redis
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "a log on Redis needs the package redis: pip install 'runnable-otel[redis]'", name="redis"
            ) from None
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.prefix, self.shown = prefix, shown(url)
        self._redis: Any = redis
        self._connected = Script("connected")
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_connect_timeout": 5,
            "redis_connect_func": self._hello,
            # Once more, on a new connection: an idle one may have died with a server that is back. What is sent twice
            # is taken once.
            "retry": Retry(NoBackoff(), 1),
        }
        if not url.startswith("unix:"):
            options["socket_keepalive"] = True
            options["socket_keepalive_options"] = _keepalive()
        try:
            self._pool: Any = self._redis.ConnectionPool.from_url(url, **options, socket_timeout=30, max_connections=64)
            # The reader's: it waits as long as it takes. No retry: who waits must hear of each new connection.
            self._patient: Any = self._redis.ConnectionPool.from_url(
                url, **{**options, "retry": Retry(NoBackoff(), 0)}, socket_timeout=None, max_connections=2
            )
        except ValueError as error:
            raise CannotOpen(f"{self.shown}: {error}") from None
        self._client: Any = self._redis.Redis(connection_pool=self._pool)
        self._closed = False
        self._check()

    def _check(self) -> None:
        try:
            with self.talking() as client:
                memory: dict[str, Any] = client.info("memory")
                version: bytes | None = client.hget(self.prefix + "meta", "version")
        except StoreUnavailable as error:
            self.close()
            raise CannotOpen(error.reason) from None
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if int(memory.get("maxmemory", 0) or 0) and policy.startswith("allkeys"):
            self.close()
            raise CannotOpen(f"{self.shown}: drops keys when it is full (maxmemory-policy {policy}): set noeviction")
        if version is not None and version != VERSION:
            self.close()
            raise CannotOpen(f"{self.shown}: holds a log of version {version.decode()}, this program knows 1")

    def _hello(self, connection: Any) -> None:
        """A new connection: log in, and tell the log which server this is."""
        connection.on_connect()
        lines = self._ask(connection, "INFO", "server").split()
        run_id = next(line[7:] for line in lines if line.startswith(b"run_id:"))
        synced = self._setting(connection, "appendonly"), self._setting(connection, "appendfsync")
        safe = synced == (b"yes", b"always")
        self._ask(connection, "EVAL", self._connected.text, 1, self.prefix, run_id, int(safe))

    def _setting(self, connection: Any, name: str) -> bytes:
        try:
            found = self._ask(connection, "CONFIG", "GET", name)
        except self._redis.ResponseError:
            return b""  # not for us to know: then a new server may have lost something
        return found[1] if found else b""

    def _ask(self, connection: Any, *command: Any) -> Any:
        connection.send_command(*command)
        return connection.read_response()

    @contextmanager
    def talking(self) -> Generator[Any]:
        """The client; what goes wrong with it is that the store is not there."""
        if self._closed:
            raise StoreUnavailable(f"{self.shown}: is closed")
        try:
            yield self._client
        except self._redis.RedisError as error:
            raise StoreUnavailable(f"{self.shown}: {_sentence(self._redis, error)}") from None

    def run(self, script: Script, *arguments: Any) -> Any:
        """Run a script once."""
        return self.run_all(script, [arguments])[0]

    def run_all(self, script: Script, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a script with each of several lists of arguments, in one go."""
        with self.talking() as client:
            for again in (True, False):
                try:
                    if len(calls) == 1:
                        return [client.evalsha(script.sha, 1, self.prefix, *calls[0])]
                    with client.pipeline(transaction=False) as pipeline:
                        for arguments in calls:
                            pipeline.evalsha(script.sha, 1, self.prefix, *arguments)
                        return cast("list[Any]", pipeline.execute())
                except self._redis.exceptions.NoScriptError:
                    if not again:
                        raise
                    client.script_load(script.text)
        raise AssertionError("unreachable")

    def listener(self, on_connect: Callable[[], None], on_message: Callable[[str], None]) -> Listener:
        """What hears which runs changed, on a thread of its own."""
        return Listener(self._patient, self.prefix + "wake", on_connect, on_message)

    def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        self._pool.disconnect()
        self._patient.disconnect()


class Listener:
    """One blocking reader for a process. After a new connection it wakes everybody: what was said before is lost."""

    def __init__(
        self, pool: Any, channel: str, on_connect: Callable[[], None], on_message: Callable[[str], None]
    ) -> None:
        self._pool, self._channel = pool, channel
        self._on_connect, self._on_message = on_connect, on_message
        self._stopped = threading.Event()
        self._connection: Any = None
        self.listening = threading.Event()
        self._unheard = False  # somebody began to wait when nothing was heard
        self._thread = threading.Thread(target=self._run, name="runnable-otel-redis", daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Wait until it hears what changes from now on; if that takes long, whoever waits is woken when it does."""
        if not self.listening.wait(1):
            self._unheard = True

    def stop(self) -> None:
        """Hear nothing more, and wait for the thread."""
        self._stopped.set()
        connection = self._connection
        if connection is not None:
            _hang_up(connection)
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._listen()
            except Exception:  # noqa: BLE001 - whatever it is, who waits needs a reader
                if self.listening.is_set():
                    failures = 0
                self.listening.clear()
                self._unheard = True
                self._stopped.wait(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
                failures += 1

    def _listen(self) -> None:
        connection = self._connection = self._pool.make_connection()
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._channel)
            while not self._stopped.is_set():
                kind, _, data = connection.read_response()
                if kind == b"message":
                    self._on_message(data.decode("utf-8", "replace"))
                elif kind == b"subscribe":
                    self.listening.set()
                    if self._unheard:
                        self._unheard = False
                        self._on_connect()
        finally:
            self._connection = None
            connection.disconnect()


def _hang_up(connection: Any) -> None:
    """Wake a thread that blocks in reading a connection. Closing its socket would not."""
    end: socket.socket | None = getattr(connection, "_sock", None)
    if end is not None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def shown(url: str) -> str:
    """A URL as a message may show it: without credentials and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _keepalive() -> dict[int, int]:
    """Within half a minute a reader hears that its server has gone without a word."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _sentence(redis: Any, error: Exception) -> str:
    text = str(error).partition("\n")[0]
    if isinstance(error, redis.AuthenticationError) or text.startswith(("WRONGPASS", "NOAUTH")):
        return "refuses the user or password"
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM command" in text:
        return "is out of memory"
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)) and not isinstance(error, redis.BusyLoadingError):
        return "is out of reach"
    return f"refuses: {text[:200]}"
