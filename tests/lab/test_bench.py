"""The benchmark measures what it says, on every kind of instance."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from aios_eccos.decide.problem import Status
from aios_eccos.decide.whole.solve import solve
from aios_eccos.lab import bench_optimizer
from aios_eccos.lab.bench_optimizer import instances, measure
from aios_eccos.lab.commands.bench import bench, optimizer_table
from aios_eccos.lab.problem import Problem


def test_every_kind_is_solvable_and_limits_bind_somewhere(problem: Problem) -> None:
    found = dict(instances(300, seed=0, base=("mine", problem.calls)))
    assert set(found) == {"mine", "random", "3 floors", "ties", "dominant", "edge"}
    for problem in found.values():
        assert set(solve(problem).statuses) <= {Status.OPTIMAL, Status.UNPROVEN}
    assert any(name.startswith("slot") for name in solve(found["random"]).binding)


def test_rows_carry_time_gap_and_the_peer() -> None:
    problem = dict(instances(64, seed=0, base=None))["random"]
    whole, price = measure("random", problem, peer=True, repeats=3)
    assert (whole.name, price.name) == ("optimizer", "price")
    assert whole.peer == "HiGHS LP"
    assert whole.ratio == pytest.approx(whole.peer_value / whole.value)
    assert -1e-9 <= whole.excess <= whole.gap / (1 - whole.gap) + 1e-6
    alone = measure("random", problem, peer=False, repeats=3)[0]
    assert (alone.peer, alone.peer_value, alone.ratio) == (None, None, None)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(optimizer_table([whole, price]))
    assert "…" not in console.export_text()


@pytest.mark.parametrize(("budget_ms", "code"), [(1e6, 0), (0.0, 1)])
def test_a_missed_budget_is_an_exit_code(
    budget_ms: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIOS_ECCOS_DATA", raising=False)
    monkeypatch.setattr(bench_optimizer, "BUDGETS_MS", {1: budget_ms, 8: budget_ms})
    result = CliRunner().invoke(bench, ["optimizer", "--sizes", "1,8", "--no-peer", "--json", "-"])
    assert result.exit_code == code, result.output
    body = json.loads(result.stdout)
    assert body["schema"] == "aios-eccos/bench/1"
    assert {row["n"] for row in body["results"]} == {1, 8}
    assert all(row["ok"] == (code == 0) for row in body["results"])
    assert all(np.isfinite(row["value"]) for row in body["results"])


def test_sizes_must_be_numbers() -> None:
    result = CliRunner().invoke(bench, ["optimizer", "--sizes", "few", "--no-peer"])
    assert result.exit_code == 2
