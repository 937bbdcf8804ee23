"""Changes of floor, limit, price, head, mode, of an alarm, and of who rests: shared by kernels."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence

from pydantic import TypeAdapter

from aios_eccos.floor.alarm import Alarm
from aios_eccos.floor.course import Turn
from aios_eccos.serve.observers import Kept
from aios_eccos.serve.router import Router
from aios_eccos.values import Model
from aios_eccos.workload.notes import read_note
from aios_eccos.workload.store import Ledger

log = logging.getLogger("aios_eccos.serve.events")

#: The note that holds what was last in force.
IN_FORCE = "in-force"
_FACTS = TypeAdapter(dict[str, str])
_STATES = ("kept", "broken")


class NotesEvents:
    """Keeps an event for every change of what is in force and of an alarm; logs who rests.

    Args:
        alarms: reads the alarms anew.
        router: the one that decides now.
    """

    def __init__(
        self, ledger: Ledger, alarms: Callable[[], list[Alarm]], router: Callable[[], Router]
    ) -> None:
        self._ledger, self._alarms, self._router = ledger, alarms, router
        self._known: dict[str, str] | None = None
        self._resting: frozenset[str] = frozenset()

    def take(self, calls: Sequence[Kept]) -> None:
        """See who rests, where calls have failed."""
        if any(call.trace.attempts > 1 or call.trace.failure is not None for call in calls):
            self._look_for_rest()

    def look(self) -> None:
        """See what has changed.

        Raises:
            WorkloadError: the store cannot be used.
        """
        facts = _in_force(self._router())
        if facts != self._known:
            _note_in_force(self._ledger, facts)
            self._known = facts
        if self._resting:
            self._look_for_rest()
        note_alarms(self._ledger, self._alarms())

    def _look_for_rest(self) -> None:
        """One warning when a model starts to rest, one when it is asked again."""
        resting = frozenset(self._router().slots().cooling)
        for name in sorted(resting - self._resting):
            log.warning("model %s rests after an error of its server", name)
        for name in sorted(self._resting - resting):
            log.warning("model %s may be asked again", name)
        self._resting = resting


def _in_force(router: Router) -> dict[str, str]:
    """Everything whose change is an event, as text by name."""
    settings, predictor = router.settings, router.learned.predictor
    head = getattr(predictor, "version", None)
    facts = {
        "quality floor": str(settings.quality_floor),
        "mode": settings.mode,
        "predictor": f"{predictor.name} {head}" if head else predictor.name,
    }
    if settings.budget_per_call is not None:
        facts["budget per call"] = f"${settings.budget_per_call:g}"
    for pattern, policy in settings.agents.items():
        if policy.quality_floor is not None:
            facts[f"quality floor of agents {pattern}"] = str(policy.quality_floor)
    for model in router.models:
        facts[f"limit of {model.name}"] = str(model.limit)
        facts[f"price of {model.name}"] = _price_text(model)
    return facts


def _price_text(model: Model) -> str:
    if model.input_price is None or model.output_price is None:
        return "unknown"
    return f"${model.input_price * 1e6:.6g} in, ${model.output_price * 1e6:.6g} out per M tokens"


def _note_in_force(ledger: Ledger, facts: Mapping[str, str]) -> None:
    """Keep an event for each difference from what was last in force in any kernel."""
    known = ledger.swap_note(IN_FORCE, json.dumps(facts, ensure_ascii=False, sort_keys=True))
    before = read_note(_FACTS, known) or facts
    for what in {**facts, **before}:
        if before.get(what) != facts.get(what):
            _keep(ledger, what, before.get(what), facts.get(what))


def note_alarms(ledger: Ledger, alarms: Sequence[Alarm]) -> None:
    """Keep an event for each floor whose alarm went on or off.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    known = ledger.notes([f"alarm:{alarm.policy}" for alarm in alarms]) if alarms else []
    for alarm, before in zip(alarms, known, strict=True):
        state = "broken" if alarm.broken else "kept"
        before = before if before in _STATES else "kept"
        if state != before:
            ledger.swap_note(f"alarm:{alarm.policy}", state)
            of = f"floor of agents {alarm.policy}" if alarm.policy else "floor"
            _keep(ledger, f"{of}: e-process {alarm.e_value:.3g}", before, state)


def note_turns(ledger: Ledger, policy: str, turns: Sequence[Turn]) -> None:
    """Keep an event for each change of a policy's standing.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    of = f" of agents {policy}" if policy else ""
    why = {
        "raised": "audits have shown that the price keeps the floor",
        "served": "audits have shown that the price keeps the floor",
        "changed": "its answers have become worse",
        "alarm": "audits show that the floor is not kept",
    }
    for turn in turns:
        about = f"{turn.model}: " if turn.model else ""
        what = f"share of calls{of} that is routed ({about}{why[turn.kind]})"
        _keep(ledger, what, None, f"{turn.share:.0%}")


def note_canary(ledger: Ledger, before: str | None, after: str, why: str) -> None:
    """Keep an event for how the canary stands.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    _keep(ledger, f"canary: {why}", before, after)


def _keep(ledger: Ledger, what: str, before: str | None, after: str | None) -> None:
    """Keep one event and log it."""
    log.warning("%s: %s, before: %s", what, after or "gone", before or "not set")
    fields = {"what": what, "before": before, "after": after}
    ledger.append_event({name: value for name, value in fields.items() if value is not None})
