"""What models refuse is known to all kernels, as long as the models are declared alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from aios_eccos.config import parse_settings
from aios_eccos.locate import Config, Location
from aios_eccos.serve import attempt as module
from aios_eccos.serve.attempt import Refusals
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Failure, Model, Query
from aios_eccos.workload.memory import MemoryWorkload

POOL = (Model("a", endpoint="one"), Model("b", endpoint="one"))
LONG = Query("", input_tokens=5000)
PICTURE = Query("", needs=frozenset({"vision"}))


def refusal(kind: Any, window: int | None = None) -> Failure:
    return Failure("refused", 400, False, refused=kind, window=window, rests=False, elsewhere=True)


def knowing(*noted: tuple[Query, Failure]) -> Refusals:
    refusals = Refusals()
    refusals.use(POOL)
    for query, failure in noted:
        refusals.note("a", query, failure)
    return refusals


@pytest.mark.parametrize(
    ("query", "failure"),
    [
        (LONG, refusal("context", 4096)),
        (Query("", max_output_tokens=900), refusal("output")),
        (Query("", needs=frozenset({"tools"})), refusal("tools")),
        (PICTURE, refusal("vision")),
    ],
)
def test_other_kernels_learn_what_a_model_refuses(query: Query, failure: Failure) -> None:
    ledger, one, other = MemoryWorkload(), knowing((query, failure)), knowing()
    for each in (one, other, one):
        each.share(ledger)
    assert other.known() == one.known() != []
    assert other.of(query) == {"a": one.known()[0].words}


def test_the_newer_refusal_counts() -> None:
    ledger, one = MemoryWorkload(), knowing((LONG, refusal("context", 4096)))
    one.share(ledger)
    other = knowing((LONG, refusal("context", 2048)))
    for each in (other, one):
        each.share(ledger)
    assert [each.tokens for each in one.known()] == [2048]


@pytest.mark.parametrize(
    "change", [{"endpoint": "two"}, {"context_window": 8192}, {"abilities": frozenset({"vision"})}]
)
def test_a_model_that_is_declared_another_way_may_be_asked_again(change: Any) -> None:
    ledger, refusals = MemoryWorkload(), knowing((PICTURE, refusal("vision")))
    refusals.share(ledger)
    refusals.use([replace(POOL[0], **change), POOL[1]])
    refusals.share(ledger)
    assert refusals.known() == []


def test_a_model_that_is_declared_another_way_meanwhile_may_be_asked_again() -> None:
    ledger, refusals = MemoryWorkload(), knowing()
    knowing((PICTURE, refusal("vision"))).share(ledger)

    class Slow(MemoryWorkload):
        def notes(self, names: Sequence[str]) -> list[str | None]:
            refusals.use([replace(POOL[0], endpoint="two"), POOL[1]])
            return ledger.notes(names)

    refusals.share(Slow())
    assert refusals.known() == []


@pytest.mark.parametrize("change", [{"limit": 3}, {"input_price": 1e-6}, {"strength": 0.5}])
def test_other_changes_make_nobody_ask_again(change: Any) -> None:
    refusals = knowing((PICTURE, refusal("vision")))
    refusals.use([replace(POOL[0], **change), POOL[1]])
    assert refusals.of(PICTURE) == {"a": "has refused vision"}


def test_a_refusal_is_believed_for_an_hour_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, one, other = MemoryWorkload(), knowing((PICTURE, refusal("vision"))), knowing()
    one.share(ledger)
    monkeypatch.setattr(module, "BELIEVED_S", time.time() - one.known()[0].since)
    for each in (other, one):
        each.share(ledger)
    assert other.known() == one.known() == []


@pytest.mark.parametrize("note", ["", "17", "a b", "1 2 3", "4 nan", "4 inf", "4 1e12"])
def test_a_note_that_is_none_is_left_alone(note: str) -> None:
    class Odd(MemoryWorkload):
        def notes(self, names: Sequence[str]) -> list[str | None]:
            return [note] * len(names)

    refusals = knowing()
    refusals.share(Odd())
    assert refusals.known() == []


def engine_of(folder: Path, redis: str) -> Engine:
    settings = parse_settings({"redis": redis, "history": "embedded"})
    return Engine(Config(Location(None, None, folder, "test"), settings, ()), models=POOL)


def test_waiting_calls_are_decided_anew_without_what_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, known = engine_of(tmp_path, "memory"), []
    refusals, use = engine.dispatcher.attempts.refusals, engine.dispatcher.use
    refusals.note("a", PICTURE, refusal("vision"))
    monkeypatch.setattr(
        engine.dispatcher, "use", lambda *new: known.append(refusals.known()) or use(*new)
    )
    engine.use(engine.config, [replace(POOL[0], endpoint="two"), POOL[1]])
    engine.close()
    assert known == [[]]


@pytest.mark.usefixtures("patient_redis")
def test_an_engine_keeps_and_shares_what_it_was_refused(tmp_path: Path) -> None:

    def run(model: str, left: float) -> Answer:
        return Answer(failure=refusal("vision")) if model == "a" else Answer(model, 1, 1)

    with engine_of(tmp_path, "embedded") as one:
        one.dispatcher.submit(replace(PICTURE, allowed=("a",)), run).result(60)
        one.use(one.config, POOL)
        assert one.dispatcher.attempts.refusals.of(PICTURE) == {"a": "has refused vision"}
        with engine_of(tmp_path, "embedded") as other:
            until(other.dispatcher.attempts.refusals.known)
            settled = other.dispatcher.submit(PICTURE, run).result(60)
            assert (settled.answer.value, settled.attempts) == ("b", 1)
