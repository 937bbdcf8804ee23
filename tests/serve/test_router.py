"""The whole decision, on a small history whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from aios_eccos.config import parse_settings
from aios_eccos.errors import HistoryError
from aios_eccos.floor.configured import unreachable
from aios_eccos.floor.learn import learn_from
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.router import Router
from aios_eccos.values import Model, Query
from aios_eccos.workload.memory import MemoryWorkload

SMALL = Model("small", input_price=1e-7, output_price=1e-7, limit=4)
LARGE = Model("large", input_price=1e-5, output_price=1e-5, limit=4)
POOL = (SMALL, LARGE)


class TwoWords:
    """Embeds on a line from easy to hard: the number in the text."""

    name, dimension, identity = "two-words", 2, "two-words"

    def embed(self, texts):
        angle = np.array([float(text) if text else 0.0 for text in texts]) * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    try_embed = embed

    def try_embed_with_layers(self, texts):
        return None


@pytest.fixture(scope="module")
def history():
    """2,000 questions: small's success falls with their hardness, large manages almost all."""
    rng = np.random.default_rng(7)
    hardness = rng.uniform(0, 1, 2000)
    records = [
        Record(
            id=f"q{i}",
            text=f"{h:.6f}",
            input_tokens=50,
            outcomes=(
                Outcome("small", float(rng.uniform() > h), 100),
                Outcome("large", float(rng.uniform() < 0.95), 100),
            ),
        )
        for i, h in enumerate(hardness)
    ]
    store = MemoryHistory(dimension=2)
    store.add(records, TwoWords().embed([record.text for record in records]))
    return store


def make_router(history=None, models=POOL, workload=None, **settings):
    parsed = parse_settings(settings)
    learned = None
    if history is not None:
        taught = learn_from(history, None, parsed, models)
        learned = Learned(taught.predictor, TwoWords(), taught.book)
    return Router(models, parsed, workload or MemoryWorkload(), learned)


def choices(assignment):
    return [decision.model for decision in assignment.decisions]


def test_easy_goes_to_the_small_model_and_hard_to_the_large(history) -> None:
    router = make_router(history, quality_floor=0.9)
    assert choices(router.route([Query("0.1"), Query("0.9")])) == ["small", "large"]


def test_the_floor_decides_how_much_goes_to_the_large_model(history) -> None:
    def share(floor):
        router = make_router(history, quality_floor=floor)
        candidates = router.forecast([Query(f"{x:.3f}") for x in np.linspace(0, 1, 101)])
        chosen = []
        for candidate in candidates:
            (decision,) = router.assign([candidate], router.slots()).decisions
            chosen.append(decision.model)
            router.release(decision)
        return chosen.count("large") / len(chosen)

    assert share(0.4) == 0
    assert 0.15 < share(0.7) < 0.6
    assert share(0.9) > share(0.7)


def test_a_relative_floor_is_a_share_of_the_strongest(history) -> None:
    (candidate,) = make_router(history, quality_floor="90 %").forecast([Query("0.5")])
    table = history.table()
    strongest = np.nanmean(table.correctness[:, table.models.index("large")])
    assert candidate.worth.floor == pytest.approx(0.9 * strongest)


def test_a_calls_own_floor_beats_the_agents_and_the_agents_the_general_one(history) -> None:
    router = make_router(history, quality_floor=0.5, agents={"a/*": {"quality_floor": 0.8}})
    floors = [
        candidate.worth.floor
        for candidate in router.forecast(
            [Query("0.5"), Query("0.5", agent="a/b"), Query("0.5", agent="a/b", floor=0.9)]
        )
    ]
    assert floors == [0.5, 0.8, 0.9]


def test_a_budget_buys_success_instead_of_keeping_a_floor(history) -> None:
    poor = make_router(history, budget_per_call=1e-4)
    rich = make_router(history, budget_per_call=1e-2)
    assert choices(poor.route([Query("0.5")])) == ["small"]
    assert choices(rich.route([Query("0.5")])) == ["large"]


def test_without_history_the_strongest_serves_and_the_reason_says_so() -> None:
    (decision,) = make_router().route([Query("0.1")]).decisions
    assert decision.model == "large"
    assert "no history" in decision.reason
    assert math.isinf(decision.candidate.price)


def test_limits_hold_within_a_batch_and_the_rest_waits(history) -> None:
    router = make_router(history, quality_floor=0.4)
    assignment = router.route([Query("0.1") for _ in range(10)])
    assert sorted(choices(assignment)[:8]) == ["large"] * 4 + ["small"] * 4
    assert choices(assignment)[8:] == [None] * 2, "earlier calls go first"
    waiting = assignment.decisions[-1]
    assert waiting.leases == ()
    assert "limit" in waiting.reason
    spilled = [d.reason for d in assignment.decisions if d.model == "large"]
    assert all("at its limit" in reason or "lent" in reason for reason in spilled)


def test_a_released_slot_serves_again(history) -> None:
    router = make_router(history, models=(SMALL,))
    first = router.route([Query("0.1") for _ in range(4)])
    assert choices(router.route([Query("0.1")])) == [None]
    router.release(first.decisions[0])
    router.release(first.decisions[0])
    assert choices(router.route([Query("0.1"), Query("0.1")])) == ["small", None]


def test_two_kernels_on_one_store_share_the_limit(history) -> None:
    workload = MemoryWorkload()
    routers = [make_router(history, models=(SMALL,), workload=workload) for _ in range(2)]
    granted = [choices(r.route([Query("0.1") for _ in range(3)])) for r in routers]
    assert sum(names.count("small") for names in granted) == 4


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        (Query("0.1", allowed=("large",)), [False, True]),
        (Query("0.1", allowed=("large", "unheard-of")), [False, True]),
        (Query("0.1", allowed=("unheard-of",)), [False, False]),
        (Query("0.1", needs=frozenset({"vision"})), [True, False]),
        (Query("0.1", input_tokens=900, max_output_tokens=200), [True, False]),
        (Query("0.1", agent="picky/1"), [False, True]),
    ],
)
def test_what_a_query_allows_and_needs_is_respected(history, query, allowed) -> None:
    able = replace(SMALL, abilities=frozenset({"vision", "tools"}))
    blind = replace(LARGE, abilities=frozenset({"tools"}), context_window=1000)
    router = make_router(history, models=(able, blind), agents={"picky/*": {"models": ["large"]}})
    (candidate,) = router.forecast([query])
    assert candidate.allowed.tolist() == allowed


@pytest.mark.parametrize("text", ["", "x" * 5])
def test_a_query_without_usable_text_is_routed_all_the_same(history, text) -> None:
    class Cautious(TwoWords):
        def embed(self, texts):
            return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(texts), 1))

        try_embed = embed

    router = make_router(history)
    router.learned = Learned(router.learned.predictor, Cautious(), router.learned.book)
    (decision,) = router.route([Query(text)]).decisions
    assert decision.model in ("small", "large")


def test_a_predictor_out_of_order_is_counted_and_priors_stand_in(history) -> None:
    class Broken(PriorPredictor):
        def forecast(self, *args, **kwargs):
            raise HistoryError("wiped while running")

    router = make_router(history)
    router.learned = Learned(Broken(), TwoWords(), router.learned.book)
    (decision,) = router.route([Query("0.1")]).decisions
    assert decision.model is not None
    assert router.failures == 1


def test_a_pinned_call_is_not_embedded(history) -> None:
    class Refusing(TwoWords):
        def try_embed(self, texts):
            raise AssertionError("a pinned call has nothing to forecast")

    router = make_router(history)
    router.learned = Learned(router.learned.predictor, Refusing(), router.learned.book)
    assert choices(router.route([Query("0.1", allowed=("small",))])) == ["small"]


def test_an_embedder_that_still_loads_leaves_the_models_means(history) -> None:
    class Loading(TwoWords):
        def try_embed(self, texts):
            return None

    router = make_router(history, quality_floor=0.9)
    router.learned = Learned(router.learned.predictor, Loading(), router.learned.book)
    (decision,) = router.route([Query("0.1")]).decisions
    assert decision.model == "large"
    assert math.isinf(decision.candidate.price), "without the text there is nothing to save by"


def test_promised_success_leaves_out_what_history_shows_to_be_optimism(history) -> None:
    (decision,) = make_router(history, quality_floor=0.8).route([Query("0.5")]).decisions
    raw = decision.of_choice(decision.candidate.success)
    assert decision.promised == pytest.approx(
        min(max(raw - decision.candidate.worth.optimism, 0.0), 1.0)
    )


def test_the_fallback_takes_the_first_allowed_model_and_a_slot() -> None:
    router = make_router(agents={"private/*": {"models": ["large"]}})
    assert router.fallback(Query("", allowed=("unheard-of", "large"))).model == "large"
    assert router.fallback(Query("", agent="private/1")).model == "large", "the agent's policy"
    first = [router.fallback(Query("")) for _ in range(5)]
    assert [decision.model for decision in first] == ["small"] * 4 + ["large"], "its limit holds"
    for decision in (first[0], first[-1]):
        router.release(decision)
    assert router.fallback(Query(""), {"small"}).model == "large", "it has failed on the first"
    nowhere = router.fallback(Query("", allowed=("unheard-of",)))
    assert nowhere.model is None
    assert not nowhere.candidate.allowed.any()
    assert router.failures == 9


def test_in_a_pool_of_free_models_the_better_one_serves(history) -> None:
    free = tuple(replace(model, input_price=0.0, output_price=0.0) for model in POOL)
    early = make_router(
        models=tuple(replace(m, strength=s) for m, s in zip(free, (0.3, 0.9), strict=True))
    )
    assert choices(early.route([Query("0.9")])) == ["large"]
    taught = make_router(history, models=free, quality_floor=0.8)
    assert choices(taught.route([Query("0.9")])) == ["large"]


def test_a_call_with_a_floor_of_its_own_keeps_it_in_a_large_batch(history) -> None:
    plenty = tuple(replace(model, limit=1000) for model in POOL)
    router = make_router(history, models=plenty, quality_floor=0.55)
    queries = [Query(f"{x:.3f}") for x in np.linspace(0, 1, 540)]
    picky = [Query(f"{x:.3f}", floor=0.9) for x in np.linspace(0, 1, 60)]
    decisions = router.route([*queries, *picky]).decisions
    assert np.mean([d.promised for d in decisions[540:]]) == pytest.approx(0.9, abs=0.04)


def test_a_large_batch_keeps_its_floor_and_costs_less_than_the_large_model(history) -> None:
    plenty = tuple(replace(model, limit=1000) for model in POOL)
    router = make_router(history, models=plenty, quality_floor=0.8)
    queries = [Query(f"{x:.4f}") for x in np.linspace(0, 1, 600)]
    assignment = router.route(queries)
    chosen = choices(assignment)
    promised = np.mean([decision.promised for decision in assignment.decisions])
    assert promised == pytest.approx(0.8, abs=0.02)
    assert 0 < chosen.count("large") < 400


def test_each_agents_floor_is_kept_on_its_own_calls(history) -> None:
    plenty = tuple(replace(model, limit=1000) for model in POOL)
    router = make_router(
        history, models=plenty, quality_floor=0.6, agents={"picky/*": {"quality_floor": 0.9}}
    )
    places = np.linspace(0, 1, 300)
    queries = [Query(f"{x:.4f}", agent=agent) for agent in ("easy", "picky/1") for x in places]
    decisions = router.route(queries).decisions
    means = [np.mean([d.promised for d in part]) for part in (decisions[:300], decisions[300:])]
    assert means[0] == pytest.approx(0.6, abs=0.05)
    assert means[1] == pytest.approx(0.9, abs=0.03)


def test_over_capacity_a_call_may_wait_for_its_own_model(history) -> None:
    router = make_router(history, quality_floor=0.4, over_capacity="wait")
    assert not router.spills
    assert choices(router.route([Query("0.1") for _ in range(6)])) == ["small"] * 4 + [None] * 2


def test_a_floor_out_of_reach_is_named_with_what_can_be_reached(history) -> None:
    settings = parse_settings({"quality_floor": 0.999, "agents": {"a": {"quality_floor": 0.5}}})
    book = learn_from(history, None, settings, POOL).book
    (sentence,) = unreachable(book, settings)
    assert "quality_floor = 0.999" in sentence
    assert f"{book.curve().reachable:.3f}" in sentence
    assert unreachable(book, parse_settings({"quality_floor": 0.8})) == []


def test_outcomes_move_the_price_of_a_controlled_policy_only(history) -> None:
    workload = MemoryWorkload()
    router = make_router(history, workload=workload, quality_floor=0.8)
    (before,) = router.forecast([Query("0.5")])
    name = "shift::0.8"
    workload.move_price(name, 0.5, 1.0)
    (uncontrolled,) = router.forecast([Query("0.5")])
    router.floors.controlled = frozenset({""})
    (moved,) = router.forecast([Query("0.5")])
    assert uncontrolled.price == before.price
    assert moved.price == pytest.approx(before.price * math.exp(0.5))
    workload.move_price(name, 100.0, 1.0)
    (ended,) = router.forecast([Query("0.5")])
    assert ended.price == router.learned.book.curve().prices[-1], "never past the curve's end"


def test_a_slot_that_many_miss_is_kept_for_who_gains_most_in_every_kernel(history) -> None:
    workload = MemoryWorkload()
    first = make_router(history, workload=workload, quality_floor=0.75)
    second = make_router(history, workload=workload, quality_floor=0.75)
    texts = [f"{x:.2f}" for x in np.linspace(0, 0.8, 81)]

    def small(router) -> list[str]:
        candidates = router.forecast([Query(text) for text in texts])
        found = []
        for candidate in candidates:
            (decision,) = router.assign([candidate], router.slots()).decisions
            router.release(decision)
            found.append(decision.model)
        return found

    free = small(first)
    held = first.route([Query("0.0", allowed=("small",)) for _ in range(SMALL.limit)])
    for _ in range(2):
        assert set(small(first)) == {"large"}
    first.release(held.decisions[0])
    kept = small(second)
    assert 0 < kept.count("small") < free.count("small"), "only who gains most"
    assert all(before == "small" for before, now in zip(free, kept, strict=True) if now == "small")
    for decision in held.decisions:
        first.release(decision)
    assert small(second) == free, "an idle model is nobody's to keep"
    for _ in range(20):
        small(second)
    assert small(first) == free, "nobody finds it full any more"
