"""The floor that is asked for is the success that is had, on the path that serves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from floors_world import Stream, book_of, harder, world

from aios_eccos.config import parse_settings
from aios_eccos.floor.control import BOOST, ETA, START_AT
from aios_eccos.floor.curve import strongest_of
from aios_eccos.values import Failure, Query

LEVELS = {"levels": (0.8, 0.9)}


def run(book, settings, calls, *, seed=1, shift=(0.0, 0.0), own=None, **kind):
    """Successes, costs, and the last trace of a stream with a verdict on every call."""
    rng = np.random.default_rng(seed)
    success, _, cost = world(rng, calls, **kind)
    outcomes = harder(rng, success, shift)
    stream = Stream(book, settings)
    stream.begin_control()
    had, spent, trace = [], [], None
    for i in range(calls):
        floor = own[0] if own is not None and rng.random() < own[1] else None
        trace = stream.call(success[i], cost[i], outcomes[i], floor=floor)
        if floor is None:
            had.append(outcomes[i, stream.column(trace)])
            spent.append(trace.cost_usd)
    return np.array(had), np.array(spent), outcomes.mean(axis=0), stream


@pytest.mark.parametrize("floor", [0.65, 0.70])
@pytest.mark.parametrize("worse", [-2.5, -1.0])
def test_a_cheap_model_that_gets_worse_is_left_for_one_that_keeps_the_floor(floor, worse) -> None:
    book = book_of(np.random.default_rng(0), **LEVELS)
    had, _, alone, _ = run(book, {"quality_floor": floor}, 3000, shift=(worse, 0.0), **LEVELS)
    assert alone[1] > floor, "the strongest model can keep it"
    least, greatest = book.curve().ends
    base = max(book.curve().price_for(floor), least)
    assert floor - had.mean() <= math.log(greatest / base) / (ETA * len(had)) + 1 / len(had)
    assert had[1500:].mean() >= floor - 0.01


@pytest.mark.parametrize(("own", "shift"), [(0.99, -1.5), (0.1, 1.5)])
def test_calls_with_a_floor_of_their_own_move_no_price_but_their_own(own, shift) -> None:
    book = book_of(np.random.default_rng(0))
    plain = run(book, {}, 3000, shift=(shift, 0.0))
    mixed = run(book, {}, 3000, shift=(shift, 0.0), own=(own, 0.2))
    assert mixed[0][1500:].mean() == pytest.approx(plain[0][1500:].mean(), abs=0.02)
    assert mixed[1][1500:].mean() <= 1.3 * plain[1][1500:].mean()
    assert {*mixed[3].workload.read_prices()} == {"shift::95 % of the strongest"}
    (alarm,) = mixed[3].floors.look()
    assert alarm.verdicts == len(mixed[0]), "nor do they bet on their policy's floor"


@pytest.mark.parametrize("shift", [-0.7, 0.0, 0.7])
@pytest.mark.parametrize("budget", [1e-4, 3e-4, 6e-4])
def test_a_budget_is_kept_by_what_is_spent_whatever_verdicts_say(budget, shift) -> None:
    book = book_of(np.random.default_rng(0))
    _, spent, _, stream = run(book, {"budget_per_call": budget}, 3000, shift=(shift, shift))
    assert spent.mean() <= 1.01 * budget
    assert spent[1500:].mean() == pytest.approx(budget, rel=0.05), "and it is used"
    assert [*stream.workload.read_prices()] == [f"spend::{budget:g}"]


def test_costs_that_rise_are_made_up_for() -> None:
    book = book_of(np.random.default_rng(0))
    rng = np.random.default_rng(3)
    success, _, cost = world(rng, 3000)
    stream = Stream(book, {"budget_per_call": 3e-4})
    spent = [stream.serve(Query("", id=str(i)), success[i], cost[i] * 1e8, cost[i] * 1.5e8).cost_usd
             for i in range(3000)]  # fmt: skip
    assert np.mean(spent[1000:]) <= 1.02 * 3e-4


def test_verdicts_on_calls_before_control_count_whole() -> None:
    book = book_of(np.random.default_rng(0), levels=(0.75, 0.9))
    for late in (False, True):
        rng = np.random.default_rng(1)
        success, outcomes, cost = world(rng, 300, levels=(0.75, 0.9))
        stream = Stream(book, {"quality_floor": 0.8})
        if not late:
            stream.begin_control()
        traces = [stream.call(success[i], cost[i]) for i in range(300)]
        stream.begin_control()
        had = [outcomes[i, stream.column(trace)] for i, trace in enumerate(traces)]
        for trace, outcome in zip(traces, had, strict=True):
            stream.judge(trace, float(outcome))
            stream.begin_control()
        rule = ETA * sum(0.8 - outcome for outcome in had)
        factor = stream.workload.read_prices()["shift::0.8"]
        assert math.log(factor) == pytest.approx(rule, abs=1e-6)


def test_a_changed_verdict_moves_the_price_by_the_difference() -> None:
    stream = Stream(book_of(np.random.default_rng(0)), {"quality_floor": 0.8})
    stream.begin_control()
    trace = stream.call(np.array([0.6, 0.9]), np.array([1e-5, 1e-3]))

    def factor() -> float:
        return math.log(stream.workload.read_prices()["shift::0.8"])

    for outcome in (1.0, 0.0, 1.0, 0.5):
        stream.judge(trace, outcome)
        stream.begin_control()
        assert factor() == pytest.approx(ETA * (0.8 - outcome))


def test_what_no_price_chose_moves_none() -> None:
    stream = Stream(book_of(np.random.default_rng(0)), {"quality_floor": 0.8})
    stream.begin_control()
    row, cost = np.array([0.6, 0.9]), np.array([1e-5, 1e-3])
    pinned = stream.call(row, cost, allowed=("large",))
    own = stream.call(row, cost, floor=0.9)
    failed = stream.serve(Query("", id="f"), row, cost * 1e8, failure=Failure("500"))
    explored = replace(stream.call(row, cost), control=None, status="explored")
    before = stream.workload.read_prices()
    for trace in (pinned, own, explored):
        stream.judge(trace, 0.0)
    assert stream.workload.read_prices() == before
    assert pinned.floor is None and pinned.control is not None and not pinned.control.key
    assert failed.control is not None and failed.control.step == 0.0
    assert not stream.floors.look(), "and nobody bets on them"


def test_steps_are_larger_while_the_alarm_of_that_floor_is_raised() -> None:
    stream = Stream(book_of(np.random.default_rng(0)), {"quality_floor": 0.8})
    stream.begin_control()
    trace = stream.call(np.array([0.6, 0.9]), np.array([1e-5, 1e-3]))
    assert stream.floors.verdict_step(trace, 0.0) + trace.control.step == pytest.approx(ETA * 0.8)
    stream.floors.alarmed = frozenset({"other/*"})
    assert stream.floors.verdict_step(trace, 0.0) + trace.control.step == pytest.approx(ETA * 0.8)
    stream.floors.alarmed = frozenset({""})
    whole = stream.floors.verdict_step(trace, 0.0) + trace.control.step
    assert whole == pytest.approx(BOOST * ETA * 0.8)


def test_control_begins_by_itself_with_enough_verdicts_and_only_if_asked() -> None:
    rng = np.random.default_rng(2)
    success, outcomes, cost = world(rng, START_AT + 1)
    for mode, begins in (("controlled", True), ("expected", False), ("certified", False)):
        stream = Stream(book_of(np.random.default_rng(0)), {"floor_mode": mode})
        for i in range(START_AT):
            assert not stream.workload.read_prices()
            stream.call(success[i], cost[i], outcomes[i])
        stream.call(success[-1], cost[-1], outcomes[-1])
        assert bool(stream.workload.read_prices()) is begins


def test_a_price_that_stands_at_its_end_is_counted_and_comes_back_at_once() -> None:
    stream = Stream(book_of(np.random.default_rng(0)), {"quality_floor": 0.999})
    stream.begin_control()
    row, cost = np.array([0.6, 0.9]), np.array([1e-5, 1e-3])
    for _ in range(150):
        stream.call(row, cost, np.zeros(2))
        stream.begin_control()
    greatest = stream.router.learned.book.curve().ends[1]
    assert stream.call(row, cost).success_price_usd == pytest.approx(greatest)
    assert stream.floors.look()[0].at_end > 0.3
    for _ in range(120):
        stream.begin_control()
        stream.call(np.array([0.999, 1.0]), cost, np.ones(2))
    assert stream.call(row, cost).success_price_usd < greatest


def test_two_sets_of_models_under_one_floor_do_not_clamp_each_other() -> None:
    names = ("tiny", "small", "large")
    kind = {"levels": (0.4, 0.7, 0.95), "costs": (1e-6, 1e-5, 1e-3)}
    book = book_of(np.random.default_rng(0), names=names, **kind)
    rng = np.random.default_rng(1)
    success, _, cost = world(rng, 4000, **kind)
    outcomes = harder(rng, success, (-1.5, -1.5, 0.0))
    stream = Stream(book, {"quality_floor": 0.8})
    stream.begin_control()
    had = []
    for i in range(4000):
        some = ("tiny", "large") if i % 4 == 0 else None
        trace = stream.call(success[i], cost[i], outcomes[i], allowed=some)
        had.append(outcomes[i, stream.column(trace)])
    assert np.mean(had[2000:]) == pytest.approx(0.8, abs=0.01)


def test_another_floor_begins_anew_and_agents_have_prices_of_their_own() -> None:
    book = book_of(np.random.default_rng(0))
    stream = Stream(book, {"quality_floor": 0.7, "agents": {"picky/*": {"quality_floor": 0.85}}})
    stream.begin_control()
    row, cost = np.array([0.6, 0.9]), np.array([1e-5, 1e-3])
    for _ in range(5):
        stream.call(row, cost, np.zeros(2), agent="picky/1")
    stream.begin_control()
    assert [*stream.workload.read_prices()] == ["shift:picky/*:0.85"]
    before = stream.call(row, cost, agent="picky/1").success_price_usd
    stream.floors.use(parse_settings({"agents": {"picky/*": {"quality_floor": 0.8}}}))
    changed = stream.call(row, cost, agent="picky/1")
    assert changed.floor == 0.8 and changed.success_price_usd < before


@pytest.mark.parametrize(
    ("successes", "judged", "best"),
    [
        ((480, 450, 1), (600, 600, 1), 0),
        ((480, 450, 9), (600, 600, 10), 0),
        ((480, 450, 290), (600, 600, 300), 2),
        ((1, 0, 0), (1, 0, 0), 0),
        ((0, 0, 0), (5, 9, 0), 0),
        ((0, 0, 0), (0, 0, 0), None),
        ((2, 2, 2), (3, 3, 3), 0),
    ],
)
def test_the_strongest_is_chosen_by_what_is_sure(successes, judged, best) -> None:
    assert strongest_of(np.array(successes), np.array(judged), ("a", "b", "c")) == best
