"""The past queries near a call: distance, task and outcomes; text only for who may see it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.store import Embeddings, HistoryStore
from aios_eccos.observe.call_views import NeighborView

#: Neighbors shown.
NEAREST = 5


def neighbors_of_record(
    history: HistoryStore, record_id: str, models: Sequence[str], *, texts: bool = False
) -> list[NeighborView]:
    """The neighbors of a record, itself left out; none where the history does not know it.

    Args:
        texts: whether stored texts may be shown: only in the local command line.

    Raises:
        HistoryError: the history cannot be read.
    """
    known = history.recall([record_id]).get(record_id)
    if known is None:
        return []
    found = _near(history, known[1], models, NEAREST + 1, texts)
    return [near for near in found if near.id != record_id][:NEAREST]


def neighbors_of_text(
    history: HistoryStore,
    embedder: BackgroundEmbedder,
    text: str,
    models: Sequence[str],
    *,
    texts: bool = False,
) -> list[NeighborView]:
    """The neighbors of a text; none while the embedder is loading.

    Raises:
        HistoryError: the history cannot be read.
    """
    vectors = embedder.try_embed([text])
    return [] if vectors is None else _near(history, vectors[0], models, NEAREST, texts)


def _near(
    history: HistoryStore, vector: Embeddings, models: Sequence[str], k: int, texts: bool
) -> list[NeighborView]:
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
