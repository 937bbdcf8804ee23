"""A small world whose truth is known: questions on a circle, models of different strength."""

import numpy as np

from aios_eccos.history.store import Neighbors
from aios_eccos.records import HistoryTable
from aios_eccos.values import Model

STRENGTHS = {"small": -0.5, "middle": 0.7, "large": 2.0}
PRICES = {"small": 1e-7, "middle": 1e-6, "large": 1e-5}
MODELS = [
    Model(name, input_price=price, output_price=4 * price) for name, price in PRICES.items()
]  # fmt: skip


class TableHistory:
    """Exact nearest neighbors over a table."""

    def __init__(self, table):
        self._table = table

    def table(self):
        return self._table

    def nearest(self, embeddings, models, k):
        similarity = embeddings @ self._table.embeddings.T
        near = np.argsort(-similarity, axis=1)[:, :k]
        have = [*self._table.models]
        columns = [have.index(name) if name in have else len(have) for name in models]

        def of(values):
            missing = np.full((len(values), 1), np.nan)
            return np.hstack([values, missing])[:, columns][near]

        ids = tuple(tuple(self._table.ids[i] for i in row) for row in near)
        return Neighbors(
            ids=ids,
            keys=ids,
            similarity=np.take_along_axis(similarity, near, axis=1),
            correctness=of(self._table.correctness),
            output_tokens=of(self._table.output_tokens),
            tasks=tuple(tuple(self._table.tasks[i] for i in row) for row in near),
        )


def make_table(n, seed=0, models=STRENGTHS):
    """n records: success falls with the angle, the same for all models (difficulty)."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, n)
    embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    odds = np.array(list(models.values()))[None, :] + 2.5 * np.cos(angle)[:, None]
    truth = 1 / (1 + np.exp(-odds))
    correctness = (rng.uniform(size=truth.shape) < truth).astype(float)
    tokens = 100.0 + 50.0 * angle[:, None] + rng.integers(0, 20, truth.shape)
    table = HistoryTable(
        ids=tuple(f"q{i}" for i in range(n)),
        models=tuple(models),
        embeddings=embeddings,
        input_tokens=np.full(n, 50.0),
        correctness=correctness,
        output_tokens=tokens,
        answers=np.zeros(tokens.shape, dtype=np.int64),
        tasks=("t",) * n,
        splits=("train",) * n,
        texts=tuple(f"question {i} about {a:.2f}" for i, a in enumerate(angle)),
        sources=("ingest",) * n,
        created=np.zeros(n),
    )
    return table, truth


def make_layers(table):
    """(n, 4 d) hidden layers that say the same as the embeddings, and some noise."""
    rng = np.random.default_rng(9)
    noise = rng.normal(size=(len(table), 4))
    return np.concatenate([table.embeddings, table.embeddings**2, noise], axis=1).astype(np.float32)


class Layered:
    """An embedder that knows the texts of a table, and their layers."""

    name = "mini"

    def __init__(self, table):
        self._rows = dict(zip(table.texts, make_layers(table), strict=True))

    def embed_with_layers(self, texts):
        rows = np.stack([self._rows[text] for text in texts])
        return rows, rows
