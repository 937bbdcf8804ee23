"""Audits where slots, the judge, the money or the shared store are short."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from audit_world import HELD, JUDGE, LARGE, SMALL, World
from waiting import until

from aios_eccos.serve import spare
from aios_eccos.serve.audit_queue import QUEUE_MOST
from aios_eccos.serve.auditor import THREADS
from aios_eccos.values import Answer, Failure, Gate, Lease
from aios_eccos.verdicts.judge import REPLY_TOKENS

SAME, OTHER = "The answer is 42.", "The answer is 41."
UNPRICED, REFERENCE = replace(HELD, shadow=None), replace(HELD, shadow="large")
ROUTED = replace(REFERENCE, lot=0.05, share=0.1)


def held_back(world: World) -> Callable[[], None]:
    """Let all threads wait for a copy's answer; the result lets them have it."""
    release, ask = threading.Event(), world.ask

    def waits(model: str, messages: Any) -> Answer:
        answer = ask(model, messages)
        release.wait(60)
        return answer

    world.ask = waits  # type: ignore[method-assign]
    for _ in range(THREADS):
        world.auditor.offer(world.settled())
    until(lambda: world.asked)
    return release.set


def test_calls_that_prove_most_are_audited_first_and_kept_longest() -> None:
    world = World({"small": SAME}, audit_first_usd=1e6)
    go_on = held_back(world)
    for gate in (REFERENCE, UNPRICED, HELD):
        for _ in range(QUEUE_MOST):
            world.auditor.offer(world.settled(gate=gate))
    go_on()
    assert world.auditor.wait_idle(60)
    copied = [told.shadow for told in world.told if told.relative]
    # Up to as many as there are threads were taken before the others came.
    assert copied.count("small") >= QUEUE_MOST
    assert len(copied) - copied.count("small") <= THREADS
    assert world.sum("audit_dropped") >= QUEUE_MOST - THREADS  # of those without a price


@pytest.mark.parametrize("gate", [REFERENCE, ROUTED], ids=["held", "not held"])
def test_a_call_whose_choice_is_the_reference_tells_that_even_if_there_is_no_time_for_copies(
    gate: Gate,
) -> None:
    world = World({"small": SAME}, audit_first_usd=1e6)
    go_on = held_back(world)
    for _ in range(2 * QUEUE_MOST):
        world.auditor.offer(world.settled(gate=gate))
    go_on()
    assert world.auditor.wait_idle(60)
    told = [told.shadow for told in world.told]
    assert (told.count("large"), told.count("small")) == (2 * QUEUE_MOST, THREADS)
    assert world.sum("audit_copies") <= QUEUE_MOST + 2 * THREADS
    assert world.sum("audit_dropped") == 0


def test_a_copy_is_made_while_calls_only_pass() -> None:
    """What is decided at once does not wait for a slot."""
    world = World({"small": SAME})
    world.waiting = 1
    world.auditor.offer(world.settled())
    assert not world.auditor.wait_idle(0.3)
    assert world.asked == []
    world.waiting = 0
    assert world.auditor.wait_idle(60)
    assert len(world.told) == 1


def taken(world: World, model: Any) -> list[Lease]:
    """All slots of a model are lent to calls."""
    leases = [Lease(f"call{i}", model.slot) for i in range(model.limit)]
    assert all(world.workload.acquire(leases, {model.slot: model.limit}))
    return leases


HERE = {"local": True, "endpoint": "http://127.0.0.1:8001/v1"}
NEXT = HERE | {"endpoint": "http://127.0.0.1:8002/v1"}
ELSEWHERE = HERE | {"endpoint": "http://10.0.0.2:8001/v1"}
HOSTED = {"endpoint": "http://127.0.0.1:8001/v1"}


@pytest.mark.parametrize(
    ("small", "large", "waits"),
    [
        (HERE, HERE, True),
        (HERE, NEXT, True),
        (HERE, ELSEWHERE, False),
        (HERE, HOSTED, False),
        (HOSTED, HOSTED, False),
        (HERE | {"limit": 32}, HERE, False),
    ],
)
def test_on_a_small_machine_of_ours_a_copy_waits_for_the_calls_that_run_there(
    small: dict[str, Any], large: dict[str, Any], waits: bool
) -> None:
    pool = (replace(SMALL, **small), JUDGE, replace(LARGE, **large))
    world = World({"small": SAME}, pool)
    call = Lease("call", pool[2].slot)
    assert all(world.workload.acquire([call], {call.slot: 4}))
    world.auditor.offer(world.settled())
    if waits:
        assert not world.auditor.wait_idle(0.5)
        assert world.asked == []
        world.workload.release([call])
    assert world.auditor.wait_idle(60)
    assert len(world.told) == 1


def test_a_copy_does_not_wait_for_ever_for_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "PATIENCE_S", 2.0)
    pool = tuple(replace(model, **HERE) for model in (SMALL, JUDGE, LARGE))
    world = World({"small": SAME}, pool)
    call = Lease("call", pool[2].slot)
    assert all(world.workload.acquire([call], {call.slot: 4}))
    world.auditor.offer(world.settled())
    assert world.auditor.wait_idle(60)
    assert len(world.told) == 1


@pytest.mark.parametrize("model", [SMALL, JUDGE], ids=["a copy", "the judge"])
def test_what_is_busy_is_waited_for(model: Any) -> None:
    world = World({"small": OTHER, "judge": "SAME"})
    leases = taken(world, model)
    world.auditor.offer(world.settled())
    assert not world.auditor.wait_idle(0.5)
    world.workload.release(leases)
    assert world.auditor.wait_idle(60)
    world.audit(world.settled())
    assert [dict(told.relative) for told in world.told] == [{"small": 0}] * 2
    assert (world.sum("audit_missed"), world.sum("audit_unjudged")) == (0, 0)


@pytest.mark.parametrize("retry_after_s", [0.01, None], ids=["it says when", "it does not"])
def test_a_judge_that_sends_requests_away_is_asked_again(
    retry_after_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aios_eccos.serve.comparing.AGAIN_S", 0.01)
    world = World({"small": OTHER})
    replies = [Answer(failure=Failure("429", 429, retry_after_s=retry_after_s)) for _ in range(3)]
    replies.append(Answer(value="SAME", input_tokens=100, output_tokens=1))
    ask = world.ask

    def asked(model: str, messages: Any) -> Answer:
        if model == "judge":
            world.said["judge"] = replies.pop(0) if replies[1:] else replies[0]
        return ask(model, messages)

    monkeypatch.setattr(world, "ask", asked)
    world.audit(world.settled())
    assert [dict(told.relative) for told in world.told] == [{"small": 0}]
    assert world.sum("audit_unjudged") == 0


def test_a_judge_that_is_busy_for_long_leaves_a_call_out_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aios_eccos.serve.comparing.BUSY_S", 0.2)
    world = World({"small": OTHER, "judge": "SAME"})
    leases = taken(world, JUDGE)
    world.audit(world.settled())
    assert (world.told, world.sum("audit_unjudged")) == ([], 1)
    world.workload.release(leases)
    # It is not taken for ill: the next call is audited.
    world.audit(world.settled())
    assert len(world.told) == 1


@pytest.mark.parametrize("tokens", [1, REPLY_TOKENS])
@pytest.mark.parametrize("calls", [0.5, 4.5])
def test_copies_and_judge_together_exceed_the_money_by_no_more_than_one_call(
    calls: float, tokens: int
) -> None:
    """Whether the judge says one word, or thinks first for as long as it may.

    It is asked twice of each call, as a judge's first are.
    """
    said = Answer(value="SAME", input_tokens=250, output_tokens=tokens)
    one = 1100e-7 + 2 * (250 + tokens) * 5e-6
    world = World({"small": OTHER, "judge": said}, audit_first_usd=calls * one)
    world.audit(*(world.settled(id=str(name)) for name in range(30)))
    spent = world.sum("audit_cost") + world.sum("audit_judge")
    assert calls * one < spent <= (calls + 1) * one


class Away:
    """Makes the shared store of a world go away and come back."""

    def __init__(self, world: World) -> None:
        self._world = world

    def goes(self) -> None:
        self._world.workload.degraded = True

    def comes_back(self) -> None:
        self._world.workload.degraded = False


def test_no_copy_is_made_while_the_shared_store_is_away() -> None:
    world = World({"small": SAME})
    away = Away(world)
    away.goes()
    world.auditor.offer(world.settled())
    assert not world.auditor.wait_idle(0.3)
    assert world.asked == []
    away.comes_back()
    assert world.auditor.wait_idle(60)
    assert len(world.told) == 1


def test_what_is_left_is_not_read_from_a_store_that_has_just_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World({"small": SAME})
    away, sums, seen = Away(world), world.workload.sums, threading.Event()

    def lost(periods: list[str]) -> list[dict[str, float]]:
        away.goes()
        seen.set()
        return [{} for _ in periods]

    monkeypatch.setattr(world.workload, "sums", lost)
    world.auditor.offer(world.settled())
    assert seen.wait(60)
    assert not world.auditor.wait_idle(0.3)
    assert world.asked == []
    monkeypatch.setattr(world.workload, "sums", sums)
    away.comes_back()
    assert world.auditor.wait_idle(60)
    assert len(world.told) == 1


def test_what_a_copy_tells_while_the_store_is_away_is_handed_in_when_it_is_back() -> None:
    release = threading.Event()
    world = World({"small": SAME})
    ask = world.ask

    def waits(model: str, messages: Any) -> Answer:
        answer = ask(model, messages)
        release.wait(60)
        return answer

    world.ask = waits  # type: ignore[method-assign]
    world.auditor.offer(world.settled())
    until(lambda: world.asked)
    away = Away(world)
    away.goes()
    release.set()
    assert world.auditor.wait_idle(60)
    # The history has it at once; the policy's course is the shared store's.
    assert (len(world.records), world.told) == (1, [])
    away.comes_back()
    until(lambda: world.told, 60)
    assert [dict(told.relative) for told in world.told] == [{"small": 0}]


def test_a_finding_that_was_lost_on_its_way_is_handed_in_again() -> None:
    world = World({"small": SAME})
    away, taken_by = Away(world), world.earning.taken

    def lost(audit: Any) -> Any:
        world.earning.taken = taken_by  # type: ignore[method-assign]
        away.goes()
        return []

    world.earning.taken = lost  # type: ignore[method-assign]
    world.audit(world.settled())
    assert world.told == []
    away.comes_back()
    until(lambda: world.told, 60)
    assert len(world.told) == 1
