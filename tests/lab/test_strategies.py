"""Every strategy on a small world whose truth is known."""

from itertools import pairwise

import numpy as np
import pytest
from evaluate_world import NAMES, CircleEmbedder

from aios_eccos.decide import assign
from aios_eccos.decide.problem import one_floor
from aios_eccos.decide.whole.solve import solve
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.lab.baselines import STRATEGIES as PLAIN
from aios_eccos.lab.baselines import dual_ascent, single
from aios_eccos.lab.dataset import Dataset, recorded
from aios_eccos.lab.metrics import ratio
from aios_eccos.lab.paper import STRATEGIES as PAPER
from aios_eccos.lab.problem import Arrival, problem_of
from aios_eccos.lab.research import STRATEGIES as RESEARCH
from aios_eccos.lab.run import select
from aios_eccos.lab.strategy import AIOS_THRESHOLD, Setting, play
from aios_eccos.lab.summary import frontier
from aios_eccos.records import Outcome, Record

BY_NAME = {strategy.name: strategy for strategy in (*PLAIN, *RESEARCH, *PAPER)}
ASKED = [Setting("floor", 0.7), Setting("budget", 5e-4)]


def played(name, problem, setting=None):
    setting = Setting() if setting is None else setting
    return play(BY_NAME[name], problem, setting, 0)


def shares(row):
    return [*row.share.values()]


def posed(records, models):
    """The first split of some records."""
    dataset = Dataset("few", tuple(records), (), "x")
    return problem_of(recorded(dataset, models, CircleEmbedder()), 0, "retrieval", Arrival())


@pytest.mark.parametrize("name", BY_NAME)
def test_each_setting_gives_each_row_one_model(name, problem):
    strategy = BY_NAME[name]
    settings = strategy.settings(problem, ASKED)
    for setting in (settings[0], settings[len(settings) // 2], settings[-1]):
        row = play(strategy, problem, setting, 3)
        assert sum(row.share.values()) == pytest.approx(1.0)
        assert 0 <= row.success <= 1
        assert problem.spent.min() - 1e-12 <= row.cost <= problem.spent.max() + 1e-12
        assert row.violations == 0
        assert (row.predictor == "retrieval") == strategy.forecasts
        assert set(row.tasks) == {"easy", "hard"}


def test_a_single_model_has_its_own_means(problem):
    row = play(single("middle"), problem, Setting(), 0)
    assert row.success == pytest.approx(problem.outcomes[:, 1].mean())
    assert row.cost == pytest.approx(problem.spent[:, 1].mean())


def test_cheapest_and_strongest_are_judged_on_history(problem):
    assert shares(played("cheapest", problem)) == [1, 0, 0]
    assert shares(played("strongest", problem)) == [0, 0, 1]


def test_random_and_round_robin_use_all_models_alike(problem):
    assert shares(played("random", problem)) == pytest.approx([1 / 3] * 3)
    assert shares(played("round_robin", problem)) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_the_hull_mixes_two_models_to_meet_the_floor_on_history(problem):
    success, cost = problem.past_means()
    floor = float(success[0] + 0.4 * (success[2] - success[0]))
    row = played("hull", problem, Setting("floor", floor))
    assert np.dot(shares(row), success) == pytest.approx(floor)
    assert row.promised == pytest.approx(floor)
    assert np.dot(shares(row), cost) <= cost[2]
    best = played("hull", problem, Setting("floor", 1.0))
    assert shares(best) == [0, 0, 1]


def test_the_shipped_threshold_is_always_played(problem):
    settings = BY_NAME["neighbour_threshold"].settings(problem, [])
    assert Setting("threshold", AIOS_THRESHOLD) in settings


def test_oracle_is_right_wherever_any_model_is_and_cheapest_among_those(problem):
    row = played("oracle", problem)
    right = problem.outcomes.max(axis=1)
    assert row.success == pytest.approx(right.mean())
    least = np.where(problem.outcomes > 0, problem.spent, np.inf).min(axis=1)
    least[right == 0] = problem.spent[right == 0].min(axis=1)
    assert row.cost == pytest.approx(least.mean())


def test_nobody_meets_a_floor_for_less_than_the_clairvoyant(problem):
    bound = played("clairvoyant", problem, Setting("floor", 0.7))
    assert bound.success >= 0.7 - 1e-9
    for name in ("eccos", "lagrangian", "mess_plus", "hull"):
        row = played(name, problem, Setting("floor", 0.7))
        assert row.success < 0.7 or row.cost >= bound.cost


@pytest.mark.parametrize(("whole", "off"), [(1, 0.02), (10_000, 0.05)], ids=["floor", "price"])
def test_eccos_keeps_its_promise(problem, monkeypatch, whole, off):
    monkeypatch.setattr(assign, "WHOLE_BATCH", whole)
    row = played("eccos", problem, Setting("floor", 0.6))
    assert row.success == pytest.approx(0.6, abs=0.1)
    assert row.promised == pytest.approx(0.6, abs=off)


def test_eccos_costs_less_than_mixing_models_at_random(problem):
    fronts = []
    for name in ("eccos", "hull"):
        strategy = BY_NAME[name]
        fronts.append(
            frontier([play(strategy, problem, s, 0) for s in strategy.settings(problem, [])])
        )
    targets = (0.5, 0.55, 0.6, 0.65)
    assert ratio(*([front.cost_at(success) for success in targets] for front in fronts)) < 1


def test_a_floor_out_of_reach_promises_what_there_is(problem):
    row = played("eccos", problem, Setting("floor", 1.0))
    assert row.promised < 0.95
    assert row.success == pytest.approx(problem.outcomes.mean(axis=0).max(), abs=0.05)


@pytest.mark.parametrize("whole", [1, 10_000], ids=["batch", "price"])
def test_a_budget_is_kept_at_its_price_in_batches_of_every_size(problem, monkeypatch, whole):
    monkeypatch.setattr(assign, "WHOLE_BATCH", whole)
    row = played("eccos", problem, Setting("budget", 4e-4))
    assert row.cost == pytest.approx(4e-4, rel=0.15)


def test_dual_ascent_without_limits_finds_what_the_optimizer_finds(problem):
    floor = 0.7
    choice = dual_ascent(problem.cost, problem.success, floor, None)
    line = np.arange(problem.n)
    assert problem.success[line, choice].mean() >= floor - 0.01
    best = solve(one_floor(problem.cost, problem.success, floor))
    assert problem.cost[line, choice].sum() <= best.cost * 1.2


def test_limits_are_kept_by_those_that_know_them_and_counted_for_the_others(make_problem):
    limited = make_problem(limits={"cheap": 10, "middle": 20, "strong": 10}, batch=30)
    for name in ("eccos", "batch_robust"):
        for setting in (Setting("floor", 0.6), Setting("budget", 5e-4)):
            assert played(name, limited, setting).violations == 0
    over = played("cheapest", limited)
    full, last = divmod(limited.n, 30)
    assert over.violations == full * 20 + max(last - 10, 0)


def test_the_clairvoyant_bound_does_not_depend_on_batches(problem, make_problem):
    asked = Setting("floor", 0.7)
    bound, stream = (played("clairvoyant", p, asked) for p in (problem, make_problem(stream=True)))
    assert bound.cost == pytest.approx(stream.cost)
    tight = make_problem(limits={"cheap": 1, "middle": 1, "strong": 1}, batch=10)
    assert played("clairvoyant", tight, asked).cost >= bound.cost


def test_rows_that_wait_are_served_in_later_rounds(make_problem):
    limited = make_problem(limits={"cheap": 2, "middle": 2, "strong": 2}, batch=40)
    row = played("eccos", limited, Setting("floor", 0.5))
    assert sum(row.share.values()) == pytest.approx(1.0)
    assert row.violations == 0


def test_a_stream_sees_outcomes_and_moves_its_price(make_problem):
    stream = make_problem(stream=True)
    assert stream.batch == 1
    row = played("eccos", stream, Setting("floor", 0.75))
    assert row.success == pytest.approx(0.75, abs=0.08)
    assert len(stream.batches()) == stream.n


def test_recorded_order_goes_task_after_task(make_problem):
    tasks = make_problem(order="recorded").test.tasks
    changes = sum(a != b for a, b in pairwise(tasks))
    assert changes == 1
    shuffled = make_problem().test.tasks
    assert sum(a != b for a, b in pairwise(shuffled)) > 5


def test_arrays_follow_the_order_of_arrival(make_problem):
    one, other = make_problem(order="recorded"), make_problem()
    where = {name: i for i, name in enumerate(one.test.ids)}
    rows = [where[name] for name in other.test.ids]
    assert np.array_equal(one.success[rows], other.success)
    assert np.array_equal(one.spent[rows], other.spent)


def test_what_was_fitted_is_kept_and_damage_is_repaired(make_problem, tmp_path):
    fresh = make_problem(folder=tmp_path)
    (kept,) = tmp_path.glob("*-retrieval-*.npz")
    kept.write_bytes(b"broken")
    again = make_problem(folder=tmp_path)
    assert np.array_equal(fresh.success, again.success)
    assert kept.stat().st_size > 100
    third = make_problem(folder=tmp_path)
    assert np.array_equal(fresh.cost, third.cost)


def test_splits_divide_history_from_test(make_problem):
    for split in (0, 1):
        problem = make_problem(split=split)
        assert not set(problem.test.ids) & set(problem.history.ids)


def test_a_head_is_fitted_once_and_forecasts_every_test_row(make_problem, tmp_path):
    for kind in ("hybrid", "trained"):
        problem = make_problem(kind=kind, folder=tmp_path)
        assert problem.success.shape == (problem.n, 3)
        assert played("eccos", problem, Setting("floor", 0.7)).predictor == kind
    assert len(list(tmp_path.glob("*-head.safetensors"))) == 1
    again = make_problem(kind="trained", folder=tmp_path)
    assert np.array_equal(problem.success, again.success)


def test_rows_with_a_missing_outcome_are_not_replayed(models):
    whole = tuple(Outcome(name, 1.0, 10) for name in NAMES)
    records = [
        Record(f"r{i}", f"question {i} at {i / 50:.6f}", 5, whole, split="train") for i in range(60)
    ]
    records += [
        Record(f"t{i}", f"other {i} at {i / 5:.6f}", 5, whole[:2], split="test") for i in range(3)
    ]
    with pytest.raises(DataError, match="no test rows"):
        posed(records, models)
    records.append(Record("t9", "whole at 1.500000", 5, whole, split="test"))
    assert posed(records, models).test.ids == ("t9",)


def test_too_little_history_is_an_error(models):
    whole = tuple(Outcome(name, 1.0, 10) for name in NAMES)
    records = [
        Record(f"r{i}", f"question {i} at {i / 50:.6f}", 5, whole, split="test" if i > 5 else "")
        for i in range(12)
    ]
    with pytest.raises(DataError, match="too few judged rows"):
        posed(records, models)


def test_unknown_strategies_are_named_with_those_that_exist():
    with pytest.raises(ConfigError, match="neighbour_threshold"):
        select(["eccoss"], NAMES)
    assert {s.name for s in select(["eccos"], NAMES)} == {
        "eccos", "clairvoyant", *(f"single:{name}" for name in NAMES),
    }  # fmt: skip
    assert len(select(["all"], NAMES)) == len(BY_NAME) + len(NAMES)


def test_research_rules_are_short():
    import ast
    import inspect

    from aios_eccos.lab import research

    for node in ast.parse(inspect.getsource(research)).body:
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60


def test_the_robust_rule_takes_a_floor_and_errs_on_its_side(problem):
    row = played("batch_robust", problem, Setting("floor", 0.6))
    assert row.promised >= 0.6 - 1e-9
    assert row.success > 0.6 - 0.05
