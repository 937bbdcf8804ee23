"""The seam between what is known and what is decided: `Predictor.forecast`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aios_eccos.values import Forecast, Model, Query


class Predictor(Protocol):
    """Forecasts success and output length of every model on every query.

    `wants_layers` tells the caller to embed with hidden layers (`embed_with_layers`) and to pass
    them; without them the trained parts step back and neighbors decide.
    """

    @property
    def name(self) -> str:
        """`retrieval`, `trained`, `hybrid` or `priors`."""
        ...

    @property
    def wants_layers(self) -> bool:
        """Whether `forecast` makes use of `layers`."""
        ...

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """Forecast n queries on m models.

        Args:
            queries: n queries; a query without text is forecast on priors.
            embeddings: (n, d) rows of unit length, None while the embedder is loading.
            models: the m columns wanted, seen before or not.
            layers: (n, 4 d) pooled hidden layers of the same forward pass, if at hand.

        Raises:
            HistoryError: the history cannot be read (the caller goes on with priors).
        """
        ...
