"""Mode `canary`: who is routed, when that ends by itself, and that all kernels go by the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aios_eccos.config import Settings, parse_settings
from aios_eccos.errors import ConfigError, WorkloadError
from aios_eccos.kernel.calls import lot_of
from aios_eccos.serve.canary import CALLS_LEAST, Canary, fails_more
from aios_eccos.workload.memory import MemoryWorkload


def call(routed: bool = True, status: int = 200) -> Any:
    failure = None if status == 200 else str(status)
    mode = "route" if routed else "observe"
    return SimpleNamespace(trace=SimpleNamespace(mode=mode, failure=failure, status_code=status))


@dataclass
class Shared:
    """What the kernels of a test share."""

    store: MemoryWorkload = field(default_factory=MemoryWorkload)
    broken: list[str] = field(default_factory=list)
    evidence: float = 25.0
    settings: Settings = field(default_factory=lambda: parse_settings({"mode": "canary"}))

    def kernel(self) -> Canary:
        def alarms() -> Any:
            found = {"broken": True, "e_value": self.evidence, "alarm_at": 20.0}
            return [SimpleNamespace(policy=policy, **found) for policy in self.broken]

        canary = Canary(self.store, alarms, lambda: self.settings)
        canary.look()
        return canary

    def events(self) -> list[tuple[str, str | None]]:
        return [(fields["what"], fields.get("after")) for _, fields in self.store.events(10)]


@pytest.fixture
def shared() -> Iterator[Shared]:
    found = Shared()
    yield found
    found.store.close()


def stands(canary: Canary) -> str:
    canary.look()
    figures = canary.figures()
    assert figures is not None
    return str(figures["stands"])


def counted(canary: Canary, calls: int, failed: int, others: int, their: int) -> None:
    canary.take([call(status=500) for _ in range(failed)])
    canary.take([call() for _ in range(calls - failed)])
    canary.take([call(routed=False, status=502) for _ in range(their)])
    canary.take([call(routed=False) for _ in range(others - their)])


def test_a_share_of_the_conversations_is_routed(shared: Shared) -> None:
    canary = shared.kernel()
    lots = np.linspace(0.0005, 0.9995, 1000)
    assert sum(map(canary.routes, lots)) == 100
    shared.settings = parse_settings({"mode": "canary", "canary_share": "25 %"})
    assert sum(map(canary.routes, lots)) == 250
    with pytest.raises(ConfigError, match="canary_share"):
        parse_settings({"canary_share": "90 %"})


def test_a_conversation_never_changes_its_side() -> None:
    lots = []
    for number in range(2000):
        opening = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": f"question {number}"},
        ]
        lot = lot_of("agent", opening)
        lots.append(lot)
        messages = [*opening]
        for turn in range(3):
            messages += [{"role": "assistant", "content": f"{turn}"}]
            messages += [{"role": ("user", "tool")[turn % 2], "content": "more"}]
            assert lot_of("agent", messages) == lot
    assert 0.08 < np.mean(np.array(lots) < 0.1) < 0.12
    assert lot_of("other", opening) != lot_of("agent", opening)


def test_it_is_promoted_once_enough_calls_have_not_failed_more(shared: Shared) -> None:
    canary = shared.kernel()
    counted(canary, CALLS_LEAST - 1, 0, 5000, 50)
    assert stands(canary) == "trial"
    counted(canary, 1, 0, 0, 0)
    assert stands(canary) == "promoted"
    assert canary.routes(0.999)
    what, after = shared.events()[0]
    assert after == "promoted" and "0 of 200 routed calls failed" in what


@pytest.mark.parametrize(
    ("calls", "failed", "others", "their", "wanted"),
    [
        (200, 0, 100, 0, "trial"),
        (200, 3, 2000, 10, "trial"),
        (1000, 3, 2000, 1, "promoted"),
        (1000, 40, 2000, 80, "promoted"),
        (300, 4, 3000, 0, "trial"),
        (300, 5, 3000, 0, "rolled back"),
        (300, 45, 3000, 100, "rolled back"),
        (300, 24, 3000, 100, "trial"),
        (100, 100, 0, 0, "trial"),
    ],
)
def test_it_is_judged_by_both_sides_failures(
    shared: Shared, calls: int, failed: int, others: int, their: int, wanted: str
) -> None:
    canary = shared.kernel()
    counted(canary, calls, failed, others, their)
    assert stands(canary) == wanted
    assert canary.routes(0.05) is (wanted != "rolled back")


@pytest.mark.parametrize("before", ["trial", "promoted"])
def test_an_alarm_rolls_it_back_at_any_time(shared: Shared, before: str) -> None:
    canary = shared.kernel()
    if before == "promoted":
        counted(canary, 300, 0, 300, 0)
    assert stands(canary) == before
    shared.broken = ["coder/*"]
    assert stands(canary) == "rolled back"
    assert not canary.routes(0.0)
    shared.broken = []
    assert stands(canary) == "rolled back", "until somebody begins it anew"
    assert "floor of agents coder/*" in shared.events()[0][0]
    canary.begin()
    assert stands(canary) == "trial"
    assert canary.figures() is not None and canary.figures()["routed"] == 0  # type: ignore[index]


@pytest.mark.parametrize("before", ["trial", "promoted"])
def test_begun_while_an_alarm_is_on_it_goes_by_what_comes_after(
    shared: Shared, before: str
) -> None:
    canary, shared.broken = shared.kernel(), ["", "coder/*"]
    assert stands(canary) == "rolled back"
    canary.begin()
    other = shared.kernel()
    if before == "promoted":
        counted(canary, 300, 0, 300, 0)
    assert stands(canary) == stands(other) == before
    shared.evidence = 400.0
    assert stands(canary) == before
    shared.evidence = 500.0
    assert stands(other) == stands(canary) == "rolled back", "twenty times as much, as at the start"


def test_begun_while_an_alarm_is_on_another_rolls_it_back(shared: Shared) -> None:
    canary, shared.broken = shared.kernel(), ["coder/*"]
    canary.begin()
    assert stands(canary) == "trial"
    shared.broken += ["writer/*"]
    assert stands(canary) == "rolled back"
    assert "writer/*" in shared.events()[0][0]


def test_failures_that_are_the_agents_own_do_not_count(shared: Shared) -> None:
    canary = shared.kernel()
    for status in (403, 404, 499):
        canary.take([call(status=status)] * 100)
    counted(canary, 1, 0, 1000, 0)
    assert stands(canary) == "trial"
    assert canary.figures() is not None and canary.figures()["routed"] == 1  # type: ignore[index]


def test_all_kernels_go_by_the_same_and_one_event_tells_of_it(shared: Shared) -> None:
    one, two = shared.kernel(), shared.kernel()
    counted(one, 150, 0, 150, 0)
    counted(two, 150, 0, 150, 0)
    assert (stands(one), stands(two)) == ("promoted", "promoted")
    shared.broken = [""]
    assert (stands(two), stands(one)) == ("rolled back", "rolled back")
    assert stands(shared.kernel()) == "rolled back", "a restart changes nothing"
    assert [after for _, after in shared.events()] == ["rolled back", "promoted", "trial"]


def test_while_nothing_is_known_nothing_is_routed(shared: Shared) -> None:
    class Down(MemoryWorkload):
        def notes(self, names: Any) -> Any:
            raise WorkloadError("down")

    canary = Canary(Down(), list, lambda: shared.settings)
    canary.look()
    assert not canary.routes(0.0)
    assert canary.figures() is None


def test_other_modes_have_no_canary(shared: Shared) -> None:
    shared.settings = parse_settings({})
    canary = shared.kernel()
    counted(canary, 300, 300, 300, 0)
    assert canary.figures() is None
    assert shared.events() == []


def test_chance_rolls_back_at_most_one_in_twenty() -> None:
    """Routed calls fail just twice as often, and it is looked at after every failure."""
    rng = np.random.default_rng(5)
    back = 0
    for _ in range(300):
        failed = their = 0
        for _ in range(60):
            routed = rng.uniform() < 2 * 0.1 / (2 * 0.1 + 0.9)
            failed, their = failed + routed, their + (not routed)
            if fails_more(1000, failed, 9000, their):
                back += 1
                break
    assert back / 300 <= 0.05
    assert fails_more(1000, 40, 9000, 40), "nine times as often"
