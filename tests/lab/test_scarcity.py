"""Arrivals under limits: the simulation keeps limits, serves everybody, and says what was saved."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from aios_eccos.decide.slot_prices import SlotPrices
from aios_eccos.lab import scarcity


@pytest.fixture(autouse=True)
def _short(monkeypatch) -> None:
    for name, value in {"CALLS": 300, "WARM": 50, "PRICES": 3, "SEEDS": 1}.items():
        monkeypatch.setattr(scarcity, name, value)
    monkeypatch.setattr(scarcity, "UTILIZATIONS", (0.8,))


def test_rows_say_what_was_saved_beside_the_bound(problem) -> None:
    (row,) = scarcity.scarce_rows(problem, 0)
    assert 0.5 < row.value < 1.5
    assert 0.3 < row.peer_value < 1.5
    assert row.wait_s >= 0
    assert row.as_dict()["kind"] == "80% busy"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(scarcity.table([row]))
    assert "80% busy" in console.export_text()


def test_nobody_waits_while_there_are_slots_and_everybody_does_without(problem) -> None:
    idle = scarcity.run(problem, 1e-3, 1e-3, SlotPrices, 0)
    crowded = scarcity.run(problem, 1e-3, 1e3, SlotPrices, 0)
    assert idle[2] == 0
    assert crowded[2] > 1
    line = np.arange(problem.n)
    best = np.argmin(problem.cost - 1e-3 * problem.success, axis=1)
    assert idle[0] == pytest.approx(problem.outcomes[line, best].mean(), abs=0.1)
