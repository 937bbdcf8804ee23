"""The past queries near a call: distance, task and outcomes; text only for who may see it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aios_eccos.history.history import History
from aios_eccos.history.store import Embeddings
from aios_eccos.observe.call_views import NeighborView
from aios_eccos.observe.trace import Trace

#: Neighbors shown.
NEAREST = 5


def neighbors_of_call(history: History, trace: Trace, *, texts: bool = False) -> list[NeighborView]:
    """The neighbors of a call's record, itself left out; none where the history does not know it.

    Args:
        texts: whether stored texts may be shown: only in the local command line.
    """
    known = history.recall([trace.call]).get(trace.call)
    if known is None:
        return []
    models = [option.model for option in trace.options]
    found = neighbors(history, known[1], models, NEAREST + 1, texts=texts)
    return [near for near in found if near.id != trace.call][:NEAREST]


def neighbors(
    history: History, vector: Embeddings, models: Sequence[str], k: int, *, texts: bool = False
) -> list[NeighborView]:
    """The `k` records nearest to a (d,) vector; see `neighbors_of_call`."""
    found = history.nearest(vector[None, :], models, k)
    ids = found.ids[0]
    stored = history.recall(ids) if texts else {}
    return [
        NeighborView(
            id=record_id,
            similarity=round(float(found.similarity[0, row]), 4),
            task=found.tasks[0][row],
            correctness={
                name: float(value)
                for name, value in zip(models, found.correctness[0, row], strict=True)
                if not math.isnan(value)
            },
            text=(stored[record_id][0].text or None) if record_id in stored else None,
        )
        for row, record_id in enumerate(ids)
    ]
