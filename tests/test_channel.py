"""The channel from a pool's workers: nothing is lost or mixed, nobody else is heard, and nothing waits for the dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from runnable_otel.pools.channel import Channel, Sender


class Reader:
    """A channel that keeps what it gets."""

    def __init__(self) -> None:
        self.senders: list[Sender] = []
        self.messages: list[tuple[int, bytes]] = []
        self.gone: list[int] = []
        self.channel = Channel(lambda sender, message: self.messages.append((sender, message)), self.gone.append)

    def sender(self) -> Sender:
        self.senders.append(Sender(self.channel.address))
        return self.senders[-1]

    def close(self) -> None:
        self.channel.close()
        for sender in self.senders:
            sender.close()

    def until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            assert self.channel.pump(30), "nothing came"


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


def test_messages_come_whole_and_in_order(reader: Reader) -> None:
    """Messages of every size, of senders at once: each whole, those of one sender in order."""
    sizes = [0, 1, 3, 4, 5, 1000, 70_000, 3_000_000]
    senders = [reader.sender() for _ in range(5)]

    def send(number: int) -> None:
        for size in sizes:
            senders[number].send(bytes([number]) * size)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    reader.until(lambda: len(reader.messages) == 5 * len(sizes))
    for thread in threads:
        thread.join()
    by_sender: dict[int, list[bytes]] = {}
    for sender, message in reader.messages:
        by_sender.setdefault(sender, []).append(message)
    assert sorted(message for messages in by_sender.values() for message in messages[1:2]) == [
        bytes([number]) for number in range(5)
    ]
    assert all([len(message) for message in messages] == sizes for messages in by_sender.values())


def test_drain_takes_what_was_sent(reader: Reader) -> None:
    """All that a sender handed over is there at the next `drain`, also of one that has gone since."""
    sender = reader.sender()
    for number in range(50):
        sender.send(b"%d" % number)
    sender.close()
    reader.channel.drain()
    assert [message for _, message in reader.messages] == [b"%d" % number for number in range(50)]
    assert reader.gone == [1]


def test_without_the_token_nothing_is_read(reader: Reader) -> None:
    """A connection that does not say the token first is closed, whatever it says, and others are still heard."""
    family, name, token = reader.channel.address
    for wrong in (b"x" * 64, token[:-1] + bytes([token[-1] ^ 1]) + b"\0\0\0\1a", b"GET / HTTP/1.1\r\n" * 4):
        with socket.socket(family, socket.SOCK_STREAM) as stranger:
            stranger.connect(name)
            stranger.sendall(wrong)
            reader.until(lambda: len(reader.gone) > 0)
            assert stranger.recv(1) == b""
        reader.gone.clear()
    reader.sender().send(b"ours")
    reader.channel.drain()
    assert [message for _, message in reader.messages] == [b"ours"]


def test_only_this_user_reaches_the_socket(reader: Reader) -> None:
    """The socket lies in a folder of its own that nobody else may enter; closing removes it."""
    folder = Path(reader.channel.address.name).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    reader.channel.close()
    assert not folder.exists()


def test_a_message_that_is_cut(reader: Reader) -> None:
    """A sender that dies within a message loses that message only."""
    family, name, token = reader.channel.address
    with socket.socket(family, socket.SOCK_STREAM) as dying:
        dying.connect(name)
        dying.sendall(token + b"\0\0\0\5whole" + b"\0\0\0\5ha")
    reader.channel.drain()
    assert reader.messages == [(1, b"whole")]
    assert reader.gone == [1]


def hammer(address: object) -> None:
    sender = Sender(address)  # type: ignore[arg-type]
    while True:
        sender.send(b"x" * 1000)


def test_a_sender_that_is_killed(reader: Reader) -> None:
    """A process that is killed while it writes keeps nobody waiting: there is no lock that it could hold."""
    processes = [get_context("spawn").Process(target=hammer, args=(reader.channel.address,)) for _ in range(3)]
    for process in processes:
        process.start()
    reader.until(lambda: len({sender for sender, _ in reader.messages}) == 3)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    reader.until(lambda: len(reader.gone) == 3)
    reader.sender().send(b"after")
    reader.channel.drain()
    assert reader.messages[-1][1] == b"after"


def test_a_parent_that_is_gone(reader: Reader) -> None:
    """A sender whose reader has closed raises nothing, and counts."""
    sender = reader.sender()
    sender.send(b"first")
    reader.channel.close()
    for _ in range(3):
        sender.send(b"x" * 1_000_000)
    assert sender.lost == 3
    never = reader.sender()
    never.send(b"x")
    assert never.lost == 1


def test_a_parent_that_does_not_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender waits for its reader for a bounded time only, once."""
    monkeypatch.setattr("runnable_otel.pools.channel.SEND_TIMEOUT", 0.05)
    sender = reader.sender()
    sent = 0
    while not sender.lost:
        sender.send(b"x" * 100_000)
        sent += 1
        assert sent < 1000
    sender.send(b"x")
    assert sender.lost == 2


def test_wake_ends_a_wait(reader: Reader) -> None:
    """`wake` from another thread ends a `pump` without a time-out."""
    thread = threading.Thread(target=reader.channel.wake)
    thread.start()
    assert reader.channel.pump(None)
    thread.join()
    for _ in range(100_000):
        reader.channel.wake()
    reader.channel.drain()
    assert reader.messages == []


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """Where the folder for temporary files has a path that no socket can have, the channel is on loopback."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    script = (
        "from runnable_otel.pools.channel import Channel, Sender\n"
        "got = []\n"
        "channel = Channel(lambda number, message: got.append(message), print)\n"
        "sender = Sender(channel.address)\n"
        "sender.send(b'there')\n"
        "sender.close()\n"
        "channel.drain()\n"
        "channel.close()\n"
        "print(channel.address.name[0], got)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "127.0.0.1 [b'there']"
    assert list(folder.iterdir()) == []
