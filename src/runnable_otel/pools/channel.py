"""From the processes of a pool back to the one that made it: messages over a local socket, in order for each sender.

Each worker has a connection of its own, so no lock is shared, and one that is killed takes nothing from the others. The
parent reads on the thread that waits for the pool: there is no thread of ours, at whose bad moment a fork could happen.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import selectors
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

SEND_TIMEOUT: Final = 30.0
"""Seconds that a worker waits for a parent that does not read; after that it sends no more. Sockets hold little."""
DRAIN: Final = 30.0
"""Seconds for what lies in the sockets when a pool is done; it is usually a millisecond."""
_LENGTH: Final = struct.Struct("!I")
_CHUNK: Final = 1 << 18


class Address(NamedTuple):
    """Where the parent listens, and the word that a worker says first. Goes to the workers only."""

    family: int
    name: Any
    token: bytes


class Sender:
    """A worker's end. It connects with the first message; what goes wrong switches it off, and is never raised."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._off = False
        self.lost = 0

    def send(self, message: bytes) -> None:
        """Hand one message over; when this returns it is out of the process, and survives it."""
        with self._lock:
            if self._off:
                self.lost += 1
                return
            try:
                if self._socket is None:
                    self._socket = self._connected()
                self._socket.sendall(_LENGTH.pack(len(message)) + message)
            except OSError:
                self.lost += 1
                self._end()

    def _connected(self) -> socket.socket:
        family, name, token = self._address
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(SEND_TIMEOUT)
            connection.connect(name)
            connection.sendall(token)
        except OSError:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Send no more."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._off = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Connection:
    """What came so far on one connection. Its first bytes are the token, and nothing is read of one without."""

    def __init__(self, accepted: socket.socket, token: bytes) -> None:
        accepted.setblocking(False)
        self.socket = accepted
        self._token = token
        self._known = False
        self._buffer = bytearray()

    def read(self) -> list[bytes] | None:
        """The messages that are complete now; None when the sender is gone, or is none of ours."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self._buffer += data
        if not self._known:
            size = len(self._token)
            if len(self._buffer) < size:
                return []
            if not hmac.compare_digest(bytes(self._buffer[:size]), self._token):
                return None
            self._known = True
            del self._buffer[:size]
        return self._messages()

    def _messages(self) -> list[bytes]:
        found: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, at)
            if len(self._buffer) - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            found.append(bytes(self._buffer[at : at + size]))
            at += size
        del self._buffer[:at]
        return found


class Channel:
    """The parent's end: `pump` hands each message on, and says when a sender is gone.

    Args:
        on_message: called with the sender's number and the message.
        on_gone: called with the sender's number after its last message.

    Raises:
        OSError: no local socket can be made.
    """

    def __init__(self, on_message: Callable[[int, bytes], None], on_gone: Callable[[int], None]) -> None:
        self._on_message, self._on_gone = on_message, on_gone
        self._folder = ""
        self._listener = self._listening()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._count = 0
        self._pid = os.getpid()
        self.address = Address(self._listener.family, self._listener.getsockname(), secrets.token_bytes(32))

    def _listening(self) -> socket.socket:
        """A socket that only this user can reach, in a folder of its own; where there is none, one on loopback."""
        unix: int | None = getattr(socket, "AF_UNIX", None)
        if unix is not None:
            self._folder = tempfile.mkdtemp(prefix="runnable-otel-")
            try:
                return self._bound(unix, os.path.join(self._folder, "pool"))
            except OSError:  # the path is too long, or the file system has no sockets
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = ""
        return self._bound(socket.AF_INET, ("127.0.0.1", 0))

    @staticmethod
    def _bound(family: int, name: Any) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.bind(name)
            listener.listen(1024)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    def wake(self) -> None:
        """Let a `pump` that waits return; from any thread."""
        with contextlib.suppress(OSError):  # closed, or woken so often that it can't be missed
            self._wake.send(b"\0")

    def pump(self, timeout: float | None) -> bool:
        """Hand on what is there; wait for it at most `timeout` seconds, None for ever. Whether there was anything."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._woken:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(_CHUNK)
            else:
                self._read(key.data)
        return bool(ready)

    def drain(self) -> None:
        """Hand on all that was sent before now; no longer than `DRAIN`, though a sender may go on."""
        end = time.monotonic() + DRAIN
        while self.pump(0) and time.monotonic() < end:
            pass

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # it is gone again
            return
        self._count += 1
        self._selector.register(
            accepted, selectors.EVENT_READ, (self._count, _Connection(accepted, self.address.token))
        )

    def _read(self, data: tuple[int, _Connection]) -> None:
        number, connection = data
        messages = connection.read()
        if messages is None:
            self._selector.unregister(connection.socket)
            connection.socket.close()
            self._on_gone(number)
            return
        for message in messages:
            self._on_message(number, message)

    def close(self) -> None:
        """Let go of everything; what still comes is lost. May be called twice."""
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._wake.close()
        self._selector.close()
        if self._folder and os.getpid() == self._pid:
            shutil.rmtree(self._folder, ignore_errors=True)
