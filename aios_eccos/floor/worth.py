"""Which floor holds for a call, and what a success is worth where it holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.config import Floor, Settings
from aios_eccos.decide.problem import FloorRow
from aios_eccos.floor.certify import Certificate, Certifier, Refusal
from aios_eccos.floor.curve import PriceBook
from aios_eccos.forecast.pricing import Prices
from aios_eccos.values import Candidate, FloatArray, Query

log = logging.getLogger("aios_eccos.floor.worth")

#: Effective records behind a forecast below which the strongest is taken rather than a gamble.
MIN_SUPPORT = 1.0


@dataclass(frozen=True, slots=True)
class Worth:
    """What a success of one call is worth. Fields as in `Candidate`.

    Attributes:
        models: that the price may choose; None: all that may serve.
    """

    policy: str
    floor: float
    price: float = math.inf
    aim: float = math.nan
    optimism: float = 0.0
    models: tuple[str, ...] | None = None


def success_worth(
    query: Query,
    names: Sequence[str],
    support: float,
    book: PriceBook | None,
    settings: Settings,
    shifts: Mapping[str, float],
    certifier: Certifier | None = None,
) -> Worth:
    """The floor that holds for a query, and the price that keeps it on history.

    The call's own floor goes before its agent's, that before the general one; a budget stands in
    for the general one only.

    Args:
        names: the models that may serve the query.
        support: effective records behind the best supported forecast.
        book: None while there is too little history.
        shifts: by policy, the factor that outcomes have put on history's price (`shift_name`).
        certifier: where floors of the configuration are certified; a floor that cannot be is
            served as well as can be, at the dearest price.
    """
    pattern, policy = settings.policy(query.agent)
    asked = Floor(query.floor, relative=False) if query.floor is not None else None
    floor = asked or policy.quality_floor
    certified = settings.floor_mode == "certified" and asked is None
    models = certifier.open(names) if certified and certifier is not None else names
    curve = book.curve(models) if book is not None and len(names) > 1 else None
    if book is None or curve is None or support < MIN_SUPPORT:
        general = floor or settings.quality_floor
        return Worth(pattern, math.nan if general.relative else general.value)
    if floor is None and settings.budget_per_call is not None:
        value: float | None = curve.floor_for_cost(settings.budget_per_call)
    else:
        floor = floor or settings.quality_floor
        value = book.absolute_floor(floor.value, names) if floor.relative else floor.value
    if value is None:
        return Worth(pattern, math.nan)
    price = curve.price_for(value)
    if certified and floor is not None:
        paper = None if certifier is None else certifier.at(value, names)
        price = paper.price if isinstance(paper, Certificate) else float(curve.prices[-1])
    elif asked is None:
        price *= shifts.get(shift_name(pattern, settings), 1.0)
        price = float(np.clip(price, curve.prices[1], curve.prices[-1]))
    optimism = curve.optimism(price)
    aim = curve.floor_for(price) + optimism
    return Worth(pattern, value, price, aim, optimism, tuple(models))


def floor_of(policy: str, settings: Settings) -> Floor:
    """The configured floor of an agent pattern; the general one for ""."""
    own = settings.agents[policy].quality_floor if policy in settings.agents else None
    return own or settings.quality_floor


def shift_name(policy: str, settings: Settings) -> str:
    """Name of the shared factor by which a policy's outcomes have moved the price of success.

    It holds the floor: after a change, control starts anew.
    """
    return f"shift:{policy}:{floor_of(policy, settings)}"


def floor_rows(candidates: Sequence[Candidate]) -> tuple[FloorRow, ...]:
    """One floor per policy, and one per floor that calls bring themselves, in terms of forecasts.

    Each is raised by the optimism of its forecasts (`Candidate.aim`), so that it holds once real.
    """
    groups = [(candidate.policy, candidate.query.floor) for candidate in candidates]
    rows = []
    for group in dict.fromkeys(groups):
        mask = np.array([g == group for g in groups])
        aims = [p.aim for p, mine in zip(candidates, mask, strict=True) if mine]
        rows.append(FloorRow(mask, float(np.clip(np.mean(aims), 0.0, 1.0))))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class Configured:
    """A floor of the configuration.

    Attributes:
        key: the setting; value: absolute; models: those that its agents may use, None = all.
    """

    key: str
    floor: Floor
    value: float
    models: tuple[str, ...] | None


def configured_floors(book: PriceBook, settings: Settings) -> Iterator[Configured]:
    """The floors that history knows enough of to price."""
    floors = {"quality_floor": settings.quality_floor} if settings.budget_per_call is None else {}
    allowed: dict[str, tuple[str, ...] | None] = {}
    for pattern, policy in settings.agents.items():
        if policy.quality_floor is not None:
            floors[f"agents.{pattern}.quality_floor"] = policy.quality_floor
        allowed[f"agents.{pattern}.quality_floor"] = policy.models
    for key, floor in floors.items():
        names = allowed.get(key)
        strongest = book.strongest(names)
        if book.curve(names) is not None and strongest is not None:
            value = floor.value * (strongest[1] if floor.relative else 1.0)
            yield Configured(key, floor, value, names)


def unreachable(book: PriceBook, settings: Settings) -> list[str]:
    """One sentence for each configured floor that history says cannot be kept."""
    found = []
    for asked in configured_floors(book, settings):
        curve = book.curve(asked.models)
        if curve is not None and asked.value > curve.reachable + 1e-9:
            found.append(
                f"{asked.key} = {asked.floor} ({asked.value:.3f}) is out of reach: history says at "
                f"most {curve.reachable:.3f}, at {curve.cost_for(1.0):.3g} per call; the best that "
                "there is will be served"
            )
    return found


def certificates(
    certifier: Certifier, book: PriceBook, settings: Settings
) -> dict[str, Certificate | Refusal]:
    """The certificate, or its refusal, of each configured floor, by its setting's key."""
    return {
        asked.key: certifier.at(asked.value, asked.models)
        for asked in configured_floors(book, settings)
        if asked.models is None or len(asked.models) > 1
    }


def certificate_words(key: str, paper: Certificate | Refusal) -> str:
    """One sentence about a certificate, or its refusal."""
    sure = f"{1 - paper.delta:.0%} confidence from {paper.n} calibration records"
    if isinstance(paper, Certificate):
        return f"{key}: success of at least {paper.floor:.3f} is certified, with {sure}"
    return (
        f"{key}: {paper.floor:.3f} cannot be certified; with {sure}, at most {paper.reachable:.3f} "
        "can; the dearest price is served"
    )


def switch_cost(
    query: Query, names: Sequence[str], prices: Prices, settings: Settings
) -> FloatArray | None:
    """(m,) dollars: who did not serve the conversation's last call has to read all of it anew.

    The model that did has most of the prompt in its cache, so only the others pay for it.
    """
    # A certificate speaks of choices by cost and success alone.
    wanted = settings.session_affinity and settings.floor_mode != "certified"
    if not wanted or query.served_by not in names:
        return None
    stays = np.array([name == query.served_by for name in names])
    switch: FloatArray = np.where(stays, 0.0, query.input_tokens * prices.input)
    return switch
