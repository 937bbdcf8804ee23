"""Whose calls go next: fair shares of the models' slots between agents."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar

Item = TypeVar("Item")
#: Agents whose tags are kept; above it, half is forgotten, those served longest ago.
AGENTS_REMEMBERED = 1000
#: Seconds over which an agent's service counts in the index of fairness.
LATE_S = 120.0


class FairShare:
    """Start-time fair queueing between agents (Goyal, Vin and Cheng, 1996). Its owner locks.

    Every agent has a tag, the service that it has been given in forecast slot-seconds; the agent
    with the smallest goes next, of equals the one that was served longer ago. Only an agent that
    comes back from a pause is moved up, to the smallest tag among those it competes with: it
    neither claims the past nor pays for what others did elsewhere. An agent that waits keeps its
    tag, so that what it is owed is not forgotten while calls start on other models. It gives what
    deficit round robin gives, without a quantum to choose.

    Args:
        weight: of an agent; who weighs twice as much is served twice as much.
    """

    def __init__(self, weight: Callable[[str], float] = lambda agent: 1.0) -> None:
        self._weight = weight
        #: Service of late, by weight, and when that was.
        self._served: dict[str, tuple[float, float]] = {}
        self._virtual = 0.0
        self._tags: dict[str, float] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._ranked: set[str] = set()

    def merge(
        self,
        queues: Mapping[str, Sequence[Item]],
        cost: Callable[[Item], float],
        waiting: Collection[str] = (),
    ) -> Iterator[Item]:
        """The items of all queues, fairest first.

        Args:
            queues: by agent, what may be served now.
            cost: forecasts an item's slot-seconds.
            waiting: further agents that wait, though nothing of theirs may be served now.
        """
        self._rank(queues, waiting)
        turn = count(self._turn + 1)
        weights = {agent: self._weight(agent) for agent in queues}
        heads = [
            (self._tags[agent], self._turns.get(agent, 0), agent, iter(queue))
            for agent, queue in queues.items()
        ]
        heapq.heapify(heads)
        while heads:
            tag, _, agent, queue = heapq.heappop(heads)
            for item in queue:
                after = tag + cost(item) / weights[agent]
                heapq.heappush(heads, (after, next(turn), agent, queue))
                yield item
                break

    def charge(self, agent: str, cost: float) -> None:
        """An item of the agent's was started."""
        cost /= self._weight(agent)
        now = time.monotonic()
        self._served[agent] = self._of_late(agent, now) + cost, now
        start = self._tags.get(agent, self._virtual)
        self._virtual = max(self._virtual, start)
        self._tags[agent] = start + cost
        self._turn += 1
        self._turns[agent] = self._turn
        if len(self._tags) > AGENTS_REMEMBERED:
            recent = sorted(self._turns, key=self._turns.__getitem__)[-AGENTS_REMEMBERED // 2 :]
            kept = self._ranked.union(recent)
            self._tags = {name: tag for name, tag in self._tags.items() if name in kept}
            self._turns = {name: turn for name, turn in self._turns.items() if name in kept}
            self._served = {name: late for name, late in self._served.items() if name in kept}

    def fairness(self) -> float | None:
        """Jain's index over agents that wait, or were served of late: 1 = equally by weight.

        1/n = one of n had all. An agent that asks for less than its share lowers it, too. None
        while there are not two.
        """
        now = time.monotonic()
        late = {agent for agent, (_, since) in [*self._served.items()] if now - since < LATE_S}
        served = [self._of_late(agent, now) for agent in late.union([*self._ranked])]
        squares = sum(each * each for each in served)
        return sum(served) ** 2 / (len(served) * squares) if len(served) > 1 and squares else None

    def _of_late(self, agent: str, now: float) -> float:
        """Service by weight; what is older counts less."""
        amount, since = self._served.get(agent, (0.0, now))
        return amount * math.exp((since - now) / LATE_S)

    def _rank(self, queues: Mapping[str, Sequence[Item]], waiting: Collection[str]) -> None:
        """Give agents that come back their place."""
        self._ranked.intersection_update({*queues, *waiting})
        rivals = [self._tags[agent] for agent in queues if agent in self._ranked]
        others = [self._tags[agent] for agent in self._ranked]
        # Without rivals for the slots that are free now, it may still meet the others later.
        base = min(rivals) if rivals else min([self._virtual, *others])
        for agent in queues:
            if agent not in self._ranked:
                self._tags[agent] = max(base, self._tags.get(agent, base))
                self._ranked.add(agent)
