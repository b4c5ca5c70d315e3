"""A TCP proxy on loopback that can cut its connections, stop passing bytes, and be told of another target."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Proxy:
    """`with Proxy(port) as proxy:`; clients connect to `proxy.port`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._passing = threading.Event()
        self._passing.set()
        self._over = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.resume()
        self.cut()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()  # accept() wakes
        self._thread.join()
        self._listener.close()

    def cut(self) -> None:
        """Reset every connection, as a proxy does whose time is up."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Pass no bytes on: connections stay open and are silent."""
        self._passing.clear()

    def resume(self) -> None:
        """Pass bytes on again."""
        self._passing.set()

    def _accept(self) -> None:
        while not self._over.is_set():
            client, _ = self._listener.accept()
            if self._over.is_set():
                client.close()
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        pair = client, server
        with self._lock:
            self._pairs.add(pair)
        try:
            self._pump(client, server)
        except OSError:
            pass  # one of them is gone: so is the other
        finally:
            with self._lock:
                self._pairs.discard(pair)
            client.close()
            server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while not self._over.is_set():
            ready, _, _ = select.select(list(other), [], [], 1.0)
            for each in ready:
                data = each.recv(65536)
                self._passing.wait()
                if not data:
                    return
                other[each].sendall(data)
