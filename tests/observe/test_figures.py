"""Figures that stay right: when the pool changes, when prices are unknown, at any minute."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from observe_world import World, make_engine
from prometheus_client.parser import text_string_to_metric_families

from aios_eccos.config import Floor, ModelEntry, Settings
from aios_eccos.floor.floors import Floors
from aios_eccos.observe import command
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.savings import savings, strongest
from aios_eccos.observe.summary import Scope, read_status
from aios_eccos.observe.sums import of_call, of_verdict, spending_in
from aios_eccos.observe.text import money
from aios_eccos.observe.trace import Option, Trace, to_fields
from aios_eccos.observe.whatif import answered
from aios_eccos.values import Answer, Model
from aios_eccos.verdicts.taken import take_verdict
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import DAY_S, HOUR_S, TOTAL, PeriodSums, period_sums, total_of

POOL = (
    Model("small", input_price=1e-7, output_price=1e-7),
    Model("large", input_price=1e-5, output_price=1e-5),
)


def option(name: str, success: float, cost: float) -> Option:
    return Option(name, success, 100.0, cost, 0.0, 5.0, True, 1, 0.0)


SMALL, LARGE = option("small", 0.5, 1e-5), option("large", 0.95, 1e-3)
CALL = Trace(
    call="c", at=1.7e9, agent="a", mode="route", named=0, policy="", status="optimal",
    reason="because", model="small", floor=0.5, success_price_usd=1e-3, promised=0.5, novelty=None,
    batch=1, attempts=1, decision_s=0.001, waited_s=0.0, served_s=1.0, input_tokens=10,
    output_tokens=100, metered=True, cost_usd=1e-5, money=True, failure=None, status_code=200,
    options=(SMALL, LARGE),
)  # fmt: skip


def sums_of(*traces: Trace) -> dict[str, float]:
    return total_of(of_call(trace) for trace in traces)


def counters(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("model", "")): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in ("counter", "histogram")
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


# A pool that changes.


def test_a_baseline_is_compared_with_the_answers_that_it_stood_to_choice_for() -> None:
    before, after = replace(CALL, options=(SMALL,)), CALL
    sums = sums_of(*[before] * 1000, *[after] * 100)
    view = savings(0.0, True, [("start", 0.0, sums)], "large").windows[0]
    assert (view.answers, view.compared, view.asked_baseline) == (1100, 100, 0)
    assert view.cost_usd == pytest.approx(100 * 1e-5)
    assert view.baseline_cost_usd.value == pytest.approx(100 * 1e-3)
    assert view.saved_usd.value == pytest.approx(100 * (1e-3 - 1e-5))
    assert view.saved_share == pytest.approx(0.99)
    assert view.baseline_success is not None
    assert view.baseline_success.value == pytest.approx(0.95)


def test_a_baseline_that_left_the_pool_is_compared_with_its_own_time() -> None:
    asked = replace(CALL, model="large", cost_usd=2e-3)
    sums = sums_of(*[CALL] * 40, *[asked] * 10, *[replace(CALL, options=(SMALL,))] * 500)
    view = savings(0.0, True, [("start", 0.0, sums)], "large").windows[0]
    assert (view.answers, view.compared, view.asked_baseline) == (550, 50, 10)
    assert view.cost_usd == pytest.approx(40 * 1e-5 + 10 * 2e-3)


def test_a_window_without_the_baseline_saves_nothing_and_loses_nothing() -> None:
    old = sums_of(*[replace(CALL, options=(SMALL,))] * 20)
    start = total_of([old, sums_of(CALL)])
    view = savings(0.0, True, [("start", 0.0, start), ("day", 0.0, old)], "large").windows[1]
    assert (view.compared, view.cost_usd, view.saved_usd.value, view.saved_share) == (0, 0, 0, None)
    assert view.baseline_success is None


def test_the_strongest_is_of_the_highest_mean_not_of_the_largest_sum() -> None:
    sums = sums_of(*[replace(CALL, options=(SMALL,))] * 1000, *[CALL] * 100)
    assert strongest(sums) == "large"


def test_the_strongest_is_not_a_model_of_three_forecasts() -> None:
    sums = sums_of(*[CALL] * 300, *[replace(CALL, options=(SMALL, option("new", 0.96, 1e-2)))] * 3)
    assert strongest(sums) == "large"


def test_the_strongest_is_one_that_is_configured_now() -> None:
    sums = sums_of(*[CALL] * 300)
    assert strongest(sums, ["small"]) == "small"
    assert strongest(sums, ["other"]) is None


def test_verdicts_correct_who_is_strongest() -> None:
    judged = [of_verdict(replace(CALL, model="large"), float(i % 3 == 0)) for i in range(90)]
    assert strongest(total_of([sums_of(*[CALL] * 300), *judged])) == "small"


def test_hoped_is_the_mean_of_the_calls_that_a_model_stood_to_choice_for() -> None:
    store, now = MemoryWorkload(), time.time()
    traces = [replace(CALL, options=(SMALL,))] * 30 + [CALL] * 10
    store.add_sums([period_sums("h", now, sums_of(*traces))])
    hoped = {m.model: m.hoped for m in read_status(store, Scope(Settings(), POOL)).models}
    assert hoped == {"small": pytest.approx(0.5), "large": pytest.approx(0.95)}


# Counters never fall.


def counted(store: MemoryWorkload) -> dict[tuple[str, str], float]:
    reader = Reader(store, lambda: Scope(Settings(), POOL))
    return counters(metrics_text(reader.status(), reader.total()))


@pytest.mark.parametrize(
    "verdicts", [(1.0, 0.0), (0.9, 0.2), (1.0, 1.0), (0.0, 1.0, 0.0, 1.0, 0.0), (0.5, 0.0)]
)
def test_no_counter_falls_when_a_verdict_is_changed(verdicts: tuple[float, ...]) -> None:
    store = MemoryWorkload()
    floors = Floors(Settings(), store, store)
    for i in range(100):
        take_verdict(store, floors, replace(CALL, id=f"{i}-1", at=time.time()), 1.0)
    before = counted(store)
    for verdict in verdicts:
        take_verdict(store, floors, replace(CALL, id="5-1", at=time.time()), verdict)
        after = counted(store)
        assert {key: after[key] for key in before if after[key] < before[key]} == {}
        before = after
    given = after["aios_eccos_verdict_successes_total", "small"]
    assert given == pytest.approx(100 + sum(verdicts))
    assert after["aios_eccos_verdicts_total", "small"] == 100 + len(verdicts)


def test_status_still_counts_a_changed_verdict_once() -> None:
    store = MemoryWorkload()
    floors = Floors(Settings(), store, store)
    for verdict in (1.0, 0.0):
        take_verdict(store, floors, replace(CALL, id="5-1", at=time.time()), verdict)
    window = read_status(store, Scope(Settings(), POOL)).windows[0]
    assert window.verdicts == 1 and window.realised is not None
    assert window.realised.value == 0


class Away(MemoryWorkload):
    """A store whose Redis is away: it answers from what this process has counted."""

    @property
    def degraded(self) -> bool:
        return True


def test_what_a_kernel_counts_while_redis_is_away_is_no_counter() -> None:
    store = Away()
    store.add_sums([PeriodSums(TOTAL, 0.0, sums_of(CALL))])
    reader = Reader(store, lambda: Scope(Settings(), POOL))
    text = metrics_text(reader.status(), reader.total())
    assert counters(text) == {}
    assert "aios_eccos_degraded 1.0" in text


# A day has 24 hours, whatever the minute.


@pytest.fixture(params=[1, 20, 59])
def minute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """A moment so many minutes after the full hour."""
    now = (time.time() // HOUR_S) * HOUR_S + 60 * request.param
    monkeypatch.setattr(time, "time", lambda: now)
    return now


def one_call_a_minute(now: float, days: int) -> MemoryWorkload:
    store = MemoryWorkload()
    for i in range(days * 1440):
        store.add_sums([period_sums("h", now - 60 * i, sums_of(CALL))])
    return store


def test_a_day_is_24_hours(minute: float) -> None:
    status = read_status(one_call_a_minute(minute, 2), Scope(Settings(), POOL))
    day = status.windows[1]
    assert day.since == minute - DAY_S
    assert day.calls == pytest.approx(1440, abs=1)
    assert day.cost_usd == pytest.approx(1440 * 1e-5, rel=1e-3)
    assert status.models[0].calls == pytest.approx(1440, abs=1)
    assert status.models[0].hoped == pytest.approx(0.5)


def test_savings_of_a_day_and_a_week_are_of_whole_days(minute: float) -> None:
    store = one_call_a_minute(minute, 9)
    store.add_sums([PeriodSums(TOTAL, 0.0, sums_of(CALL))])
    reader = Reader(store, lambda: Scope(Settings(), POOL))
    _, week, day = reader.savings("large").windows
    assert (day.since, week.since) == (minute - DAY_S, minute - 7 * DAY_S)
    assert day.answers == pytest.approx(1440, abs=1)
    assert week.answers == pytest.approx(7 * 1440, abs=1)
    assert week.saved_usd.value == pytest.approx(7 * 1440 * (1e-3 - 1e-5), rel=1e-3)


# Where no price is known, nothing is dollars.

LOCAL = (
    ModelEntry(name="small: 8b", backend="ollama", hostname="http://small", concurrency=64),
    ModelEntry(name="large", backend="ollama", hostname="http://large", concurrency=64, size_b=70),
)


PRICE = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}


@pytest.fixture
def unpriced(tmp_path: Path) -> World:
    with make_engine(tmp_path, entries=LOCAL) as engine:
        assert engine.wait_ready(60)
        world = World(engine)
        world.answer = lambda model: Answer("fine", 50, 560)
        world.calls(12)
        yield world


def keys(value: object) -> set[tuple[str, object]]:
    """All keys of a JSON value, however deep, with what they hold."""
    if isinstance(value, list):
        return {pair for item in value for pair in keys(item)}
    if not isinstance(value, dict):
        return set()
    inner = {pair for item in value.values() for pair in keys(item)}
    return inner | {(key, json.dumps(item)) for key, item in value.items()}


@pytest.mark.parametrize(
    "words",
    ["status", "models", "load", "last", "explain last", 'explain "0.5 what?"', "savings", "events"]
    + ["whatif floor=0.9"],
)
def test_no_text_names_dollars_without_a_price(unpriced: World, words: str) -> None:
    text = command.answer(unpriced.reader, words)
    assert not re.search(r"\$(?!/M)", text), text


def test_what_was_forecast_and_what_was_spent_are_in_one_unit(unpriced: World) -> None:
    text = command.answer(unpriced.reader, "explain last")
    (decision,) = unpriced.reader.decisions(1).decisions
    assert decision.chosen is not None
    assert f"success at {money(decision.chosen.cost_usd, False)}" in " ".join(text.split())
    assert f"cost {money(decision.cost_usd, False)}," in text
    assert "u is an output token x billions of parameters" in text


def test_a_budget_that_no_price_can_keep_is_said_so_and_the_floor_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In units a budget of $0.01 would buy nothing but the smallest model."""
    with make_engine(tmp_path, entries=LOCAL, budget_per_call=0.01) as engine:
        assert engine.wait_ready(60)
        world = World(engine)
        served = {world.call(f"{hardness}").decision.model for hardness in (0.02, 0.5, 0.97)}
        assert "large" in served
        assert "a budget in dollars is not kept" in command.answer(world.reader, "status")
        priced = tuple(entry.model_copy(update=PRICE) for entry in LOCAL)
        engine.use(replace(engine.config, entries=priced))
        assert engine.router.settings.budget_per_call == 0.01
    (said,) = [r.message for r in caplog.records if "budget_per_call: $0.01" in r.message]
    for word in ("small: 8b, large", "input_cost_per_token", "quality_floor 0.9"):
        assert word in said


def test_calls_from_before_prices_were_known_are_not_decided_again_in_dollars() -> None:
    local = replace(CALL, at=1.0, money=False, options=(option("small", 0.5, 560.0),))
    assert answered([CALL, local, CALL]) == [CALL, CALL]
    assert answered([replace(local, at=2e9), CALL]) == [replace(local, at=2e9)]
    assert answered([]) == []


def views(reader: Reader) -> list[object]:
    what_if = reader.what_if(Floor(0.9, False))
    found = [reader.status(), reader.models(), reader.decisions(5), reader.explain("last")]
    return [*found, reader.explain_text("0.5 what?"), reader.savings(), reader.series(), what_if]


def test_no_json_names_dollars_without_a_price(unpriced: World) -> None:
    for view in views(unpriced.reader):
        body = json.loads(view.model_dump_json(by_alias=True))
        named = {(key, item) for key, item in keys(body) if re.search(r"_usd$|^usd_", key)}
        assert named, view
        assert {item for _, item in named} == {"null"}, view
        assert type(view).model_validate(body) == view, "a shell reads what the kernel said"
    status = json.loads(unpriced.reader.status().model_dump_json(by_alias=True))
    assert status["windows"][0]["cost_units"] >= 12 * 560
    assert status["money"] is False


def test_no_metric_names_dollars_without_a_price(unpriced: World) -> None:
    text = metrics_text(unpriced.reader.status(), unpriced.reader.total())
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    assert [s for s in samples if "usd" in s.name] == []
    assert sum(s.value for s in samples if s.name == "aios_eccos_spend_units_total") >= 12 * 560


def test_dollars_and_units_are_never_added_when_prices_become_known() -> None:
    """A 57,120 of before is neither shown as dollars nor lost in silence."""
    local = replace(CALL, money=False, cost_usd=560.0, options=(option("small", 0.5, 560.0),))
    store = MemoryWorkload()
    sums = sums_of(*[local] * 102, *[CALL] * 3)
    store.add_sums([PeriodSums(TOTAL, 0.0, sums), period_sums("h", time.time(), sums)])
    for window in read_status(store, Scope(Settings(), POOL)).windows:
        assert window.cost_usd == pytest.approx(3e-5)
        assert (window.calls, window.unpriced) == (105, 102)
    unpriced = read_status(store, Scope(Settings(), (Model("small"),)))
    assert unpriced.windows[0].cost_usd == pytest.approx(57_120)
    assert (unpriced.money, unpriced.windows[0].unpriced) == (False, 3)
    row = savings(0.0, True, [("start", 0.0, spending_in(sums, True))], "large").windows[0]
    assert (row.answers, row.compared) == (105, 3)


def test_prices_of_one_unit_are_not_shown_as_those_of_the_other() -> None:
    """The last decisions may still be of the time without prices."""
    store = MemoryWorkload()
    old = replace(CALL, money=False, success_price_usd=5e4)
    old = replace(old, options=(replace(SMALL, slot_price_usd=7e3),))
    store.append_decision(to_fields(old))
    status = read_status(store, Scope(Settings(), POOL))
    assert status.success_price_usd is None
    assert status.models[0].slot_price_usd == 0


# Names of models are whatever their makers like.

NAMES = (
    "qwen3:1.7b",
    "meta-llama/Llama-3.1-8B-Instruct",
    'say "hi"\\x',
    "two\nlines",
    "ünï 模型",
    "{}=,",
    "a:b:c",
)


def test_every_name_comes_back_whole_from_the_metrics() -> None:
    store = MemoryWorkload()
    traces = [replace(CALL, model=name, options=(option(name, 0.5, 1e-5),)) for name in NAMES]
    store.add_sums([PeriodSums(TOTAL, 0.0, sums_of(*traces))])
    pool = tuple(Model(name, input_price=1e-7, output_price=1e-7) for name in NAMES)
    reader = Reader(store, lambda: Scope(Settings(), pool))
    text = metrics_text(reader.status(), reader.total())
    families = list(text_string_to_metric_families(text))
    seen = {s.labels["model"] for f in families for s in f.samples if "model" in s.labels}
    assert seen == set(NAMES)
    calls = {k[1]: v for k, v in counters(text).items() if k[0] == "aios_eccos_calls_total"}
    assert calls == dict.fromkeys(NAMES, 1)
