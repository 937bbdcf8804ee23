"""Arrivals under limits: the simulation keeps limits, serves everybody, and says what was saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from aios_eccos.decide.slot_prices import SlotPrices
from aios_eccos.lab import scarcity
from aios_eccos.lab.commands.bench import scarcity_table
from aios_eccos.lab.problem import Problem


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CALLS": 400, "WARM": 50, "PRICES": 4, "SEEDS": 1}.items():
        monkeypatch.setattr(scarcity, name, value)
    monkeypatch.setattr(scarcity, "UTILIZATIONS", (0.5,))


@pytest.fixture
def contested(problem: Problem) -> Problem:
    """Half of the calls need the middle model, else the strong one; the others hardly gain by it.

    In order of arrival all take its slots. Who needs it then pays ten times as much for the strong
    one, where who does not could have gone to the cheap one.
    """
    needs = np.arange(problem.n) % 2 == 0
    success = np.where(needs[:, None], [0.05, 0.9, 0.9], [0.85, 0.9, 0.9])
    outcomes = np.random.default_rng(1).uniform(size=success.shape) < success
    test = replace(problem.test, correctness=outcomes.astype(float))
    return replace(problem, success=success, test=test)


def test_prices_of_slots_save_where_some_calls_need_them_more(contested: Problem) -> None:
    (row,) = scarcity.scarce_rows(contested, 0)
    assert row.value < 0.9
    assert row.peer_value < row.value + 0.05
    assert row.wait_s <= row.wait_without_s + 0.05
    console = Console(width=120, record=True)
    console.print(scarcity_table([row]))
    assert "50% busy" in console.export_text()


def test_nobody_waits_while_there_are_slots_and_everybody_does_without(problem: Problem) -> None:
    idle = scarcity.run(problem, 1e-3, 1e-3, SlotPrices, 0)
    crowded = scarcity.run(problem, 1e-3, 1e3, SlotPrices, 0)
    assert idle[2] == 0
    assert crowded[2] > 1
    line = np.arange(problem.n)
    best = np.argmin(problem.cost - 1e-3 * problem.success, axis=1)
    assert idle[0] == pytest.approx(problem.outcomes[line, best].mean(), abs=0.1)
