"""What past calls taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aios_eccos.floor.certify import Certifier
from aios_eccos.floor.curve import PriceBook
from aios_eccos.floor.losses import LossBook
from aios_eccos.forecast.plans import PlanFits
from aios_eccos.forecast.predictor import Predictor
from aios_eccos.values import Float32Array


class Embeds(Protocol):
    """As much of an embedder as the router uses; None while its model is still loading."""

    def try_embed(self, texts: Sequence[str]) -> Float32Array | None: ...
    def try_embed_with_layers(
        self, texts: Sequence[str]
    ) -> tuple[Float32Array, Float32Array] | None: ...


@dataclass(frozen=True, slots=True)
class Learned:
    """What past calls taught; replaced as a whole when there is more of it.

    Attributes:
        predictor: forecasts; where it fails, priors stand in and `Router.failures` counts it.
        embedder: for its queries; None forecasts without their text.
        book: what success costs, None while there are too few verdicts.
        judged: verdicts by model; None: not known, so nothing is explored.
        certifier: where floors are certified.
        losses: what success costs by audits, by policy, where only these tell.
        plans: forecasts plans; None: there are none.
    """

    predictor: Predictor
    embedder: Embeds | None = None
    book: PriceBook | None = None
    judged: Mapping[str, float] | None = None
    certifier: Certifier | None = None
    losses: Mapping[str, LossBook] = field(default_factory=dict)
    plans: PlanFits | None = None

    def columns(self, models: frozenset[str]) -> frozenset[str]:
        """The models, and the plans that may serve where they all may."""
        plans = () if self.plans is None else self.plans.plans
        return models | {plan.name for plan in plans if models.issuperset(plan.models)}

    def embed(self, texts: Sequence[str]) -> tuple[Float32Array | None, Float32Array | None]:
        """(n, d) embeddings and, if the predictor wants them, (n, 4 d) layers; None as yet."""
        if self.embedder is None:
            return None, None
        if self.predictor.wants_layers:
            return self.embedder.try_embed_with_layers(texts) or (None, None)
        return self.embedder.try_embed(texts), None
