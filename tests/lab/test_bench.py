"""The benchmark measures what it says, on every kind of instance."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner
from waiting import made_in_time

from aios_eccos.decide.problem import Status
from aios_eccos.decide.whole.solve import solve
from aios_eccos.lab import bench_optimizer, bench_process
from aios_eccos.lab.bench_dispatch import dispatch
from aios_eccos.lab.bench_optimizer import instances, measure
from aios_eccos.lab.bench_rows import Row
from aios_eccos.lab.commands.bench import bench, bench_table, optimizer_table
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


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--check"], 1)])
def test_a_ratio_that_is_not_kept_is_an_exit_code_where_that_is_asked_for(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIOS_ECCOS_DATA", raising=False)
    monkeypatch.setattr(bench_optimizer, "LEAST_RATIOS", {8: 1e9})
    monkeypatch.setattr(bench_optimizer, "BUDGETS_MS", {1: 0.0, 8: 1e6})
    result = CliRunner().invoke(bench, ["optimizer", "--sizes", "1,8", "--json", "-", *words])
    assert result.exit_code == code, result.output
    body = json.loads(result.stdout)
    assert body["schema"] == "aios-eccos/bench/1"
    assert {row["n"] for row in body["results"]} == {1, 8}
    for row in body["results"]:
        assert np.isfinite(row["value"])
        assert row["kept"] == (row["n"] == 1 or row["name"] == "price")
        assert row["ok"] == (row["n"] == 8 and row["kept"])


def test_a_time_over_its_budget_breaks_no_ratio() -> None:
    slow = Row("decision", "alone", 1, 9.0, budget=5.0, peer="x", peer_value=18.0, least=2.0)
    assert (slow.ratio, slow.kept, slow.ok) == (2.0, True, False)
    tail = replace(slow, value=4.0, p99=20.0, p99_budget=15.0)
    assert (tail.kept, tail.ok, replace(tail, p99=14.0).ok) == (True, False, True)
    cheaper = replace(slow, times_cheaper=1.5)
    assert (cheaper.ratio, cheaper.kept, cheaper.ok) == (1.5, False, False)
    rate = Row("dispatch", "x", 1, 900.0, "calls/s", budget=800.0, peer="y", peer_value=300.0)
    assert (rate.ratio, rate.ok, replace(rate, value=700.0).ok) == (3.0, True, False)


def test_short_calls_do_not_wait_for_long_ones_as_they_do_by_aios_scheduling() -> None:
    # At this speed a machine that is busy with something else holds calls up, too.
    rate, waits = made_in_time(
        lambda: dispatch(calls=20, seconds=10.0, faster=50.0, seed=0),
        lambda made: made[1].ratio > 2,
    )
    assert rate.value > 0 and rate.kind == "calls through the dispatcher alone"
    assert waits.peer == "AIOS's scheduling" and waits.ratio > 2
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(bench_table([rate, waits]))
    assert "calls/s" in console.export_text()


def test_sizes_must_be_numbers() -> None:
    result = CliRunner().invoke(bench, ["optimizer", "--sizes", "few", "--no-peer"])
    assert result.exit_code == 2


def test_the_memory_of_a_history_is_measured_without_that_of_whoever_measures() -> None:
    held = np.ones(100_000_000)  # 800 MB, which a child's peak would begin at
    (row,) = bench_process.memory(200)
    assert held.nbytes / 1e6 > row.value > row.peer_value > 5
