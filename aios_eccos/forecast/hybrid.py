"""The trained predictor, and the hybrid of it and neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aios_eccos.forecast.head.fit import bounded, log_odds, sigmoid
from aios_eccos.forecast.head.train import Trained
from aios_eccos.forecast.predictor import PRIOR_WEIGHT, cap_tokens
from aios_eccos.forecast.retrieval import RetrievalPredictor
from aios_eccos.values import FloatArray, Forecast, Model, Query

#: Quantile of the history's own spacing beyond which a query counts as far from all of it.
FAR = 0.99


class HybridPredictor:
    """A trained head, alone or mixed with neighbors; neighbors alone where it cannot speak.

    A model that the head does not know is forecast by shared difficulty: its own level (declared
    strength, else the pool's, moved by the verdicts that history holds) plus what the head says of
    this question's difficulty for all models. A query farther from history than `FAR` of its own
    records from each other is forecast half as far from the models' levels.

    Args:
        kind: `hybrid`, or `trained` for the head alone.
    """

    wants_layers = True

    def __init__(
        self,
        neighbors: RetrievalPredictor,
        head: Trained,
        kind: Literal["trained", "hybrid"] = "hybrid",
    ) -> None:
        self._neighbors = neighbors
        self.head = head
        self.name: str = kind
        self.version = head.version

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        if layers is None or not len(queries):
            return self._neighbors.forecast(queries, embeddings, models)
        outputs = self.head.machine(layers, [query.text for query in queries])
        return self.forecast_from(outputs, queries, embeddings, models)

    def forecast_from(
        self,
        outputs: NDArray[np.float32],
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
    ) -> Forecast:
        """The forecast where the head's machine has spoken: its (n, 2 m) outputs are at hand."""
        near = self._neighbors.forecast(queries, embeddings, models)
        head = self.head
        m = len(head.models)
        out = outputs.astype(float)
        if self.name == "trained":
            odds = bounded(out[:, :m])
        else:
            odds = head.mixer(out[:, :m], self._near_odds(near))
        level = head.mixer.level
        sure = np.where(np.nan_to_num(near.novelty) > FAR, 0.5, 1.0)
        odds = level + sure[:, None] * (odds - level)
        success, tokens = near.success.copy(), near.output_tokens.copy()
        lengths = np.exp(np.clip(out[:, m:], 0.0, 12.0))
        mine, columns = self._shared(near.models)
        success[:, mine] = sigmoid(odds[:, columns])
        tokens[:, mine] = lengths[:, columns]
        hard = (odds - level).mean(axis=1)
        for j in set(range(len(models))).difference(mine):
            success[:, j] = sigmoid(self._new_level(models[j]) + hard)
        return Forecast(
            near.models, success, cap_tokens(tokens, queries), near.support, near.novelty
        )

    def _near_odds(self, near: Forecast) -> FloatArray:
        """Neighbors' log-odds in the head's columns; a model out of the pool says nothing."""
        odds = np.tile(self.head.mixer.near_level, (len(near), 1))
        said = np.zeros(len(self.head.models), dtype=bool)
        mine, columns = self._shared(near.models)
        odds[:, columns] = log_odds(near.success[:, mine])
        said[columns] = True
        if said.any() and not said.all():
            shared = (odds - self.head.mixer.near_level)[:, said].mean(axis=1, keepdims=True)
            odds[:, ~said] += shared
        return odds

    def _shared(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Places of the models that the head knows: among the names, and in the head."""
        places = {name: column for column, name in enumerate(self.head.models)}
        mine = [j for j, name in enumerate(names) if name in places]
        return mine, [places[names[j]] for j in mine]

    def _new_level(self, model: Model) -> float:
        """Log-odds of a model that the head does not know, on a question of usual difficulty."""
        level = float(self.head.mixer.level.mean())
        if model.strength is not None:
            level = float(log_odds(np.array(model.strength)))
        means = self._neighbors.means
        column = means.column(model.name)
        if column is None or not means.judged[column]:
            return level
        count = float(means.judged[column])
        total = count * means.correctness[column] + PRIOR_WEIGHT * sigmoid(np.array(level))
        return float(log_odds(total / (count + PRIOR_WEIGHT)))
