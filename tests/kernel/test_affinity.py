"""Same conversation, same model, unless leaving pays for itself."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from aios_eccos.config import Settings
from aios_eccos.errors import WorkloadError
from aios_eccos.kernel.sessions import Sessions
from aios_eccos.serve.router import Router
from aios_eccos.values import Model, Query
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload

NEAR = [
    Model("a", input_price=1.0e-6, output_price=1.0e-6, strength=0.7),
    Model("b", input_price=1.5e-6, output_price=1.5e-6, strength=0.7),
]


def choice(models: list[Model], served_by: str | None, *, affinity: bool = True) -> str | None:
    workload = MemoryWorkload()
    settings = Settings(session_affinity=affinity)
    router = Router(models, settings, workload)
    query = Query("go on", input_tokens=20_000, served_by=served_by)
    (decision,) = router.route([query]).decisions
    workload.close()
    return decision.model


def test_a_conversation_stays_where_a_switch_would_cost_more_than_it_saves() -> None:
    assert choice(NEAR, None) == "a"
    assert choice(NEAR, "b") == "b"
    assert choice(NEAR, "a") == "a"


def test_it_leaves_where_that_pays() -> None:
    far = [NEAR[0], Model("b", input_price=9e-6, output_price=9e-6, strength=0.7)]
    assert choice(far, "b") == "a"


def test_it_can_be_switched_off_and_unknown_models_count_nothing() -> None:
    assert choice(NEAR, "b", affinity=False) == "a"
    assert choice(NEAR, "removed") == "a"


def test_the_kernel_keeps_a_conversation_where_it_is(fresh: Any) -> None:
    config = copy.deepcopy(fresh.config)
    for entry, price in zip(config["llms"]["models"], (1.0e-6, 1.2e-6), strict=True):
        entry |= {"strength": 0.7, "input_cost_per_token": price, "output_cost_per_token": price}
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
        self.degraded = False
        self.broken = False

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        if self.broken:
            raise WorkloadError("gone")
        assert keep_s == pytest.approx(600)
        self.kept[name] = value
        return None

    def notes(self, names: list[str]) -> list[str | None]:
        if self.broken:
            raise WorkloadError("gone")
        return [self.kept.get(name) for name in names]


def told(shared: Any, key: str) -> None:
    """A kernel that serves a turn of the conversation."""
    sessions = Sessions()
    sessions.remember(key, "small")
    sessions.share(key, "small", shared)


def test_another_kernel_knows_the_conversation() -> None:
    shared = Notes()
    told(shared, "key")
    assert Sessions().recall("key", shared) == "small"
    assert Sessions().recall("other", shared) is None


def test_two_kernels_share_a_conversation_through_a_real_redis_until_it_is_old() -> None:
    # A folder of its own: a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        one, two = (open_workload("embedded", state_dir=Path(folder)) for _ in range(2))
        try:
            told(one, "key")
            assert Sessions().recall("key", two) == "small"
            Sessions(remembered_s=1.0).share("short", "small", one)
            assert Sessions().recall("short", two) == "small"
            time.sleep(1.3)
            assert Sessions().recall("short", two) is None
        finally:
            one.close()
            two.close()


def test_without_redis_a_kernel_knows_its_own() -> None:
    shared = Notes()
    shared.broken = True
    sessions = Sessions()
    sessions.remember("key", "small")
    sessions.share("key", "small", shared)
    assert sessions.recall("key", shared) == "small"
    assert sessions.recall("other", shared) is None
    shared.broken, shared.degraded = False, True
    told(shared, "unshared")
    assert shared.kept == {}
