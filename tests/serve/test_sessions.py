"""A tool loop stays with its model: under load, failures, chance and broken decisions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from gated_servers import DOWN, Servers
from waiting import until

from aios_eccos.config import parse_settings
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.router import Router
from aios_eccos.values import CallResult, Model, Query, Session
from aios_eccos.workload.memory import MemoryWorkload

#: The strongest serves where nothing is known.
POOL = (
    Model("weak", limit=1, input_price=1e-7, output_price=1e-7, strength=0.4),
    Model("middle", limit=1, input_price=1e-6, output_price=1e-6, strength=0.6),
    Model("strong", limit=1, input_price=1e-5, output_price=1e-5, strength=0.9),
)
LOOP = Session("weak", in_tool_loop=True)


@contextmanager
def serving(**raw: object) -> Iterator[tuple[Dispatcher, Router, Servers]]:
    settings, workload = parse_settings(raw), MemoryWorkload()
    router = Router(POOL, settings, workload)
    with Dispatcher(router, settings) as dispatcher:
        yield dispatcher, router, Servers()
    workload.close()


def served(dispatcher: Dispatcher, servers: Servers, session: Session | None) -> CallResult:
    return dispatcher.submit(Query("go on", session=session), servers.run).result(60)


@pytest.mark.parametrize("over_capacity", ["spill", "wait"])
def test_it_stays_whatever_another_promises(over_capacity: str) -> None:
    with serving(over_capacity=over_capacity) as (dispatcher, _, servers):
        assert served(dispatcher, servers, None).answer.value == "strong"
        settled = served(dispatcher, servers, LOOP)
        assert settled.answer.value == "weak"
        assert settled.closed == dict.fromkeys(("middle", "strong"), "is not its session's model")
        assert served(dispatcher, servers, replace(LOOP, in_tool_loop=False)).answer.value != "weak"


def test_it_waits_for_its_model_while_others_have_slots() -> None:
    with serving() as (dispatcher, _, servers):
        servers.gate.clear()
        futures = [dispatcher.submit(Query("go on", session=LOOP), servers.run) for _ in range(4)]
        until(lambda: servers.asked)
        other = dispatcher.submit(Query("hello"), servers.run)
        until(lambda: len(servers.asked) == 2)
        servers.gate.set()
        assert {future.result(60).answer.value for future in futures} == {"weak"}
        assert other.result(60).answer.value == "strong"


def test_it_leaves_a_model_that_fails_and_one_that_rests() -> None:
    with serving() as (dispatcher, _, servers):
        servers.failing = {"weak": DOWN}
        settled = served(dispatcher, servers, LOOP)
        assert [tried.model for tried in settled.tries] == ["weak", "strong"]
        servers.failing = {}
        assert served(dispatcher, servers, LOOP).answer.value == "strong", "it rests now"
        assert served(dispatcher, servers, replace(LOOP, model="strong")).answer.value == "strong"


@pytest.mark.parametrize("session", [replace(LOOP, model="gone"), Session(in_tool_loop=True)])
def test_a_model_that_is_gone_or_not_known_keeps_nothing(session: Session) -> None:
    with serving() as (dispatcher, _, servers):
        assert served(dispatcher, servers, session).answer.value == "strong"


def test_a_model_that_cannot_serve_it_any_more_is_left() -> None:
    with serving() as (dispatcher, _, servers):
        small = (replace(POOL[0], context_window=1000), *POOL[1:])
        settings = parse_settings({})
        workload = MemoryWorkload()
        dispatcher.use(Router(small, settings, workload), settings)
        query = Query("go on", session=LOOP, input_tokens=2000)
        assert dispatcher.submit(query, servers.run).result(60).answer.value == "strong"
        workload.close()


def test_it_stays_where_no_decision_can_be_made() -> None:
    class Broken(PriorPredictor):
        def forecast(self, *args: object, **options: object) -> object:  # type: ignore[override]
            raise KeyError("bug")

    with serving() as (dispatcher, router, servers):
        router.learned = Learned(Broken())
        loop = replace(LOOP, model="middle")
        assert served(dispatcher, servers, None).answer.value == "weak", "the first in the file"
        assert served(dispatcher, servers, loop).answer.value == "middle"
        servers.failing = {"middle": DOWN}
        assert served(dispatcher, servers, loop).answer.value != "middle"


def test_chance_explores_no_tool_loop() -> None:
    with serving(exploration=0.2) as (_, router, _):
        queries = [Query("go on", session=LOOP) for _ in range(50)]
        judged = {model.name: 0 for model in POOL}
        router.learned = replace(router.learned, judged=judged)
        assert all(candidate.lot is not None for candidate in router.forecast(queries))
    with serving(exploration=0.2) as (dispatcher, router, servers):
        router.learned = replace(router.learned, judged=judged)
        assert {served(dispatcher, servers, LOOP).answer.value for _ in range(50)} == {"weak"}


def test_it_escalates_once_to_a_stronger_model_and_stays_there() -> None:
    strained = replace(LOOP, model="middle", strained=True)
    with serving() as (dispatcher, _, servers):
        assert served(dispatcher, servers, strained).answer.value == "strong"
        escalated = Session("strong", in_tool_loop=True, strained=True, escalated=True)
        assert served(dispatcher, servers, escalated).answer.value == "strong"
        weak = Session("middle", strained=True, escalated=True)
        assert served(dispatcher, servers, weak).answer.value == "middle", "never twice"
        assert served(dispatcher, servers, replace(strained, model="strong")).answer.value == (
            "strong"
        ), "there is none stronger"


def test_what_is_forecast_for_a_loop_is_as_for_any_other_call() -> None:
    with serving() as (_, router, _):
        plain, loop = router.forecast([Query("a"), Query("a", session=LOOP)])
        assert np.array_equal(plain.success, loop.success)
        assert loop.allowed.all(), "so that it may be retried elsewhere"
