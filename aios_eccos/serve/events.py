"""Changes of floor, limit, price, head and mode: when, before, after. Shared by all kernels."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from aios_eccos.config import Settings
from aios_eccos.floor.alarm import Alarm
from aios_eccos.values import Model
from aios_eccos.workload.ledger import Ledger

log = logging.getLogger("aios_eccos.serve.events")

#: The note that holds what was last in force.
IN_FORCE = "in-force"


def in_force(settings: Settings, models: Sequence[Model], predictor: str) -> dict[str, str]:
    """Everything whose change is an event, as text by name."""
    facts = {
        "quality floor": str(settings.quality_floor),
        "mode": settings.mode,
        "predictor": predictor,
    }
    if settings.budget_per_call is not None:
        facts["budget per call"] = f"${settings.budget_per_call:g}"
    for pattern, policy in settings.agents.items():
        if policy.quality_floor is not None:
            facts[f"quality floor of agents {pattern}"] = str(policy.quality_floor)
    for model in models:
        facts[f"limit of {model.name}"] = str(model.limit)
        facts[f"price of {model.name}"] = price_text(model)
    return facts


def price_text(model: Model) -> str:
    """Prices per million tokens, in and out."""
    if model.input_price is None or model.output_price is None:
        return "unknown"
    return f"${model.input_price * 1e6:.6g} in, ${model.output_price * 1e6:.6g} out per M tokens"


def differences(
    before: Mapping[str, str], after: Mapping[str, str]
) -> list[tuple[str, str | None, str | None]]:
    """Name, value before, value after, of all that is new, gone or another."""
    names = [*after, *(name for name in before if name not in after)]
    return [
        (name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def note_in_force(ledger: Ledger, facts: Mapping[str, str]) -> int:
    """Keep an event for each difference from what was last in force in any kernel; how many.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    known = ledger.swap_note(IN_FORCE, json.dumps(facts, ensure_ascii=False, sort_keys=True))
    if known is None:
        return 0
    changes = differences(json.loads(known), facts)
    for what, before, after in changes:
        keep(ledger, what, before, after)
    return len(changes)


def note_alarms(ledger: Ledger, alarms: Sequence[Alarm]) -> None:
    """Keep an event for each floor whose alarm went on or off.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    known = ledger.notes([f"alarm:{alarm.policy}" for alarm in alarms]) if alarms else []
    for alarm, before in zip(alarms, known, strict=True):
        state = "broken" if alarm.broken else "kept"
        if state != (before or "kept"):
            ledger.swap_note(f"alarm:{alarm.policy}", state)
            of = f"floor of agents {alarm.policy}" if alarm.policy else "floor"
            keep(ledger, f"{of}: e-process {alarm.e_value:.3g}", before or "kept", state)


def keep(ledger: Ledger, what: str, before: str | None, after: str | None) -> None:
    """Keep one event and log it.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    log.warning("%s: %s, before: %s", what, after or "gone", before or "not set")
    fields = {"what": what, "before": before, "after": after}
    ledger.append_event({name: value for name, value in fields.items() if value is not None})
