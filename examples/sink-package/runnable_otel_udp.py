"""`udp://HOST:PORT`: each event as one datagram of JSON, to whoever listens."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from runnable_otel import Event


class UdpSink:
    """Sends events as datagrams.

    Args:
        url: `udp://HOST:PORT`.

    Raises:
        ValueError: the URL has no host or no port. The user sees one line with this text, and the pipeline runs.
    """

    # A look-up of a host name may take seconds: be called on a thread of our own, behind a bounded queue.
    slow = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or not parts.port:
            raise ValueError("expected udp://HOST:PORT")
        self._address = (parts.hostname, parts.port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def emit(self, event: Event) -> None:
        """Send one datagram. What this raises is counted, and never seen by the task."""
        self._socket.sendto(event.to_json().encode("utf-8", "replace"), self._address)

    def close(self) -> None:
        """Let go of the socket; called once all events are sent."""
        self._socket.close()
