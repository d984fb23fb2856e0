"""Many answers at once from one thread: each is a series of turns, and all take theirs one after another.

A turn is a token of an answer, or a part of its prompt. It knows nothing of models: an answer is an iterator, and each
of its items is a turn.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

logger = logging.getLogger(__name__)

# What an answer's hearer is told: a piece of it, what broke it, or None at its end.
Heard = str | Exception | None
# Of the average of how long answers take, the part that the last one has.
NEWEST = 0.2
# Seconds after which a client that was refused may come again, at least and at most.
SOONEST, LATEST = 1, 60


class FullError(Exception):
    """As many answers are given or wait as may; `seconds` says when one more may find a place."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"all places are taken, for {seconds} s or so")
        self.seconds = seconds


class StoppedError(Exception):
    """No more answers are given."""


class Ticket:
    """The place of one answer, from its request until it has ended or is not wanted any more."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self.turns: Iterator[str] = iter(())
        self.hear: Callable[[Heard], None] = lambda _: None
        self.cancelled = False
        self.began = 0.0

    def begin(self, turns: Iterator[str], hear: Callable[[Heard], None]) -> None:
        """Let the answer take turns, as soon as there is room for it.

        :param turns: asked for its items in the scheduler's thread, and closed there
        :param hear: called in that thread
        """
        self.turns, self.hear = turns, hear
        self._scheduler.add(self)

    def cancel(self) -> None:
        """Give the place back, if that has not happened: what is not wanted any more takes no further turn."""
        self._scheduler.cancel(self)


class Scheduler:
    """A thread in which answers take turns.

    :param at_once: how many answers take turns
    :param waiting: how many more may wait for that
    :param round_ended: called in the thread when all that take turns have had one since it was called last
    """

    def __init__(self, at_once: int, waiting: int, round_ended: Callable[[], None] = lambda: None) -> None:
        self._at_once = at_once
        self._round_ended = round_ended
        # Those that have had a turn in this round.
        self._round: set[Ticket] = set()
        self._places = at_once + waiting
        self._changed = threading.Condition()
        self._inside: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()
        self._running: deque[Ticket] = deque()
        self._stopped = False
        self._seconds = float(SOONEST)
        self._thread = threading.Thread(target=self._work, name="turns", daemon=True)

    @property
    def running(self) -> int:
        """How many answers take turns."""
        with self._changed:
            return sum(ticket.began > 0 for ticket in self._inside)

    @property
    def waiting(self) -> int:
        """How many answers wait, those among them whose prompts are not ready."""
        with self._changed:
            return sum(ticket.began == 0 for ticket in self._inside)

    @property
    def ready(self) -> bool:
        """Whether answers are given."""
        return self._thread.is_alive() and not self._stopped

    def start(self) -> None:
        """Begin with the turns."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more answers, and return when all that are there have ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def enter(self) -> Ticket:
        """Return a place for an answer.

        :raises FullError: if there is none
        :raises StoppedError: after `stop`
        """
        with self._changed:
            if self._stopped:
                raise StoppedError
            if len(self._inside) >= self._places:
                raise FullError(min(max(math.ceil(self._seconds / self._at_once), SOONEST), LATEST))
            ticket = Ticket(self)
            self._inside.add(ticket)
            return ticket

    def add(self, ticket: Ticket) -> None:
        """Let a ticket's answer wait for its first turn; one that was cancelled takes none."""
        with self._changed:
            if not ticket.cancelled:
                self._waiting.append(ticket)
                self._changed.notify()

    def cancel(self, ticket: Ticket) -> None:
        """Take a ticket back; the thread itself does so with one that takes turns, before its next one."""
        with self._changed:
            ticket.cancelled = True
            if not ticket.began:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                self._inside.discard(ticket)
                self._changed.notify()

    def turn(self) -> None:
        """Let the next answer in the row take one turn, and go to the row's end."""
        with self._changed:
            while self._waiting and len(self._running) < self._at_once:
                ticket = self._waiting.popleft()
                ticket.began = time.monotonic()
                self._running.append(ticket)
        if self._running:
            ticket = self._running.popleft()
            if ticket in self._round:
                self._end_round()
            self._round.add(ticket)
            if self._goes_on(ticket):
                self._running.append(ticket)
            else:
                self._leave(ticket)
            if not self._running:
                self._end_round()

    def _end_round(self) -> None:
        self._round.clear()
        self._round_ended()

    def _work(self) -> None:
        while self._wait():
            self.turn()

    def _wait(self) -> bool:
        """Return whether there is a turn to take, as soon as there is one; or no more will be."""
        with self._changed:
            while not self._running and not self._waiting:
                if self._stopped and not self._inside:
                    return False
                self._changed.wait()
            return True

    @staticmethod
    def _goes_on(ticket: Ticket) -> bool:
        """Take a turn of an answer, and return whether it has another one."""
        if ticket.cancelled:
            return False
        try:
            piece = next(ticket.turns)
        except StopIteration:
            ticket.hear(None)
            return False
        except Exception as error:
            # The library has no type of its own; the others' answers go on.
            logger.exception("an answer failed")
            ticket.hear(error)
            return False
        ticket.hear(piece)
        return True

    def _leave(self, ticket: Ticket) -> None:
        # What an answer holds is given back here, where it was taken. Others may still know its turns, which would end
        # with some collection of garbage then, in any thread, and while a lock is held that their end needs.
        if isinstance(ticket.turns, Generator):
            ticket.turns.close()
        ticket.turns = iter(())
        with self._changed:
            self._inside.discard(ticket)
            self._seconds += NEWEST * (time.monotonic() - ticket.began - self._seconds)
