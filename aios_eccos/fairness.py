"""Start-time fair queueing between agents (Goyal, Vin and Cheng, 1996).

Every agent has a tag, the service that it has been given in forecast slot-seconds; the agent with
the smallest goes next. Virtual time is the tag of the last call started: an agent that comes back
from a pause starts there, so it neither claims the past nor pays for it. It gives what deficit
round robin gives, without a quantum to choose.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")

#: Agents whose tags are kept; above it, those that owe nothing are forgotten.
AGENTS_REMEMBERED = 1000


class FairShare:
    """Orders the waiting between agents. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self._virtual = 0.0
        self._tags: dict[str, float] = {}

    def merge(
        self, queues: Mapping[str, Sequence[Item]], cost: Callable[[Item], float]
    ) -> Iterator[Item]:
        """The items of all queues, fairest first; `cost` forecasts an item's slot-seconds."""
        heads = [(self._tag(agent), agent, iter(queue)) for agent, queue in queues.items()]
        heapq.heapify(heads)
        while heads:
            tag, agent, queue = heapq.heappop(heads)
            for item in queue:
                heapq.heappush(heads, (tag + cost(item), agent, queue))
                yield item
                break

    def charge(self, agent: str, cost: float) -> None:
        """An item of the agent's was started."""
        self._virtual = self._tag(agent)
        self._tags[agent] = self._virtual + cost
        if len(self._tags) > AGENTS_REMEMBERED:
            self._tags = {a: tag for a, tag in self._tags.items() if tag > self._virtual}

    def _tag(self, agent: str) -> float:
        return max(self._virtual, self._tags.get(agent, 0.0))
