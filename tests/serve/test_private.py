"""A private call reaches local models only, on every way that a call can take."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from audit_world import World
from gated_servers import DOWN, Servers
from waiting import until

from aios_eccos.config import Settings, parse_models, parse_settings
from aios_eccos.config.local import is_local
from aios_eccos.errors import ConfigError, HistoryError, WorkloadError
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.router import Router
from aios_eccos.serve.tracing import decide_dry
from aios_eccos.values import NOT_LOCAL, Answer, CallResult, Model, Query
from aios_eccos.workload.memory import MemoryWorkload

#: The hosted ones are cheaper and stronger: everything but privacy speaks for them.
POOL = (
    Model("cloud", limit=1, input_price=1e-8, output_price=1e-8, strength=0.99),
    Model("cloud-too", limit=9, input_price=1e-8, output_price=1e-8, strength=0.99),
    Model("here", limit=1, input_price=1e-5, output_price=1e-5, strength=0.5, local=True),
    Model("near", limit=1, input_price=1e-5, output_price=1e-5, strength=0.4, local=True),
)
LOCAL = {"here", "near"}
PRIVATE: dict[str, object] = {"agents": {"*": {}, "secret/*": {"private": True}}}


class Broken(PriorPredictor):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def forecast(self, *args: object, **options: object) -> object:  # type: ignore[override]
        raise self.error


@contextmanager
def serving(
    pool: tuple[Model, ...] = POOL,
    raw: dict[str, object] = PRIVATE,
    workload: MemoryWorkload | None = None,
) -> Iterator[tuple[Dispatcher, Router, Servers]]:
    settings, workload = parse_settings(raw), workload or MemoryWorkload()
    router = Router(pool, settings, workload)
    with Dispatcher(router, settings) as dispatcher:
        yield dispatcher, router, Servers()
    workload.close()


def secret(**fields: object) -> Query:
    return Query("the plan", agent="secret/agent", **fields)  # type: ignore[arg-type]


def served(dispatcher: Dispatcher, servers: Servers, query: Query) -> CallResult:
    return dispatcher.submit(query, servers.run).result(60)


def test_it_goes_to_a_local_model_whatever_others_promise_and_cost() -> None:
    with serving() as (dispatcher, _, servers):
        assert served(dispatcher, servers, secret()).answer.value in LOCAL
        assert served(dispatcher, servers, Query("x", agent="open")).answer.value not in LOCAL
        hinted = Query("x", agent="open", private=True)
        assert served(dispatcher, servers, hinted).answer.value in LOCAL, "a call may tighten it"


def test_its_retries_stay_and_end_with_the_last_error() -> None:
    with serving() as (dispatcher, _, servers):
        servers.failing = dict.fromkeys(LOCAL, DOWN)
        settled = served(dispatcher, servers, secret())
    assert settled.answer.failure == DOWN
    assert set(servers.asked) == LOCAL


@pytest.mark.parametrize("over_capacity", ["spill", "wait"])
def test_it_waits_while_all_local_models_are_full(over_capacity: str) -> None:
    with serving(raw=PRIVATE | {"over_capacity": over_capacity}) as (dispatcher, _, servers):
        servers.gate.clear()
        futures = [dispatcher.submit(secret(), servers.run) for _ in range(5)]
        until(lambda: servers.asked)
        assert not dispatcher.submit(Query("", agent="open"), servers.run).done()
        servers.gate.set()
        assert {future.result(60).answer.value for future in futures} <= LOCAL


def test_it_is_asked_of_a_resting_local_model_rather_than_of_another() -> None:
    with serving() as (dispatcher, router, servers):
        for name in LOCAL:
            router.rest(name, None)
        assert served(dispatcher, servers, secret()).answer.value in LOCAL


@pytest.mark.parametrize("error", [HistoryError("down"), WorkloadError("down"), KeyError("bug")])
def test_it_stays_where_forecasts_or_decisions_fail(error: Exception) -> None:
    """The last of them makes AIOS's own choice serve: the first model in the file, a hosted one."""
    with serving() as (dispatcher, router, servers):
        router.learned = Learned(Broken(error))
        for _ in range(3):
            assert served(dispatcher, servers, secret()).answer.value in LOCAL
        named = secret(allowed=("cloud", "here"))
        assert served(dispatcher, servers, named).answer.value == "here"


class Down(MemoryWorkload):
    """Redis is out of reach: slots are lent locally, and nothing is shared."""

    def read_prices(self, age_s: float = 0.0) -> dict[str, float]:
        raise WorkloadError("down")

    def notes(self, names: Sequence[str]) -> list[str | None]:
        raise WorkloadError("down")


def test_it_stays_where_redis_is_down() -> None:
    with serving(workload=Down()) as (dispatcher, _, servers):
        assert served(dispatcher, servers, secret()).answer.value in LOCAL


def test_it_stays_where_no_load_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (dispatcher, router, servers):
        monkeypatch.setattr(router, "slots", lambda: 1 / 0)
        assert served(dispatcher, servers, secret()).answer.value in LOCAL


@pytest.mark.parametrize(
    ("pool", "query"),
    [
        (POOL, secret(allowed=("cloud",))),
        (POOL, secret(allowed=("cloud", "cloud-too"))),
        (POOL[:2], secret()),
        (POOL, secret(needs=frozenset({"vision"}))),
        (POOL[:2], Query("x", agent="open", private=True)),
    ],
)
@pytest.mark.parametrize("decided", [True, False])
def test_it_is_refused_with_the_reason_where_no_local_model_may_serve(
    pool: tuple[Model, ...], query: Query, decided: bool
) -> None:
    pool = tuple(replace(model, abilities=frozenset()) for model in pool)
    with serving(pool) as (dispatcher, router, servers):
        if not decided:
            router.learned = Learned(Broken(KeyError("bug")))
        failure = served(dispatcher, servers, query).answer.failure
    assert servers.asked == []
    assert failure is not None and failure.status_code == 403
    named = "'secret/*'" if query.agent != "open" else "the call is private"
    assert named in failure.reason and "local: true" in failure.reason


def test_a_call_that_waits_when_its_agent_becomes_private_is_kept_in() -> None:
    workload = MemoryWorkload()
    with serving(raw={}, workload=workload) as (dispatcher, _, servers):
        servers.gate.clear()
        first = dispatcher.submit(secret(allowed=("cloud",)), servers.run)
        until(lambda: servers.asked)
        waiting = dispatcher.submit(secret(allowed=("cloud",)), servers.run)
        settings = parse_settings(PRIVATE)
        dispatcher.use(Router(POOL, settings, workload), settings)
        refused = waiting.result(60).answer.failure
        servers.gate.set()
        first.result(60)
    assert refused is not None and refused.status_code == 403


def test_an_explanation_says_that_others_are_not_local() -> None:
    with serving() as (_, router, _):
        trace = decide_dry(router, router.slots(), "the plan", agent="secret/a")
    closed = {option.model: option.closed for option in trace.options}
    assert closed == dict.fromkeys(("cloud", "cloud-too"), NOT_LOCAL) | dict.fromkeys(LOCAL, "")


def test_any_pattern_that_matches_makes_an_agent_private() -> None:
    settings = parse_settings(PRIVATE)
    assert settings.policy("secret/a")[0] == "*", "the first match wins in all else"
    assert settings.private_pattern("secret/a") == "secret/*"
    assert settings.private_pattern("open") is None
    assert Settings().private_pattern("secret/a") is None


@pytest.mark.parametrize("by", ["agent", "call"])
def test_audits_copy_it_to_local_models_only_and_no_hosted_judge_reads_it(by: str) -> None:
    said: dict[str, str | Answer | threading.Event] = {"small": "The answer is 41.", "judge": "B"}
    world = World(said, agents={"secret/*": {"private": True}} if by == "agent" else {})
    fields: dict[str, object] = {"agent": "secret/a"} if by == "agent" else {"private": True}

    def local(*names: str) -> None:
        models = (replace(model, local=model.name in names) for model in world.router.models)
        world.router = Router([*models], world.settings, world.workload)

    def asked_with(*names: str) -> set[str]:
        local(*names)
        world.asked.clear()
        world.audit(world.settled(**fields))
        return {model for model, _ in world.asked}

    assert asked_with("large") == set()
    assert asked_with("large", "small") == {"small"}
    assert asked_with("large", "small", "judge") == {"small", "judge"}


@pytest.mark.parametrize(
    ("hostname", "backend", "local"),
    [
        ("http://localhost:8000/v1", "vllm", True),
        ("localhost:11434", "ollama", True),
        ("http://gpu.localhost/v1", "vllm", True),
        ("http://127.0.0.1:1/v1", "vllm", True),
        ("http://127.8.9.10", "ollama", True),
        ("http://0.0.0.0:8000/v1", "vllm", True),
        ("http://10.1.2.3:8000/v1", "vllm", True),
        ("http://172.16.0.9/v1", "vllm", True),
        ("http://172.31.255.255/v1", "vllm", True),
        ("https://user:pw@192.168.1.7/v1", "vllm", True),
        ("http://169.254.3.4/v1", "vllm", True),
        ("http://[::1]:8000/v1", "sglang", True),
        ("http://[fd12:3456::1]/v1", "vllm", True),
        ("http://[fe80::1%eth0]/v1", "vllm", True),
        ("http://[::ffff:10.0.0.1]/v1", "vllm", True),
        (None, "huggingface", True),
        (None, "hflocal", True),
        (None, "openai", False),
        (None, "ollama", False),
        ("", "vllm", False),
        ("https://api.openai.com/v1", "openai", False),
        ("http://gpu-box:8000/v1", "vllm", False),
        ("http://vllm.internal/v1", "vllm", False),
        ("http://172.32.0.1/v1", "vllm", False),
        ("http://100.64.0.1/v1", "vllm", False),
        ("http://8.8.8.8/v1", "vllm", False),
        ("http://[2001:4860::1]/v1", "vllm", False),
        ("http://[::ffff:8.8.8.8]/v1", "vllm", False),
        ("http://127.0.0.1.nip.io/v1", "vllm", False),
        ("http://localhost.example.com/v1", "vllm", False),
        ("http://localhost@api.example.com/v1", "vllm", False),
        ("http://10.0.0.1@8.8.8.8/v1", "vllm", False),
        ("http://2130706433/v1", "vllm", False),
        ("http://010.0.0.1/v1", "vllm", False),
    ],
)
def test_a_model_is_local_by_its_address_alone(
    hostname: str | None, backend: str, local: bool
) -> None:
    assert is_local(hostname, backend) is local
    entry = {"name": "m", "backend": backend, "hostname": hostname}
    for raw, wanted in ({}, local), ({"local": True}, True), ({"local": False}, False):
        (found,) = parse_models([entry | raw])
        assert found.model().local is wanted


def test_an_address_that_may_be_read_in_two_ways_is_not_local_and_refused() -> None:
    hostname = "http://api.example.com#@localhost/v1"
    assert not is_local(hostname, "vllm")
    for raw in ({}, {"local": True}, {"local": False}):
        with pytest.raises(ConfigError, match="hostname"):
            parse_models([{"name": "m", "backend": "vllm", "hostname": hostname} | raw])
