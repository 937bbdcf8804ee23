"""Plans under load and faults, two kernels over one real Redis: limits, slots and answers hold."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from plan_world import LARGE, MINI, PLAN, SMALL, FixedPlans, learned, make_router
from waiting import until

from aios_eccos.config import Settings
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.values import Answer, CallResult, Failure, Plan, Query, Repeat
from aios_eccos.workload.connect import open_workload

LIMITS = {"small": 5, "mini": 3, "large": 2}
AGENTS, CALLS = 32, 8
FAULTS = (
    Failure("429", 429, retryable=True, retry_after_s=0.01),
    Failure("500", 500, retryable=True),
    Failure("unreadable", 502, retryable=False, rests=False),
    Failure("no tools", 400, False, refused="other"),
)
OTHER = Plan(("mini", "large"), "small")


class Watched:
    """The models of both kernels: counts who is asked at once, and fails one request of ten."""

    def __init__(self, seed: int) -> None:
        self.at_once: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.requests = 0
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    def ask(self, model: str, seconds: float) -> Answer:
        with self._lock:
            self.requests += 1
            self.at_once[model] += 1
            self.peak[model] = max(self.peak[model], self.at_once[model])
            pause, fails = self._draw.uniform(0.0, 0.02), self._draw.random() < 0.1
            failure, said = self._draw.choice(FAULTS), self._draw.choice(["41", "42", "42"])
            raises = self._draw.random() < 0.2
        time.sleep(pause)  # an answer takes its time
        with self._lock:
            self.at_once[model] -= 1
        if fails and raises:
            raise RuntimeError("a client's own fault")
        return Answer(failure=failure) if fails else Answer((model, said), 10, 10)

    def repeat(self) -> Repeat:
        return Repeat(self.ask, lambda *a: Answer(), lambda value: (value[1], ()), lambda: "")


@pytest.mark.parametrize("seed", range(3))
def test_under_load_and_faults_every_call_is_settled_once_within_every_limit(
    seed, tmp_path
) -> None:
    pool = tuple(replace(model, limit=LIMITS[model.name]) for model in (SMALL, MINI, LARGE))
    watched, settled, lock = Watched(seed), Counter[str](), threading.Lock()

    def note(result: CallResult) -> None:
        with lock:
            settled[result.query.id] += 1

    stores = [open_workload("embedded", state_dir=tmp_path) for _ in range(2)]
    kernels = []
    try:
        # Where calls wait for their best, plans serve however short slots are.
        for store, over in zip(stores, ("spill", "wait"), strict=True):
            knows = learned(FixedPlans((PLAN, OTHER)))
            asked = {"cooldown_s": 0.01, "over_capacity": over}
            router = make_router(store, models=pool, knows=knows, **asked)
            given = Settings().model_copy(update=asked)
            kernels.append((Dispatcher(router, given, on_settled=note), router))
        for dispatcher, _ in kernels:
            dispatcher.start()
        futures = []
        for number in range(AGENTS * CALLS):
            dispatcher, _ = kernels[number % 2]
            query = Query("hello", agent=f"agent{number % AGENTS}", input_tokens=10)
            futures.append(dispatcher.submit(query, watched.ask, watched.repeat))
        results = [future.result(120) for future in futures]
        for dispatcher, _ in kernels:
            dispatcher.stop()
        # Every slot comes back, by its lease at the latest: a busy machine may have lost a release.
        until(lambda: dict(kernels[0][1].slots().free) == LIMITS)
    finally:
        for store in stores:
            store.close()
    assert len(settled) == len(results)
    assert set(settled.values()) == {1}
    assert all(watched.peak[name] <= limit for name, limit in LIMITS.items()), watched.peak
    assert watched.requests == sum(result.attempts for result in results), "none is unaccounted for"
    votes = [result for result in results if result.vote is not None]
    assert {vote.vote.outcome for vote in votes} >= {"agreed", "differed"}
    for result in votes:
        asked = Counter(tried.model for tried in result.tries)
        # Where all have failed, a member may be the last model that is left to try again.
        most = 2 if result.vote.outcome == "failed" else 1
        assert all(1 <= asked[member] <= most for member in result.vote.members), result.vote
        if result.vote.answered_by is not None:
            assert result.answer.value[0] == result.vote.answered_by
            assert result.answer.failure is None
        if result.vote.outcome == "agreed":
            assert asked[result.vote.escape] == 0
    # Two requests of a call must fail before it does, of a plan all three.
    assert sum(result.answer.failure is not None for result in results) < len(results) / 10
