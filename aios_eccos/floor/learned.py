"""What past calls taught, as one value that is replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aios_eccos.floor.certify import Certifier
from aios_eccos.floor.curve import PriceBook
from aios_eccos.forecast.predictor import Predictor


class Embeds(Protocol):
    """As much of an embedder as the router uses."""

    def try_embed(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """(n, d) unit rows; None while the model is still loading."""
        ...

    def try_embed_with_layers(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """The same with (n, 4 d) hidden layers."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """What past calls taught; replaced as a whole when there is more of it.

    Attributes:
        predictor: forecasts; where it fails, priors stand in and `Router.failures` counts it.
        embedder: for its queries; None forecasts without their text.
        book: what success costs, None while there are too few verdicts.
        judged: verdicts by model; None: not known, so nothing is explored.
        certifier: where floors are certified.
    """

    predictor: Predictor
    embedder: Embeds | None = None
    book: PriceBook | None = None
    judged: Mapping[str, float] | None = None
    certifier: Certifier | None = None

    def embed(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """(n, d) embeddings and, if the predictor wants them, (n, 4 d) layers; None as yet."""
        if self.embedder is None:
            return None, None
        if self.predictor.wants_layers:
            return self.embedder.try_embed_with_layers(texts) or (None, None)
        return self.embedder.try_embed(texts), None
