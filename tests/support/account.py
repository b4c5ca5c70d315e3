"""What one client is told of a run, held against what the log took: no uid twice, none missing without a gap.

The promise as code: after any fault, for every client. It knows nothing of stores, servers or sockets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from runnable_otel.events import OURS, PIPELINE_COMPLETED, PIPELINE_STARTED, TASK_LOG, Event
from runnable_otel.log import NOW, OLDEST
from runnable_otel.log.records import common

SPARE = 4
"""Expendable events that are kept of a run: so few that the log drops some all the time, one at a time."""
_lives = count(1)
_named = count(1)


@dataclass
class Life:
    """What a log has of a run from its first event until it drops or loses the run.

    Attributes:
        order: uids in the order in which the log took them; `dropped`, those that it dropped as they were expendable.
        at: the index in `order` of each position.
        over: the run's end was taken, and `end` is its uid.
        hurt: it may have lost its end once, and who reads past that place is told so.
        ids: what this trace is called: each run id that its events say, and how new that is; a start is newer than all
            else, which is the newer the earlier it came.
    """

    number: int = 0
    order: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    spare: list[str] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    over: bool = False
    end: str = ""
    hurt: bool = False
    ids: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Life:
        parts = {"order": [*self.order], "dropped": {*self.dropped}, "spare": [*self.spare]}
        return replace(self, **parts, at={**self.at}, ids={**self.ids})


class History:
    """An account of our own of what the log has of one run. `gone`: there is nothing, or no more."""

    def __init__(self, trace: str) -> None:
        self.trace = trace
        self.now = self.before = Life()
        self._given: set[str] = set()
        self.past: dict[str, Life] = {}  # what was there with a position that is not there any more

    @property
    def gone(self) -> bool:
        return not self.now.number

    @property
    def kept(self) -> list[str]:
        """What a reader finds now who knows nothing."""
        return [uid for uid in self.now.order if uid not in self.now.dropped]

    @property
    def trimmed(self) -> int:
        """The index of the last event that was dropped; -1 if none was."""
        return max((index for index, uid in enumerate(self.now.order) if uid in self.now.dropped), default=-1)

    def took(self, each: Event) -> bool:
        """The log takes an event; whether it is new."""
        now, uid = self.now, each.uid
        if each.type == PIPELINE_COMPLETED:
            now.over, now.end = True, uid
        if uid in now.order:
            return False
        now.number = now.number or next(_lives)
        now.order.append(uid)
        said, begins = common(each).get("run_id"), each.type == PIPELINE_STARTED
        if said and (begins or said not in now.ids):
            now.ids[said] = next(_named) * (1 if begins else -1)
        if each.type not in OURS or each.type == TASK_LOG:
            now.spare.append(uid)
        while len(now.spare) > SPARE:
            now.dropped.add(now.spare.pop(0))
        return True

    def placed(self, positions: Iterable[tuple[str, str]]) -> None:
        """Where the newest events stand: position and uid."""
        for position, uid in positions:
            assert position not in self._given, "a position was given out twice"
            self._given.add(position)
            self.now.at[position] = self.now.order.index(uid)

    def place(self, position: str) -> int | None:
        """The index of what stands at a position; None where the log has lost it."""
        assert position in self._given, f"{position} was never given out"
        return self.now.at.get(position)

    def lose(self, left: Life | None = None, *, moved: bool = False) -> None:
        """The log has lost, or dropped, all but this; `moved`: which has other positions now, see `placed`."""
        self.before = self.now
        self.past |= dict.fromkeys(self.now.at, self.now)
        self.now = Life() if left is None else replace(left.copy(), hurt=True)
        if moved:
            self.now.at.clear()
        for position in self.now.at:
            self.past.pop(position, None)


class Told:
    """One client, whatever connections it makes.

    Attributes:
        ever: all that it was told, in order.
        gaps: the reasons of the gaps that it was told, with how many events each said were lost.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._last = -1
        self._position: str | None = None  # of the event with that index, where it had one
        self._since: set[str] = set()  # since the last gap after which events may come again
        self._excused: set[str] = set()
        self._life = 0  # to which that belongs
        self._before: set[str] = set()  # what was there when it asked for `now`
        self._asked: str | None = None
        self._asked_of = history.now
        self._has_begun = self._owes_gap = self._no_position_is_known = False
        self._may_gap = False  # it was told of a gap in a life that is over, and may be told again in the next
        self.ever: dict[str, None] = {}
        self.gaps: list[tuple[str, int | None]] = []

    def asks(self, position: str) -> None:
        """It makes a connection. What it was told before stays told."""
        self._asked, self._asked_of = position, self.history.now

    def disturbed(self, *, all_positions: bool) -> None:
        """The log has lost something, as `History.lose` says; or also knows no position any more."""
        if self._has_begun:
            self._owes_gap = True
            self._no_position_is_known = self._no_position_is_known or all_positions

    @property
    def _needs_gap(self) -> bool:
        """What it had last is not there any more: it must not get anything else first."""
        lost = self._position is not None and self._position not in self.history.now.at
        return lost or self._no_position_is_known

    def event(self, position: str, uid: str) -> None:
        """It gets an event."""
        self._begin(position)
        assert uid not in self._since, f"{uid} came twice"
        self._since.add(uid)
        self._may_gap = False
        self.ever[uid] = None
        index, order = self.history.place(position), self.history.now.order
        if index is None:
            self._position = position
            return  # it was on its way when the log lost it
        assert not self._needs_gap, "the log lost what this client had, and it heard nothing of it"
        assert order[index] == uid, f"{position} is another event's place"
        assert index > self._last, f"{uid} came out of order"
        self._all_told(order[self._last + 1 : index], f"before {uid}")
        self._last, self._position, self._life = index, position, self.history.now.number

    def gap(self, position: str, reason: str, lost: int | None, *, wanted: bool = False) -> None:
        """It gets a gap. `wanted`: it asked for a position that was none."""
        from_now = self._asked == NOW and not self._has_begun  # nobody but the server knows where that was
        self._begin()
        self.gaps.append((reason, lost))
        epochs = {each.partition("-")[0] for each in self.history.now.at}
        self._may_gap = self._may_gap or self.history.gone or position.partition("-")[0] not in epochs
        if reason == "unknown":
            hurt = self.history.now.hurt or self._owes_gap or self._needs_gap or self._may_gap
            assert lost is None
            assert wanted or hurt, "a gap where nothing was lost"
            self._owes_gap = self._no_position_is_known = False
            self._last, self._position, self._since = -1, None, set()
            # What was dropped may be back with a log that lost its end; who goes on from there does not hear of it.
            told = self._excused if self._life == self.history.now.number else set[str]()
            self._excused = told | self.history.now.dropped | self._before | set(self.ever)
            return
        dropped = self.history.now.dropped.intersection(self.history.now.order[self._last + 1 :])
        on_its_way = self.history.past  # when the log lost the rest
        assert dropped or from_now or on_its_way, "a gap where nothing was dropped"
        assert lost is None or lost >= 1
        self._last = -1 if from_now else self._last
        self._excused |= dropped

    def has_all(self, sent: tuple[Life, Life] | None = None) -> None:
        """It is told that there is nothing more, or that the run is over.

        Args:
            sent: the life of the run when that was sent, itself and as it was then, where it took its time to get here.
        """
        self._begin()
        then = self.history.now
        if sent is not None:
            life, then = sent
            if life is not self.history.now:
                self._all_told_of(then)  # what happened since is for who comes again
                return
        if self._needs_gap and self._position in self.history.past:
            self._all_told_of(self.history.past[self._position])  # the end was on its way when the log lost the run
            return
        if self.history.gone:
            if not self.gaps:
                self._all_told_of(self.history.before)
            return
        assert not self._needs_gap, "the log lost what this client had, and it heard nothing of it"
        if self.history.now.end in self._since:
            return  # what comes after the end is for who comes again
        assert not self._owes_gap, "the log may have lost something, and this client heard nothing of it"
        self._all_told(then.order[self._last + 1 :], "at the end")

    def _begin(self, position: str = "") -> None:
        """The first answer to what it asked for; the position is that of the event, if it is one."""
        asked, self._asked = self._asked, None
        now = self.history.past.get(position, self.history.now)
        if asked == OLDEST:  # what was dropped before is no news
            # Nor what was dropped when it asked, and is back with a log that has lost its end since.
            dropped = now.dropped | self._asked_of.dropped
            self._last, self._position, self._since, self._excused = -1, None, set(), dropped
            self._owes_gap = self._no_position_is_known = False
        elif asked is not None and not self._has_begun:  # `now`: what is there already is none of its affair
            self._before = set(now.order[: now.at.get(position)])
            self._excused |= self._before
            self._last = len(self._before) - 1 if now is self.history.now else -1
        self._has_begun = True

    def _all_told_of(self, life: Life) -> None:
        until = life.order.index(life.end) + 1 if life.end in self.ever else None
        missing = set(life.order[:until]) - life.dropped - self._before - set(self.ever)
        assert not missing, f"{missing} missing of a run that is gone"

    def _all_told(self, skipped: Iterable[Any], where: str) -> None:
        missing = [uid for uid in skipped if uid not in self._excused]
        assert not missing, f"{missing} missing {where} without a gap"
