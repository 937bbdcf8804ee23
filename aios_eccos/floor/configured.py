"""What history says of the floors of the configuration: out of reach, certified or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aios_eccos.config import Floor, Settings
from aios_eccos.config.money import MaxCost
from aios_eccos.floor.certify import Certificate, Certifier, Refusal
from aios_eccos.floor.curve import PriceBook, PriceCurve
from aios_eccos.floor.modes import mode_of
from aios_eccos.values import Model, dollars_known

log = logging.getLogger("aios_eccos.floor.configured")


class Configured(NamedTuple):
    """A floor of the configuration, by its setting's key, with its curve.

    Attributes:
        value: absolute; models: those that its agents may use, None = all.
    """

    key: str
    floor: Floor
    value: float
    models: tuple[str, ...] | None
    curve: PriceCurve


def configured_floors(book: PriceBook, settings: Settings) -> Iterator[Configured]:
    """The floors that history knows enough of to price."""
    asked: list[tuple[str, Floor | None, tuple[str, ...] | None]] = [
        (f"agents.{pattern}.quality_floor", policy.quality_floor, policy.models)
        for pattern, policy in settings.agents.items()
    ]
    if settings.budget_per_call is None:
        asked.insert(0, ("quality_floor", settings.quality_floor, None))
    for key, floor, names in asked:
        curve, strongest = book.curve(names), book.strongest(names)
        if floor is not None and curve is not None and strongest is not None:
            value = floor.of(strongest[1])
            yield Configured(key, floor, value, names, curve)


def unreachable(book: PriceBook, settings: Settings) -> list[str]:
    """One sentence for each configured floor that history says cannot be kept."""
    return [
        f"{key} = {floor} ({value:.3f}) is out of reach: history says at most "
        f"{curve.reachable:.3f}, at {curve.cost_for(1.0):.3g} per call; the best that there is "
        "will be served"
        for key, floor, value, _, curve in configured_floors(book, settings)
        if value > curve.reachable + 1e-9
    ]


def unkept_budget(settings: Settings, models: Sequence[Model]) -> str | None:
    """Why a budget, which is dollars, cannot be kept: no price of the pool is known."""
    if settings.budget_per_call is None or not models or dollars_known(models):
        return None
    return (
        f"budget_per_call: ${settings.budget_per_call:g} is not kept, since no price is known of "
        f"{', '.join(model.name for model in models)}; quality_floor {settings.quality_floor} "
        "holds instead: set input_cost_per_token and output_cost_per_token of a model (0 = free), "
        "or take budget_per_call out"
    )


def unpriced_cap(settings: Settings, models: Sequence[Model]) -> str | None:
    """Why a cap on spending cannot be kept: what a model costs that its agents may use is unknown.

    The first such cap of the configuration, with the key to be set.
    """
    everybody: tuple[str, MaxCost | None, tuple[str, ...] | None]
    everybody = ("max_cost", settings.max_cost, None)
    asked = [everybody] + [
        (f"agents.{pattern}.max_cost", policy.max_cost, policy.models)
        for pattern, policy in settings.agents.items()
    ]
    for key, most, names in asked:
        unknown = [
            model.name
            for model in models
            if model.price_state == "unknown" and (names is None or model.name in names)
        ]
        if most is not None and unknown:
            return (
                f"llms.router.eccos.{key} = {most}: cannot be kept, as the price of {unknown[0]!r} "
                "is not known; set its input_cost_per_token and output_cost_per_token (0 = free)"
            )
    return None


def keepable(settings: Settings, models: Sequence[Model]) -> Settings:
    """The settings, without a budget that cannot be kept."""
    unkept = unkept_budget(settings, models)
    if unkept is None:
        return settings
    log.warning("%s", unkept)
    return settings.model_copy(update={"budget_per_call": None})


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


def certificate_void(settings: Settings, bound_by: str) -> str:
    """A sentence where floors are certified and something else than the price chose; else ""."""
    spoken_of = bound_by in ("floor", "nothing")
    if not mode_of(settings).calibrates or spoken_of:
        return ""
    return "The floor's certificate does not speak of such a call."
