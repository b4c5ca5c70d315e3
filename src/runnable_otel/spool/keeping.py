"""Into the spool of this process, and out of it again as soon as the endpoint takes something."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import Message

from runnable_otel.spool import Signal, Spool, SpoolFull
from runnable_otel.spool.otlpjson import line_of
from runnable_otel.spool.replaying import replay

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps what could not be delivered, where the settings name a folder.

    Attributes:
        spool: None where they name none.
        error: why it could not keep something, the last time.
    """

    def __init__(self) -> None:
        self.spool: Spool | None = None
        self.error = ""
        self._untaken: set[str] = set()

    def use(self, folder: str) -> None:
        """From now on keep it there; nowhere where that is empty."""
        self.spool = Spool(folder) if folder else None

    def keep(self, signal: Signal, address: str, make: Callable[[], Message]) -> str | None:
        """Keep one request. Never raises.

        Returns:
            The empty string where it is kept, the reason where that failed (`spool_full`, `spool_failed`), None where
            there is no spool.
        """
        if self.spool is None:
            return None
        try:
            self.spool.add(signal, address, line_of(make()))
        except SpoolFull as error:
            self.error = str(error)
            return "spool_full"
        except Exception as error:  # noqa: BLE001 - a disk's, or an encoder's on a user's value
            self.error = f"{type(error).__name__}: {error}"
            return "spool_failed"
        return ""

    def replay(self, signal: Signal, address: str, send: Callable[[Sequence[Any]], bool]) -> bool:
        """Send the oldest batch that was to go to an address, now that it takes something. Never raises.

        Args:
            send: sends spans or log records; whether they were taken.

        Returns:
            Whether one was sent, and there may be more.
        """
        if self.spool is None or not address:
            return False
        for file in self.spool.files(signal, address):
            if file.name in self._untaken:
                continue
            try:
                taken = replay(file, {signal: send})
            except Exception as error:  # noqa: BLE001 - a disk's, or what an exporter makes of a file from elsewhere
                logger.debug("%s is not replayed: %s", file, error)
                taken = False
            if taken is None:  # another process has it
                continue
            if not taken:
                self._untaken.add(file.name)
            return bool(taken)
        return False


KEEPER: Final = Keeper()
