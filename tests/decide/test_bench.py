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
from aios_eccos.lab.bench_optimizer import instances, measure, recorded, table
from aios_eccos.lab.commands.bench import bench
from aios_eccos.records import Outcome, Record
from aios_eccos.values import Model

MODELS = [
    Model("small", input_price=1e-7, output_price=1e-7),
    Model("large", input_price=1e-5, output_price=1e-5),
]


def records() -> list[Record]:
    def outcomes(i: int) -> tuple[Outcome, ...]:
        return (
            Outcome("small", correctness=float(i % 3 == 0), output_tokens=100),
            Outcome("large", correctness=float(i % 5 != 0), output_tokens=200),
        )

    return [
        Record(
            id=str(i),
            text=f"question {i % 7} about number {i}",
            input_tokens=50,
            outcomes=outcomes(i),
            split="test" if i % 4 == 0 else "train",
        )
        for i in range(120)
    ]


def test_every_kind_is_solvable_and_limits_bind_somewhere() -> None:
    base = recorded("mine", records(), MODELS)
    assert base.cost.shape == base.success.shape == (30, 2)
    found = dict(instances(300, seed=0, base=base))
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
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table([whole, price]))
    assert "…" not in console.export_text()


def test_the_command_writes_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOS_ECCOS_DATA", raising=False)
    result = CliRunner().invoke(bench, ["optimizer", "--sizes", "1,8", "--no-peer", "--json", "-"])
    assert result.exit_code in (0, 1), result.output
    body = json.loads(result.stdout)
    assert body["schema"] == "aios-eccos/bench/1"
    assert {row["n"] for row in body["results"]} == {1, 8}
    assert all(np.isfinite(row["value"]) for row in body["results"])


def test_sizes_must_be_numbers() -> None:
    result = CliRunner().invoke(bench, ["optimizer", "--sizes", "few", "--no-peer"])
    assert result.exit_code == 2
