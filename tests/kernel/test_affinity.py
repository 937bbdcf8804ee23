"""Conversations between their calls: what is remembered, what a change of models costs, and where
it is not made at all."""

from __future__ import annotations

import copy
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from aios_eccos.config import Settings
from aios_eccos.errors import WorkloadError
from aios_eccos.kernel.sessions import Known, Sessions
from aios_eccos.serve.router import Router
from aios_eccos.values import Model, Query, Session
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload

#: A token of a prompt that has been read costs a tenth.
NEAR = [
    Model("a", input_price=1.0e-6, output_price=1.0e-6, cached_price=1.0e-7, strength=0.7),
    Model("b", input_price=1.5e-6, output_price=1.5e-6, cached_price=1.5e-7, strength=0.7),
]


def choice(models: list[Model], session: Session | None, *, affinity: bool = True) -> str | None:
    workload = MemoryWorkload()
    router = Router(models, Settings(session_affinity=affinity), workload)
    query = Query("go on", input_tokens=20_000, session=session)
    (decision,) = router.route([query]).decisions
    workload.close()
    return decision.model


def read(model: str, tokens: int = 20_000, ago_s: float = 0.0) -> Session:
    return Session(model, read={model: (tokens, time.time() - ago_s)})


def test_a_conversation_stays_where_reading_it_anew_costs_more_than_a_switch_saves() -> None:
    assert choice(NEAR, None) == "a"
    assert choice(NEAR, read("b")) == "b"
    assert choice(NEAR, read("a")) == "a"


def test_it_leaves_where_that_pays() -> None:
    dear = Model("b", input_price=2e-5, output_price=2e-5, cached_price=2e-6, strength=0.7)
    assert choice([NEAR[0], dear], read("b")) == "a"
    assert choice(NEAR, read("b", tokens=1000)) == "a", "little of it is cached"
    assert choice(NEAR, read("b", ago_s=301)) == "a", "no longer cached"
    assert choice(NEAR, read("b", ago_s=290)) == "b"


def test_a_models_own_time_says_how_long_a_prompt_is_cached() -> None:
    long = Model(
        "b", input_price=1.5e-6, output_price=1.5e-6, cached_price=1e-7, cache_ttl_s=3600.0
    )
    assert choice([NEAR[0], long], read("b", ago_s=3000)) == "b"


def test_without_a_price_of_their_own_cached_tokens_cost_what_others_do() -> None:
    plain = [replace(model, cached_price=None) for model in NEAR]
    assert choice(plain, read("b")) == "a"


def test_it_can_be_switched_off_and_unknown_models_count_nothing() -> None:
    assert choice(NEAR, read("b"), affinity=False) == "a"
    assert choice(NEAR, read("removed")) == "a"


def test_a_conversation_of_twenty_turns_changes_models_only_where_that_is_cheaper() -> None:
    """Beside each choice stands the bill of both, by hand."""
    now, tokens, served = time.time(), 0, []
    session: Session | None = Session("b", read={})
    for turn in range(20):
        tokens += 1000 if turn < 10 else 100_000 * (turn == 10)
        reads = dict(session.read) if session else {}
        workload = MemoryWorkload()
        router = Router(NEAR, Settings(), workload)
        query = Query("go on", input_tokens=tokens, session=session)
        (candidate,) = router.forecast([query])
        (decision,) = router.assign([candidate], router.slots()).decisions
        workload.close()
        bill = []
        for column, model in enumerate(NEAR):
            cached = min(reads.get(model.name, (0, 0.0))[0], tokens)
            output = candidate.output_tokens[column] * model.output_price
            fresh = (tokens - cached) * model.input_price
            bill.append(fresh + cached * model.cached_price + output)
        assert candidate.cost == pytest.approx(bill)
        assert decision.model == ("a" if bill[0] <= bill[1] else "b")
        served.append(decision.model)
        session = Session(decision.model, read=reads | {decision.model: (tokens, now)})
    assert len(set(served)) == 1, "it never pays here once a model has read the beginning"


def test_the_kernel_keeps_a_conversation_where_it_is(fresh: Any) -> None:
    config = copy.deepcopy(fresh.config)
    for entry, price in zip(config["llms"]["models"], (1.0e-6, 1.2e-6), strict=True):
        entry |= {"strength": 0.7, "input_cost_per_token": price, "output_cost_per_token": price}
        entry["cache_read_input_token_cost"] = price / 10
    fresh.config = config
    fresh.write_raw(config)
    fresh.reload()
    first = [{"role": "user", "content": "what is it? " * 2000}]
    assert fresh.ask(first).response_message.startswith("small"), "the cheaper one"
    answer = fresh.ask(first, llms=["large"]).response_message
    assert answer.startswith("large")
    turns = [{"role": "assistant", "content": answer}, {"role": "user", "content": "go on"}]
    assert fresh.ask([*first, *turns]).response_message.startswith("large"), "it has read that"
    other = [{"role": "user", "content": "what was it? " * 2000}, *turns]
    assert fresh.ask(other).response_message.startswith("small"), "nobody has read this"
    config["llms"]["router"]["eccos"]["session_affinity"] = False
    fresh.write_raw(config)
    fresh.reload()
    assert fresh.ask([*first, *turns]).response_message.startswith("small")


class Notes:
    """A shared store with nothing but notes."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.degraded = False
        self.broken = False

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        if self.broken:
            raise WorkloadError("gone")
        self.kept[name], self.seconds[name] = value, keep_s
        return None

    def notes(self, names: list[str]) -> list[str | None]:
        if self.broken:
            raise WorkloadError("gone")
        return [self.kept.get(name) for name in names]


SMALL = Known("small", read={"small": (100, 5.0), "large": (7, 4.0)})
TOOLS = Known("small", called=True, call="call-1", escalated=True)


def told(shared: Any, key: str, known: Known = SMALL) -> None:
    """A kernel that serves a turn of the conversation."""
    sessions = Sessions()
    sessions.remember(key, known)
    sessions.share(key, known, shared)


def test_another_kernel_knows_the_conversation() -> None:
    shared: Any = Notes()
    told(shared, "key")
    told(shared, "tools", TOOLS)
    assert Sessions().recall("key", shared=shared) == SMALL
    assert Sessions().recall("tools", shared=shared) == TOOLS
    assert Sessions().recall("other", shared=shared) is None
    assert shared.seconds["session:key"] == 600
    assert shared.seconds["session:tools"] == 3600, "a tool may take its time"


def test_conversations_that_begin_alike_are_told_apart_by_their_tool_calls() -> None:
    one, two = Known("small", True, "c1"), Known("large", True, "c2")
    shared: Any = Notes()
    here = Sessions()
    here.remember("key", one)
    here.share("key", one, shared)
    told(shared, "key", two)
    assert here.recall("key", "c2", shared) == two, "though it knows another that began so"
    assert here.recall("key", "c1", shared) == one
    assert Sessions().recall("key", "c1", shared) == one
    assert Sessions().recall("key", "c9", shared) == two, "the last, where the call is unknown"


@pytest.mark.parametrize(
    "note", ["", "small", "[1]", '["a", 1, 2, 3, 4]', '{"model": "a"}', "[[]]"]
)
def test_a_note_of_another_version_is_none(note: str) -> None:
    shared: Any = Notes()
    shared.kept["session:key"] = note
    assert Sessions().recall("key", shared=shared) is None


def test_a_note_holds_no_text() -> None:
    assert json.loads(TOOLS.text()) == ["small", True, "call-1", True, {}]


def test_two_kernels_share_a_conversation_through_a_real_redis_until_it_is_old() -> None:
    # A folder of its own: a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        opened = partial(open_workload, "embedded", state_dir=Path(folder), timeout_s=10)
        one, two = opened(), opened()
        try:
            told(one, "key")
            assert Sessions().recall("key", shared=two) == SMALL
            Sessions(remembered_s=0.2).share("key", SMALL, one)
            until(lambda: Sessions().recall("key", shared=two) is None)
        finally:
            one.close()
            two.close()


def test_without_redis_a_kernel_knows_its_own() -> None:
    shared: Any = Notes()
    shared.broken = True
    sessions = Sessions()
    sessions.remember("key", SMALL)
    sessions.share("key", SMALL, shared)
    assert sessions.recall("key", shared=shared) == SMALL
    assert sessions.recall("key", "unknown call", shared) == SMALL
    assert sessions.recall("other", shared=shared) is None
    shared.broken, shared.degraded = False, True
    told(shared, "unshared")
    assert shared.kept == {}


@pytest.mark.parametrize("fault", ["broken", "degraded"])
def test_what_redis_missed_is_told_once_it_answers(fault: str) -> None:
    shared: Any = Notes()
    setattr(shared, fault, True)
    sessions = Sessions()
    for number in range(5):
        sessions.share(f"key {number}", TOOLS, shared)
    assert shared.kept == {}
    setattr(shared, fault, False)
    sessions.share("last", SMALL, shared)
    assert Sessions().recall("last", shared=shared) == SMALL
    assert all(Sessions().recall(f"key {n}", "call-1", shared) == TOOLS for n in range(5))
