"""Settled calls that wait to be audited: what an audit of them tells most comes first."""

from __future__ import annotations

from collections import deque

from aios_eccos.serve.audit import Settled

#: Settled calls whose messages may wait.
QUEUE_MOST = 200
#: Calls without messages that wait beside them, of which it is known already what they tell.
KNOWN_MOST = 2000


class AuditQueue:
    """A bounded queue in which the most valuable calls go first and stay longest. Its owner locks.

    How much a call is worth is told by its gate alone, and equal ones go by their age: so what is
    audited is a fair sample of what was held.
    """

    def __init__(self) -> None:
        self._lanes: tuple[deque[Settled], ...] = (deque(), deque(), deque())
        #: Calls on which the reference was chosen, so that no copy is needed to know their loss.
        self._known: deque[Settled] = deque(maxlen=KNOWN_MOST)

    def __len__(self) -> int:
        return sum(map(len, self._lanes)) + len(self._known)

    def put(self, settled: Settled) -> Settled | None:
        """Add a call; returns the one that is given up for it.

        Of calls without another choice, only the messages are given up.
        """
        self._lanes[_rank(settled)].append(settled)
        if sum(map(len, self._lanes)) <= QUEUE_MOST:
            return None
        given_up = next(lane for lane in reversed(self._lanes) if lane).popleft()
        if given_up.gate.shadow != given_up.gate.reference:
            return given_up
        self._known.append(given_up._replace(repeat=None))
        return None

    def put_back(self, settled: Settled) -> None:
        """Add a call that was taken, before the others."""
        lane = self._known if settled.repeat is None else self._lanes[_rank(settled)]
        lane.appendleft(settled)

    def take(self) -> Settled:
        """The oldest of the most valuable calls; there must be one."""
        return next(lane for lane in (*self._lanes, self._known) if lane).popleft()

    def clear(self) -> None:
        for lane in (*self._lanes, self._known):
            lane.clear()


def _rank(settled: Settled) -> int:
    """0: the reference served instead of another choice, which proof and alarm wait for.

    1: there was no price yet, and such audits make one. 2: the reference was chosen.
    """
    gate = settled.gate
    return 0 if gate.instead else 1 if gate.shadow is None else 2
