"""Watches one training process: its output, its outcomes, its leases, and the reasons to end it or a part of it."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable, Sequence

from worker.assignment import Left, News, Said
from worker.attempt import Order
from worker.child import Child
from worker.heartbeat import Heartbeat
from worker.member import Ending, Member
from worker.settings import Settings
from worker.standby import Standby

TICK_S = 0.1
REPLENISH_AFTER_S = 1.0
"""By then a job trains, and the start of the next training process no longer delays its first step."""
OUTPUT_BYTES = 2**16
LAST_OUTPUT_S = 1.0
"""How long processes that a dead training process left behind may hold its output open."""


class Watch:
    """The life of one training process, from its assignment to its end.

    Args:
        members: what it is about.
        heartbeat: theirs, until each is concluded.
        child: the process.
        settings: lease and grace.
        is_stopping: set when the worker shuts down.
        standby: told when the next training process may be started.
        conclude: ends an attempt in the store, whose outcome is there; called from another thread.
    """

    def __init__(
        self,
        members: Sequence[Member],
        heartbeat: Heartbeat,
        child: Child,
        settings: Settings,
        is_stopping: threading.Event,
        standby: Standby,
        conclude: Callable[[Member], None],
    ) -> None:
        self._heartbeat, self._child = heartbeat, child
        self._settings, self._is_stopping, self._standby = settings, is_stopping, standby
        self._conclude = conclude
        self._began = time.monotonic()
        self._timeout_s = members[0].claim.job.timeout_s
        self._kill_at: float | None = None
        self._members = {member.job_id: member for member in members}
        self._unfinished = b""
        self._farewells: list[threading.Thread] = []
        self.has_begun = False
        """Whether the process has read its assignment."""

    def until_the_end(self) -> Sequence[Member]:
        """Waits for the process to end.

        Returns:
            Those who are left to be concluded, with their outcome if the process could say it: at least the last one.
        """
        with selectors.DefaultSelector() as pipes:
            pipes.register(self._child.output, selectors.EVENT_READ, self._add_output)
            pipes.register(self._child.news, selectors.EVENT_READ, self._add_news)
            self._watch(pipes)
        return list(self._members.values())

    def conclude(self) -> None:
        """Concludes those who are left, side by side, for each may take long; returns once all are concluded."""
        for member in self._members.values():
            self._part_with(member)
        for farewell in self._farewells:
            farewell.join()

    @property
    def _under_way(self) -> list[Member]:
        return [member for member in self._members.values() if member.outcome is None]

    def _watch(self, pipes: selectors.BaseSelector) -> None:
        next_tick, ended_at = 0.0, float("inf")
        while pipes.get_map() and time.monotonic() < ended_at + LAST_OUTPUT_S:
            self._read(pipes, max(0.0, next_tick - time.monotonic()))
            if time.monotonic() >= next_tick:
                self._tick()
                next_tick = time.monotonic() + TICK_S
            if self._child.exit_code is not None:
                ended_at = min(ended_at, time.monotonic())

    def _read(self, pipes: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in pipes.select(timeout_s):
            written = os.read(key.fd, OUTPUT_BYTES)
            if written:
                key.data(written)
            else:
                pipes.unregister(key.fileobj)

    def _add_output(self, written: bytes) -> None:
        for member in self._under_way:
            member.output.add(written)

    def _add_news(self, written: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + written).split(b"\n")
        for line in lines:
            self.has_begun = True
            if line:
                self._hear(News.model_validate_json(line))

    def _hear(self, news: News) -> None:
        member = self._members.get(news.job_id)
        if member is None:
            return  # it is concluded, whatever a thread that is left of it may say
        if isinstance(news.content, Said):
            member.output.say(news.content.text)
            return
        if isinstance(news.content, Left):
            member.has_left = True
            return
        member.outcome = news.content
        if self._under_way:
            del self._members[news.job_id]
            self._part_with(member)

    def _part_with(self, member: Member) -> None:
        """Concludes an attempt while others go on, or are concluded too."""
        self._farewells.append(threading.Thread(target=self._take_leave_of, args=(member,), name="farewell"))
        self._farewells[-1].start()

    def _take_leave_of(self, member: Member) -> None:
        """Its lease is extended until then."""
        self._heartbeat.leave_out(member)
        member.output.send()
        self._conclude(member)

    def _tick(self) -> None:
        orders = self._heartbeat.orders
        for member in self._under_way:
            self._obey(member, orders.get(member.job_id, Order.CONTINUE))
        now = time.monotonic()
        if self._timeout_s is not None and now - self._began > self._timeout_s:
            self._end_all(Ending.TIMEOUT)
        if self._is_stopping.is_set():
            self._end_all(Ending.HAND_BACK)
        if self._is_held_up(now):
            self._end_all(Ending.NEIGHBOUR)
        if self._kill_at is not None and now > self._kill_at:
            self._child.kill()
        if now - self._began > REPLENISH_AFTER_S and not self._is_stopping.is_set():
            self._standby.replenish()

    def _is_held_up(self, now: float) -> bool:
        """Whether one that should have ended keeps the others from training, or the process from its end."""
        late = [member for member in self._under_way if now > member.end_by]
        is_any_wanted = any(member.ending is None for member in self._under_way)
        return any(not (member.has_left and is_any_wanted) for member in late)

    def _obey(self, member: Member, order: Order) -> None:
        match order:
            case Order.CANCEL:
                self._end(member, Ending.CANCEL)
            case Order.PAUSE:
                self._end(member, Ending.PAUSE)
            case Order.FENCED:
                self._let_go(member)

    def _let_go(self, member: Member) -> None:
        """Ends the run of a job that is another attempt's: at once, unless there are others beside it."""
        is_first, member.ending = member.ending is None, Ending.FENCED
        if all(other.ending is Ending.FENCED for other in self._under_way):
            self._child.kill()
        elif is_first:
            self._ask(member)

    def _end(self, member: Member, ending: Ending) -> None:
        if member.ending is None:
            member.ending = ending
            self._ask(member)

    def _ask(self, member: Member) -> None:
        """Has the run of a job end with a checkpoint; it costs the others theirs if it takes too long."""
        if all(other.ending for other in self._under_way):
            self._ask_all()
        else:
            member.end_by = time.monotonic() + self._settings.cancel_grace_s
            self._child.ask_to_stop(member.job_id)

    def _end_all(self, ending: Ending) -> None:
        for member in self._under_way:
            member.ending = member.ending or ending
        self._ask_all()

    def _ask_all(self) -> None:
        """Asks the process to save a checkpoint of all and end; it is killed if it takes too long."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._settings.cancel_grace_s
            self._child.ask_to_end()
