"""Start-time fair queueing between agents (Goyal, Vin and Cheng, 1996).

Every agent has a tag, the service that it has been given in forecast slot-seconds; the agent with
the smallest goes next, of equals the one that was served longer ago. Only an agent that comes back
from a pause is moved up, to the smallest tag among those it competes with: it neither claims the
past nor pays for what others did elsewhere. An agent that waits keeps its tag, so that what it is
owed is not forgotten while calls start on other models. It gives what deficit round robin gives,
without a quantum to choose.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar

Item = TypeVar("Item")

#: Agents whose tags are kept; above it, half is forgotten, those served longest ago.
AGENTS_REMEMBERED = 1000


class FairShare:
    """Orders the waiting between agents. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
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
        heads = [
            (self._tags[agent], self._turns.get(agent, 0), agent, iter(queue))
            for agent, queue in queues.items()
        ]
        heapq.heapify(heads)
        while heads:
            tag, _, agent, queue = heapq.heappop(heads)
            for item in queue:
                heapq.heappush(heads, (tag + cost(item), next(turn), agent, queue))
                yield item
                break

    def charge(self, agent: str, cost: float) -> None:
        """An item of the agent's was started."""
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
