"""Servers that fail or do not answer: what is said of them, and who gets a call's time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from test_dispatch import FewSlots, answers, dispatching
from waiting import until

from aios_eccos.serve import model_health
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.values import Answer, Failure, Query

TIMEOUT = Failure("timeout", 504)


def silent(model: str, given: dict[str, float]) -> Callable[[str, float], Answer]:
    """Asks a model that does not answer in its time, or one that does; notes the time given."""

    def run(name: str, left: float) -> Answer:
        given[name] = left
        if name == model:
            time.sleep(left)
            return Answer(failure=TIMEOUT)
        return Answer(value=name, output_tokens=100)

    return run


def ask_in_time(dispatcher: Dispatcher, seconds: float, **query: object) -> dict[str, float]:
    """A call with a time limit of its own, on `a`, which is silent; by model the time it got."""
    given: dict[str, float] = {}
    asked = Query("", deadline=time.monotonic() + seconds, **query)  # type: ignore[arg-type]
    dispatcher.submit(asked, silent("a", given)).result(60)
    return given


def test_a_server_that_hangs_leaves_time_for_another_model() -> None:
    router = FewSlots({"a": 1, "b": 1})
    with dispatching(router) as dispatcher:
        dispatcher.submit(Query(""), answers(0.0)).result(60)  # its pace is known now
        given = ask_in_time(dispatcher, 4.0)
    assert given["a"] <= 2.0
    assert given["b"] > 0.0
    assert router.resting == {"a"}, "it had many times what it usually takes"


@pytest.mark.parametrize(
    ("known", "tokens", "query"),
    [
        (False, 100.0, {}),
        (True, 1e9, {}),
        (True, 100.0, {"allowed": frozenset("a")}),
    ],
    ids=["its pace is not known", "a long answer is expected", "no other model may serve it"],
)
def test_a_model_that_may_yet_answer_has_all_the_time_of_a_call(
    known: bool, tokens: float, query: dict[str, object]
) -> None:
    router = FewSlots({"a": 1, "b": 1}, tokens)
    with dispatching(router) as dispatcher:
        if known:
            dispatcher.submit(Query(""), answers(0.001)).result(60)
        asked, given = Query("", deadline=time.monotonic() + 60, **query), {}  # type: ignore[arg-type]
        dispatcher.submit(asked, silent("none", given)).result(60)
        assert given["a"] > 30


def test_failures_one_after_another_are_said_until_one_answers() -> None:
    broken = Failure("invalid answer", 502, rests=False)
    with dispatching(FewSlots({"a": 1, "b": 1})) as dispatcher:
        warnings = dispatcher.attempts.warnings
        for number in range(model_health.IN_A_ROW):
            assert warnings() == [], number
            dispatcher.submit(Query(""), lambda *_: Answer(failure=broken)).result(60)
        said = "its last 3 requests have failed, invalid answer (502): look at its server"
        assert warnings() == [f"a: {said}", f"b: {said}"]
        dispatcher.submit(Query(""), answers(0.0)).result(60)
        assert warnings() == [f"b: {said}"]


@pytest.mark.parametrize(
    "failure",
    [
        Failure("malformed call", 400, retryable=False, rests=False),
        Failure("context too long", 413, retryable=False, elsewhere=True, refused="context"),
    ],
    ids=lambda failure: failure.reason,
)
def test_what_a_call_brings_upon_itself_says_nothing_of_the_server(failure: Failure) -> None:
    with dispatching(FewSlots({"a": 1})) as dispatcher:
        for _ in range(model_health.IN_A_ROW):
            dispatcher.submit(Query(""), lambda *_: Answer(failure=failure)).result(60)
        assert dispatcher.attempts.warnings() == []


def test_a_server_without_an_answer_for_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_health, "SILENT_S", 0.2)
    gate = threading.Event()

    def held(model: str, left: float) -> Answer:
        gate.wait(60)
        return Answer(value=model, output_tokens=100)

    with dispatching(FewSlots({"a": 2})) as dispatcher:
        warnings = dispatcher.attempts.warnings
        dispatcher.submit(Query(""), answers(0.0)).result(60)
        asked = [dispatcher.submit(Query(""), held) for _ in range(2)]
        until(lambda: [text for text in warnings() if text.startswith("a: 2 requests without")])
        gate.set()
        for each in asked:
            each.result(60)
        assert warnings() == []
