"""Plans in an evaluation: their columns, what serves with them, and fixed rules beside them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from evaluate_world import NAMES, CircleEmbedder, rows, write
from typer.testing import CliRunner

from aios_eccos.errors import ConfigError
from aios_eccos.lab.chains import STRATEGIES, cascades, followed, plans
from aios_eccos.lab.commands.evaluate import evaluate
from aios_eccos.lab.dataset import load_dataset, recorded
from aios_eccos.lab.problem import Arrival, problem_of
from aios_eccos.lab.run import Wanted, play_all
from aios_eccos.lab.served import Served, learned_of, queries_of, settings_of
from aios_eccos.lab.strategy import Setting, play

PAIR = "cheap + middle, else strong"
FIXED = {strategy.name: strategy for strategy in STRATEGIES}


def keyed(made):
    """Right answers agree, each wrong one is another."""
    for row in made:
        for out in row["outputs"]:
            out["answer"] = "right" if out["correctness"] else f"wrong {out['model_name']}"
    return made


@pytest.fixture(scope="session")
def data(models, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("keyed") / "world.jsonl.gz", keyed(rows(900)))
    return recorded(load_dataset([path]), models, CircleEmbedder())


@pytest.fixture(scope="session")
def planned(data):
    return problem_of(data, 0, "retrieval", Arrival(), asked=(PAIR,))


def test_a_chain_stops_where_two_answers_agree_and_ends_with_the_last() -> None:
    answers = np.array([[1, 1, 2, 2], [1, 2, 1, 3], [1, 2, 3, 4], [0, 0, 5, 0], [0, 7, 7, 7]])
    given, asked = followed(answers, (0, 1, 2))
    assert given.tolist() == [1, 2, 2, 2, 2]
    assert asked.sum(axis=1).tolist() == [2, 3, 3, 3, 3] and not asked[:, 3].any()
    assert followed(answers, (3, 0))[0].tolist() == [0] * 5


def test_chains_are_made_of_cheaper_models_before_dearer_ones() -> None:
    success, cost = np.array([0.5, 0.4, 0.8, 0.9]), np.array([1.0, 2.0, 3.0, 4.0])
    assert (0, 1, 3) in plans(success, cost) and (0, 1, 2) in plans(success, cost)
    assert all(cost[c[0]] < cost[c[1]] < cost[c[2]] for c in plans(success, cost))
    assert cascades(success, cost) == [(0, 2), (0, 2, 3)]


def test_a_plan_is_a_column_with_what_it_would_have_come_to(planned) -> None:
    assert planned.columns == (*NAMES, PAIR)
    right, spent = planned.outcomes, planned.spent
    agree = (right[:, 0] == 1) & (right[:, 1] == 1)
    assert np.array_equal(planned.calls.outcomes[:, 3], np.where(agree, 1, right[:, 2]))
    both = spent[:, 0] + spent[:, 1]
    assert np.allclose(planned.calls.spent[:, 3], both + np.where(agree, 0, spent[:, 2]))
    assert np.array_equal(planned.calls.success[:, :3], planned.success)
    assert planned.calls.success[:, 3].mean() == pytest.approx(
        planned.calls.outcomes[:, 3].mean(), abs=0.05
    )


def test_answers_that_nobody_can_compare_go_to_the_escape(planned) -> None:
    blank = replace(planned.test, answers=np.zeros_like(planned.test.answers))
    problem = replace(planned, test=blank)
    assert np.array_equal(problem.calls.outcomes[:, 3], problem.outcomes[:, 2])
    assert np.allclose(problem.calls.spent[:, 3], problem.spent.sum(axis=1))


def test_the_router_serves_a_plan_and_its_floor_is_kept_for_less(planned) -> None:
    asked = Setting("floor", 0.76)
    ours, alone = (
        play(next(s for s in strategies if s.name == name), planned, asked, 0)
        for name, strategies in (("eccos", _plain()), ("eccos_models", STRATEGIES))
    )
    assert ours.share[PAIR] > 0.2 and alone.share[PAIR] == 0
    assert ours.success > 0.76 - 0.04
    assert ours.cost < 0.9 * alone.cost


def _plain():
    from aios_eccos.lab.baselines import STRATEGIES as plain

    return plain


def test_without_plans_nothing_changes(data, planned) -> None:
    before = problem_of(data, 0, "retrieval", Arrival())
    asked = Setting("floor", 0.7)
    (eccos,) = (s for s in _plain() if s.name == "eccos")
    one, other = play(eccos, before, asked, 0), play(FIXED["eccos_models"], planned, asked, 0)
    assert (one.success, one.cost, one.promised) == (other.success, other.cost, other.promised)
    assert before.columns == NAMES and before.alone is before
    assert np.array_equal(before.calls.cost, before.cost)


def test_a_stream_settles_calls_on_plans(planned) -> None:
    problem = replace(planned, arrival=Arrival(stream=True))
    (eccos,) = (s for s in _plain() if s.name == "eccos")
    row = play(eccos, problem, Setting("floor", 0.76), 0)
    assert row.share[PAIR] > 0.2 and abs(row.success - 0.76) < 0.05


def test_a_stream_pays_for_what_a_plan_has_really_asked(planned) -> None:
    served = Served(planned.fitted.data.models, settings_of("floor", 0.76), learned_of(planned))
    paid = {}
    for row, query in enumerate(queries_of(planned, np.arange(planned.n))):
        had, escapes = planned.test.output_tokens[row], planned.escapes[row]
        trace = served.serve(query, planned.success[row], planned.tokens[row], had, escapes=escapes)
        column = served.column(trace)
        assert trace.cost_usd == pytest.approx(planned.calls.spent[row, column])
        paid[column, bool(escapes.all())] = trace.vote
    plan = planned.m
    assert paid[plan, True].answered_by == planned.plans[0].escape
    assert paid[plan, False].outcome == "agreed"
    assert {vote for (column, _), vote in paid.items() if column < plan} == {None}


def test_limits_count_both_members_of_a_plan(planned) -> None:
    limits = {"cheap": 300, "middle": 40}
    problem = replace(planned, arrival=Arrival(limits=limits, batch=300))
    (eccos,) = (s for s in _plain() if s.name == "eccos")
    assert play(eccos, problem, Setting("floor", 0.76), 0).violations == 0


@pytest.mark.parametrize("name", ["agree", "cascade"])
def test_fixed_rules_meet_a_floor_on_history_at_their_least_cost(planned, name) -> None:
    low, high = (play(FIXED[name], planned, Setting("floor", f), 0) for f in (0.3, 0.99))
    assert low.cost <= high.cost and low.success <= high.success + 0.02
    assert sum(high.share.values()) == pytest.approx(1.0)
    chain = followed(planned.test.answers, (0, 1, 2))
    whole = planned.outcomes[np.arange(planned.n), chain[0]].mean()
    assert high.success == pytest.approx(whole)
    assert high.cost == pytest.approx((chain[1] * planned.spent).sum(axis=1).mean())


def test_plans_chosen_on_history_may_differ_by_split(data) -> None:
    wanted = Wanted(
        strategies=("eccos",),
        predictors=("retrieval",),
        asked=(Setting("floor", 0.76),),
        splits=(0, 1),
        arrival=Arrival(),
        plans=("auto",),
    )
    found = play_all(data, wanted)
    names = {row.strategy for row in found}
    assert {"eccos", "eccos_models", "agree", "cascade"} <= names
    chosen = {name for row in found for name in row.share} - {*NAMES}
    assert "middle + cheap, else strong" in chosen  # the stronger member's answer is given


@pytest.fixture
def command(monkeypatch, tmp_path, files):
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda *a, **k: CircleEmbedder())
    app = typer.Typer()
    app.command()(evaluate)

    def run(*words, made=None):
        path = write(tmp_path / "data.jsonl.gz", rows() if made is None else made)
        words = ("--data", path, "--prices", files[1], "--predictor", "retrieval", *words)
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


def test_the_command_draws_the_frontier_with_and_without_plans(command, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plans.png"
    words = ("--plans", PAIR, "--floors", "0.76", "--json", "-", "--plot", picture)
    result = command(*words, made=keyed(rows()))
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["plans"] == [PAIR] and picture.stat().st_size > 10_000
    lines = {line["strategy"]: line for line in body["summary"]}
    assert lines["eccos_models"]["cost_ratio"]["mean"] < 1
    assert {"agree", "cascade"} <= set(lines)


def test_answers_may_lie_in_a_file_beside_the_records(command, tmp_path) -> None:
    made = keyed(rows())
    answers = {
        row["query_id"]: {o["model_name"]: o["answer"] for o in row["outputs"]} for row in made
    }
    path = tmp_path / "answers.json.gz"
    path.write_bytes(gzip.compress(json.dumps(answers).encode()))
    words = ("--plans", PAIR, "--floors", "0.76", "--json", "-")
    beside = json.loads(command(*words, "--answers", path).stdout)
    inside = json.loads(command(*words, made=made).stdout)
    assert [row["cost_per_call_usd"] for row in beside["rows"]] == [
        row["cost_per_call_usd"] for row in inside["rows"]
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--plans", "auto"), "no answer has a key"),
        (("--plans", "cheap + middle"), "a plan is written"),
        (("--plans", "cheap + nobody, else strong"), "'nobody' is no configured model"),
        (("--plans", "cheap + cheap, else strong"), "asks each model once"),
        (("--plans", ";".join([PAIR] * 7)), "up to 6 plans"),
    ],
)
def test_plans_that_cannot_be_are_refused_by_name(command, words, message) -> None:
    result = command(*words)
    assert isinstance(result.exception, ConfigError) and message in str(result.exception)
