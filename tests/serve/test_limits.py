"""Requests and tokens per minute and caps on money, as calls meet them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

import pytest

from aios_eccos.config import Settings, parse_settings
from aios_eccos.serve.call import Call
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.fairness import FairShare
from aios_eccos.serve.limits import Lengths
from aios_eccos.serve.router import Router
from aios_eccos.serve.spare import SpareRequests
from aios_eccos.values import (
    Answer,
    CallResult,
    Failure,
    Lease,
    Model,
    Need,
    Query,
    Rates,
    Refused,
    Spent,
    Used,
)
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.store import NO_RATES, Load

#: Dollars per token: a call of 100 tokens that answers 100 costs .02 or .0002.
DEAR = Model("dear", "a", input_price=1e-4, output_price=1e-4, strength=0.9)
CHEAP = Model("cheap", "b", input_price=1e-6, output_price=1e-6, strength=0.5)
FREE = Model("free", "c", input_price=0.0, output_price=0.0, strength=0.3)
ALL = (DEAR, CHEAP, FREE)
Loads = dict[str, Load]


def rated(model: Model, **rates: int) -> Model:
    return Model(model.name, model.endpoint, strength=model.strength, rates=Rates(**rates))


@pytest.fixture
def store() -> Iterator[MemoryWorkload]:
    store = MemoryWorkload()
    yield store
    store.close()


def answers(tokens: int = 100) -> Callable[[str, float], Answer]:
    return lambda model, left: Answer(value=model, input_tokens=100, output_tokens=tokens)


def served(
    store: MemoryWorkload,
    models: tuple[Model, ...],
    settings: Settings,
    *queries: Query,
    run: Callable[[str, float], Answer] | None = None,
) -> list[CallResult]:
    """The results of calls made one after the other."""
    with Dispatcher(Router(models, settings, store), settings) as dispatcher:
        return [dispatcher.submit(query, run or answers()).result(60) for query in queries]


def query(**options: object) -> Query:
    return Query("", input_tokens=100, max_output_tokens=100, **options)  # type: ignore[arg-type]


def hurried() -> Query:
    return query(deadline=time.monotonic() + 20)


def failure(result: CallResult) -> Failure:
    assert result.answer.failure is not None
    return result.answer.failure


def test_a_call_goes_elsewhere_when_a_models_requests_are_used_up(store: MemoryWorkload) -> None:
    models = (rated(DEAR, rpm=2), CHEAP)
    results = served(store, models, Settings(), *(query() for _ in range(3)))
    assert [result.answer.value for result in results] == ["dear", "dear", "cheap"]
    assert results[2].closed == {"dear": "has had its 2 requests of a minute (rpm)"}


def test_a_call_that_cannot_have_a_request_in_its_time_is_refused_by_the_limits_name(
    store: MemoryWorkload,
) -> None:
    results = served(store, (rated(DEAR, rpm=1),), Settings(), query(), hurried())
    assert results[0].answer.value == "dear"
    refusal = failure(results[1])
    assert (refusal.status_code, refusal.retryable) == (429, False)
    assert "dear has had its 1 requests of a minute (rpm)" in refusal.reason
    assert results[1].attempts == 0


def test_tokens_are_reserved_by_the_forecast_and_given_back_by_usage(store: MemoryWorkload) -> None:
    model = rated(DEAR, tpm=600)
    results = served(store, (model,), Settings(), *(query() for _ in range(4)), run=answers(10))
    assert [result.answer.value for result in results] == ["dear"] * 4
    assert store.loads({model.slot: 9}, {model.slot: model.rates})[model.slot].tokens == 440
    refusal = failure(*served(store, (model,), Settings(), hurried()))
    assert refusal.status_code == 429
    assert "dear has 160 of its 600 tokens a minute left (tpm), this call needs" in refusal.reason


def test_calls_of_a_kernel_that_declares_no_rates_count_against_those_of_others() -> None:
    rates = Rates(rpm=5, tpm=10_000)

    class Shared(MemoryWorkload):
        def loads(self, limits: Mapping[str, int], own: Mapping[str, Rates] = NO_RATES) -> Loads:
            return super().loads(limits, dict.fromkeys(limits, rates))

    with contextlib.closing(Shared()) as store:
        served(store, (DEAR,), Settings(), query(), query())
        found = store.loads({DEAR.slot: 9})[DEAR.slot]
    assert (found.requests, found.tokens) == (2, 400)


def test_a_prompt_longer_than_a_minutes_tokens_is_refused_at_once(store: MemoryWorkload) -> None:
    begun = time.monotonic()
    refusal = failure(*served(store, (rated(DEAR, tpm=50),), Settings(), query()))
    assert time.monotonic() - begun < 30
    assert "dear takes 50 tokens a minute (tpm), this call needs" in refusal.reason


def test_an_answer_longer_than_a_minutes_tokens_waits_for_the_whole_minute(
    store: MemoryWorkload,
) -> None:
    (result,) = served(store, (rated(DEAR, tpm=150),), Settings(), query())
    assert result.answer.value == "dear"


def test_a_call_that_may_not_spill_waits_for_its_best_models_rate_while_it_has_the_time(
    store: MemoryWorkload,
) -> None:
    models, settings = (rated(DEAR, rpm=1), CHEAP), Settings(over_capacity="wait")
    first, second = served(store, models, settings, query(), hurried())
    assert [first.answer.value, second.answer.value] == ["dear", "cheap"]
    router = Router(models, settings, store)
    (candidate,), slots = router.forecast([query()]), router.slots()
    patient = Call(
        query=candidate.query,
        run=answers(),
        future=Future(),
        expires=time.monotonic() + 600,
        router=router,
        candidate=candidate,
    )
    patient.barred = router.bars(candidate, slots)
    assert patient.best(slots, router) == ["dear"]
    assert not patient.room("dear", slots)
    assert 1 < patient.look_s(time.monotonic()) + 1 <= 2, "it looks again, but not all the time"


def test_a_server_that_says_when_is_left_alone_until_then(store: MemoryWorkload) -> None:
    def run(model: str, left: float) -> Answer:
        return Answer(failure=Failure("429", 429, retry_after_s=300.0))

    results = served(store, (DEAR,), Settings(call_timeout_s=5.0), query(), query(), run=run)
    assert results[0].attempts == 1
    assert "dear has asked to be left alone for" in failure(results[1]).reason
    assert failure(results[1]).status_code == 429


def test_a_failed_request_has_taken_a_request_and_no_tokens(store: MemoryWorkload) -> None:
    model = rated(DEAR, rpm=9, tpm=1000)

    def run(name: str, left: float) -> Answer:
        return Answer(failure=Failure("400", 400, retryable=False))

    served(store, (model,), Settings(), query(), run=run)
    load = store.loads({model.slot: 9}, {model.slot: model.rates})[model.slot]
    assert (load.requests, load.tokens) == (1, 0)


def money(**options: object) -> Settings:
    return parse_settings(options)


def cap_spent(store: MemoryWorkload, settings: Settings, agent: str = "") -> Spent:
    return store.spent(settings.caps(agent, time.time()))[0]


def test_no_cap_is_passed_and_the_refusal_names_it_and_when_it_resets(
    store: MemoryWorkload,
) -> None:
    settings = money(max_cost={"day": 0.05})
    results = served(store, (DEAR,), settings, *(query() for _ in range(3)))
    assert [result.answer.value for result in results] == ["dear", "dear", None]
    assert cap_spent(store, settings) == Spent(0.04, 0.0)
    refusal = failure(results[2])
    assert (refusal.status_code, refusal.retryable) == (402, False)
    assert (
        "dear is over max_cost of all agents a day: it may cost $0.02, $0.01 of $0.05"
        in refusal.reason
    )
    assert "00:00 UTC" in refusal.reason


def test_what_a_cap_cannot_pay_goes_to_a_model_that_it_can(store: MemoryWorkload) -> None:
    settings = money(max_cost={"day": 0.03})
    results = served(store, (DEAR, CHEAP), settings, query(), query())
    assert [result.answer.value for result in results] == ["dear", "cheap"]
    assert "is over max_cost of all agents a day" in results[1].closed["dear"]


def test_free_models_pass_every_cap(store: MemoryWorkload) -> None:
    settings = money(max_cost={"month": 1e-9})
    (result,) = served(store, ALL, settings, query())
    assert result.answer.value == "free"


def test_at_a_cap_that_may_be_passed_the_cheapest_serves_and_is_counted(
    store: MemoryWorkload,
) -> None:
    settings = money(max_cost={"day": 1e-6}, at_cap="cheapest")
    results = served(store, (DEAR, CHEAP), settings, query(), query())
    assert [result.answer.value for result in results] == ["cheap"] * 2
    assert cap_spent(store, settings).usd == pytest.approx(0.0004)


def test_an_agents_cap_binds_its_pattern_alone(store: MemoryWorkload) -> None:
    settings = money(agents={"coder/*": {"max_cost": {"day": 0.02}}})
    mine, others = query(agent="coder/a"), query(agent="writer")
    results = served(store, (DEAR,), settings, mine, query(agent="coder/b"), others)
    assert [result.answer.value for result in results] == ["dear", None, "dear"]
    assert "max_cost of coder/* a day" in failure(results[1]).reason


def test_a_patterns_spending_counts_in_all(store: MemoryWorkload) -> None:
    settings = money(max_cost={"day": 0.03}, agents={"coder/*": {"max_cost": {"day": 1.0}}})
    results = served(store, (DEAR,), settings, query(agent="coder/a"), query())
    assert results[0].answer.value == "dear"
    assert "all agents a day" in failure(results[1]).reason


def test_a_retry_is_reserved_and_counted_anew(store: MemoryWorkload) -> None:
    settings, models = money(max_cost={"day": 0.05}), []

    def run(model: str, left: float) -> Answer:
        models.append(model)
        broken = Failure("broken answer", 502, rests=False) if len(models) == 1 else None
        return Answer(model, input_tokens=100, output_tokens=100, failure=broken)

    (result,) = served(store, (DEAR, CHEAP), settings, query(), run=run)
    assert result.answer.value == "cheap"
    assert cap_spent(store, settings).usd == pytest.approx(0.0202), "the broken answer was paid for"


def test_a_call_names_what_it_may_cost_itself(store: MemoryWorkload) -> None:
    results = served(store, (DEAR, CHEAP), Settings(), query(max_cost=0.001))
    assert results[0].answer.value == "cheap"
    refusal = failure(*served(store, (DEAR,), Settings(), query(max_cost=0.001)))
    assert refusal.status_code == 402
    assert "dear may cost $0.02, the call allows $0.001 (max_cost)" in refusal.reason


def test_a_model_without_a_price_serves_nobody_who_is_capped(store: MemoryWorkload) -> None:
    unknown = Model("new", "d", strength=0.99)
    settings = money(max_cost={"day": 1.0})
    results = served(store, (unknown, CHEAP), settings, query())
    assert results[0].answer.value == "cheap"


def test_a_dropped_calls_money_comes_back(store: MemoryWorkload) -> None:
    settings = money(max_cost={"day": 1.0})
    router = Router((DEAR,), settings, store)
    (decision,) = router.route([query()]).decisions
    assert cap_spent(store, settings).held_usd > 0
    router.release(decision)
    router.release(decision)
    assert cap_spent(store, settings) == Spent()


def test_what_nine_of_ten_answers_do_not_exceed_is_learned() -> None:
    lengths = Lengths()
    for n in range(4000):
        lengths.note("a", 100.0, 300 if n % 10 == 0 else 100)
        lengths.note("b", 100.0, 100)
    assert 1.0 <= lengths.ninth("b") < 1.2
    assert 2.0 < lengths.ninth("a") < 4.5
    assert lengths.ninth("unseen") == pytest.approx(2.3, abs=0.1)


def test_an_agent_that_weighs_twice_as_much_is_served_twice_as_much() -> None:
    fair = FairShare({"heavy": 2.0, "light": 1.0}.__getitem__)
    order = []
    for _ in range(30):
        queues = {"heavy": ["heavy"], "light": ["light"]}
        agent = next(fair.merge(queues, lambda item: 1.0))
        fair.charge(agent, 1.0)
        order.append(agent)
    assert 19 <= order.count("heavy") <= 21
    assert fair.fairness() == pytest.approx(1.0, abs=0.01)


def test_jains_index_tells_who_is_starved() -> None:
    fair = FairShare()
    assert fair.fairness() is None
    for agent in "abcd":
        fair.charge(agent, 10.0)
    assert fair.fairness() == pytest.approx(1.0)
    fair.charge("a", 1000.0)
    assert fair.fairness() == pytest.approx(0.26, abs=0.02)


@pytest.mark.parametrize("refused", ["filter", "tools", "context"])
def test_where_the_cheapest_refuses_a_call_the_next_cheapest_passes_the_cap(
    store: MemoryWorkload, refused: Refused
) -> None:
    settings = parse_settings({"max_cost": {"day": 1}, "at_cap": "cheapest"})
    router = Router((DEAR, CHEAP), settings, store)
    (cap,) = settings.caps("", time.time())
    spent = Lease("x", router.models[0].slot, Need(0, 0.0, (cap,)))
    store.settle([(spent, Used(0, 0, 2.0))])
    asked = []

    def run(model: str, left: float) -> Answer:
        asked.append(model)
        if model == "cheap":
            return Answer(failure=Failure("no", 400, False, refused=refused))
        return answers()(model, left)

    (result,) = served(store, (DEAR, CHEAP), settings, query(), run=run)
    assert asked == ["cheap", "dear"]
    assert result.answer.value == "dear"


def test_a_copy_whose_model_a_refresh_removed_gives_its_slot_and_money_back(
    store: MemoryWorkload,
) -> None:
    settings = parse_settings({"max_cost": {"day": 1}})
    now = [Router((CHEAP, DEAR), settings, store)]
    spare = SpareRequests(store, lambda: now[0], lambda: 0)
    (candidate,) = now[0].forecast([query()])

    def ask(seconds: float) -> Answer:
        now[0] = Router((CHEAP,), settings, store)
        return answers()("dear", seconds)

    before = Router((CHEAP, DEAR), settings, store)
    assert spare.make("dear", 0.0, ask, candidate) is not None
    assert before.slots().free["dear"] == DEAR.limit
    (spent,) = before.slots().spent.values()
    assert (spent.held_usd, spent.usd) == (0.0, pytest.approx(0.02))


def test_copies_that_hang_at_the_end_count_as_if_they_took_all_they_reserved(
    store: MemoryWorkload,
) -> None:
    router = Router((CHEAP, DEAR), parse_settings({"max_cost": {"day": 1}}), store)
    spare = SpareRequests(store, lambda: router, lambda: 0)
    (candidate,) = router.forecast([query()])
    asked, end = threading.Event(), threading.Event()

    def ask(seconds: float) -> Answer:
        asked.set()
        end.wait(60)
        return answers()("dear", seconds)

    thread = threading.Thread(target=spare.make, args=("dear", 0.0, ask, candidate), daemon=True)
    thread.start()
    assert asked.wait(60)
    spare.stop()
    (spent,) = router.slots().spent.values()
    assert spent.held_usd == 0.0 and spent.usd > 0
    assert router.slots().free["dear"] == DEAR.limit
    end.set()
    thread.join(60)
    (after,) = router.slots().spent.values()
    assert after.usd == spent.usd, "it is settled once"
