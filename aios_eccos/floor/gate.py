"""Keeps a call for the reference as long as its policy has not earned that it is routed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from aios_eccos.decide.rule import preferred
from aios_eccos.floor.course import HOLD_SUSPECT
from aios_eccos.floor.curve import PriceBook
from aios_eccos.floor.earn import Earning, lot_of
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.losses import LossBook
from aios_eccos.floor.modes import Asked
from aios_eccos.forecast.predictor import prior_success
from aios_eccos.forecast.ridge import strongest_declared
from aios_eccos.values import Candidate, FloatArray, Gate, Model, Price


def gate_for(
    call: str, asked: Asked, pool: Sequence[Model], learned: Learned, earning: Earning
) -> Gate | None:
    """How far a call may be routed among a pool of models, its shadow choice still open.

    None where nothing limits it: audits can only show of a policy that it keeps a share of the
    strongest model's success.
    """
    floor = asked.floor
    if asked.own or floor is None or not floor.relative or len(pool) < 2:
        return None
    reference, success = _reference(pool, learned.book)
    allowed = success - floor.of(success)
    standing = earning.standing(asked.policy, str(floor), allowed, reference)
    losses = learned.losses.get(asked.policy)
    return Gate(
        reference=reference,
        asked=str(floor),
        allowed=allowed,
        share=standing.share,
        suspect_share=min(standing.share, 1 - HOLD_SUSPECT),
        suspects=frozenset(standing.suspects),
        lot=lot_of(call, "route"),
        served=standing.state == "served",
        shift=standing.shift,
        error=0.0 if losses is None else losses.error,
    )


def _reference(pool: Sequence[Model], book: PriceBook | None) -> tuple[str, float]:
    """The strongest model of a pool and its success: on history, else as declared."""
    names = [model.name for model in pool]
    strongest = book.strongest(names) if book is not None else None
    if strongest is not None:
        return strongest
    model = strongest_declared(pool)
    return model.name, float(prior_success(pool)[names.index(model.name)])


def price_of_audits(policy: str, losses: LossBook, names: Sequence[str], gate: Gate) -> Price:
    """The price that audits say keeps the floor; the careful one until that is proven."""
    value = losses.price(names, gate.allowed, careful=not gate.served)
    if value is None or gate.reference != losses.reference:
        return Price(policy)
    moved = value * math.exp(gate.shift) if gate.served else value
    floor = losses.promised - gate.allowed
    return Price(policy, floor, moved, base=value, careful=not gate.served)


def seen_by(
    worth: Price,
    losses: Mapping[str, LossBook],
    models: Sequence[str],
    columns: Sequence[str],
    success: FloatArray,
    support: FloatArray,
) -> FloatArray:
    """Success as a call's price sees it, from the forecast and its support, of all columns."""
    if worth.levels is not None:
        forecasts = zip(columns, success.tolist(), strict=True)
        return np.array([worth.levels.get(name, forecast) for name, forecast in forecasts])
    if not worth.careful or worth.policy not in losses:
        return success
    m = len(models)
    careful = losses[worth.policy].careful(models, success[:m], support[:m])
    return np.concatenate([np.clip(careful, 0.0, 1.0), success[m:]])


def gate_of(candidate: Candidate) -> Gate | None:
    """The call's gate with the model that its price chooses; None where nothing limits it.

    Where the reference itself may not serve just now, the price has to do.
    """
    gate = candidate.gate
    if gate is None or not candidate.allowed[candidate.models.index(gate.reference)]:
        return None
    if not math.isfinite(candidate.price):
        return gate
    return replace(gate, shadow=candidate.models[preferred(candidate)])


def limited(candidate: Candidate, gate: Gate | None) -> Candidate:
    """The candidate, open to the reference only where its gate holds it."""
    if gate is None or not gate.held:
        return candidate
    return replace(candidate, allowed=np.array(candidate.models) == gate.reference)
