"""What must hold of every turn of every session, over two kernels that share one Redis.

Hundreds of sessions of tools and talk, private and open, are served by models that fail, are full
and are explored. Asked by itself (`ECCOS_TURNS`), any number of turns.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aios_eccos.config import parse_config
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.kernel.calls import Caller
from aios_eccos.kernel.serving import Serving
from aios_eccos.kernel.tool_loops import strained
from aios_eccos.locate import Config, Location
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Failure
from aios_eccos.workload import connect

TURNS = int(os.environ.get("ECCOS_TURNS", "2000"))
SESSIONS = max(min(TURNS // 20, 500), 1)
TURNS_EACH = TURNS // SESSIONS
MODELS = [
    {"name": "cloud-small", "backend": "openai", "input_cost_per_token": 1e-7,
     "output_cost_per_token": 1e-7, "cache_read_input_token_cost": 1e-8, "concurrency": 3},
    {"name": "cloud-large", "backend": "openai", "input_cost_per_token": 1e-5,
     "output_cost_per_token": 1e-5, "cache_read_input_token_cost": 1e-6, "concurrency": 3},
    {"name": "here-small", "backend": "vllm", "hostname": "http://127.0.0.1:1/v1",
     "input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7, "concurrency": 3},
    {"name": "here-large", "backend": "vllm", "hostname": "http://10.0.0.1/v1",
     "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "concurrency": 3},
]  # fmt: skip
LOCAL = {"here-small", "here-large"}
SETTINGS = {
    "quality_floor": 0.7,
    "exploration": 0.2,
    "cooldown_s": 0.0,
    "window_ms": 1,
    "agents": {"secret/*": {"private": True}},
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


class Line:
    """Embeds on a line from easy to hard: the number that the text begins with."""

    ready = True

    def try_embed(self, texts: Any) -> Any:
        numbers = [float(text.split()[0]) if text[:1].isdigit() else 0.5 for text in texts]
        angle = np.array(numbers) * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def try_embed_with_layers(self, texts: Any) -> None:
        return None

    def close(self) -> None:
        pass


def stores(config: Config) -> Any:
    """A history on which small models fail where it is hard."""
    draw = np.random.default_rng(7)
    records = []
    for i, hard in enumerate(draw.uniform(0, 1, 240)):
        chance = {model["name"]: 1 - hard if "small" in model["name"] else 0.95 for model in MODELS}
        outcomes = tuple(
            Outcome(name, float(draw.uniform() < p), 100) for name, p in chance.items()
        )
        records.append(Record(f"q{i}", f"{hard:.6f}", 50, outcomes, task="sums"))
    history = MemoryHistory(dimension=2)
    history.add(records, Line().try_embed([record.text for record in records]))
    return history, Line()


class Syscall:
    """An agent's call, which counts how often it is settled."""

    def __init__(self, agent: str, messages: list[Any]) -> None:
        self.agent_name = agent
        self.event = threading.Event()
        self.eccos_caller = Caller()
        self.settled = 0
        self.response: Any = None
        self.tries: list[tuple[str, bool]] = []
        self.query = SimpleNamespace(
            messages=messages,
            llms=None,
            tools=[TOOL],
            max_new_tokens=None,
            message_return_type="text",
            response_format=None,
        )

    def set_status(self, status: str) -> None:
        pass

    def set_response(self, response: Any) -> None:
        self.settled += 1
        self.response = response

    def set_start_time(self, at: float) -> None:
        self.start = at

    def set_end_time(self, at: float) -> None:
        pass

    def get_start_time(self) -> float | None:
        return getattr(self, "start", None)


class Adapter:
    """AIOS's adapter with models that answer, call tools, or fail."""

    def __init__(self, config: Config) -> None:
        self.eccos_config = config
        self.llm_configs = [
            SimpleNamespace(name=e.name, backend=e.backend, hostname=e.hostname)
            for e in config.entries
        ]
        self.available_llm_names = [entry.name for entry in config.entries]
        self.numbers = iter(range(10**9))

    def is_local(self, name: str) -> bool:
        return name in LOCAL

    def ask(self, model: str, syscall: Syscall, left: float) -> Answer:
        failed = random.random() < 0.08
        syscall.tries.append((model, failed))
        threading.Event().wait(random.random() * 0.004)
        if failed:
            return Answer(failure=Failure("500", 500))
        calls = []
        if random.random() < 0.6:
            # Ids of some servers are unique, those of others are not.
            number = next(self.numbers) if random.random() < 0.5 else 0
            calls = [{"name": "look", "parameters": {"n": number}, "id": f"call_{number}"}]
        value = SimpleNamespace(response_message="said", tool_calls=calls, error=None)
        return Answer(value, 100, 20)

    def error_response(self, failure: Failure, name: str | None = None) -> Any:
        return SimpleNamespace(error=failure.reason, status_code=failure.status_code, tool_calls=[])

    def retire(self) -> None:
        pass


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Serving]]:
    # A Redis that a busy machine keeps from answering in time is none, and kernels are alone then.
    monkeypatch.setattr(connect, "CALL_TIMEOUT_S", 60.0)
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        parsed, entries = parse_config({**SETTINGS}, MODELS)
        config = Config(Location(None, None, Path(folder), "test"), parsed, entries)

        def opened(found: Config) -> Engine:
            engine = Engine(found, stores=stores)
            engine.start()
            assert engine.wait_ready(60)
            return engine

        made = [Serving(opened) for _ in range(2)]
        for serving in made:
            serving.use(Adapter(config), config)  # type: ignore[arg-type]
        yield made
        for serving in made:
            serving.close(0.0)


class Play:
    """One session: its turns in order, each on any kernel; notes what breaks a rule."""

    def __init__(self, number: int, kernels: list[Serving]) -> None:
        self.draw = random.Random(number)
        self.kernels = kernels
        self.agent = f"{'secret' if number % 3 == 0 else 'open'}/{number % 7}"
        self.messages: list[Any] = [
            {"role": "user", "content": f"{self.draw.random():.3f} {number}"}
        ]
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.last: str | None = None
        self.looping = self.strained = self.escalated = False

    def run(self) -> Play:
        for _ in range(TURNS_EACH):
            self.turn()
        return self

    def turn(self) -> None:
        serving = self.draw.choice(self.kernels)
        syscall: Any = Syscall(self.agent, [*self.messages])
        serving.serve(syscall)
        if not syscall.event.wait(60):
            self.broken.append("a call was never settled")
            return
        self.check(syscall)
        self.counts["turns"] += 1
        self.counts["looping"] += self.looping
        if syscall.response.error:
            self.counts["failed"] += 1  # the agent asks again
            return
        self.last = syscall.tries[-1][0]
        self.go_on(syscall.response)

    def check(self, syscall: Syscall) -> None:
        if syscall.settled != 1:
            self.broken.append(f"settled {syscall.settled} times")
        asked = [model for model, _ in syscall.tries]
        if self.agent.startswith("secret") and not LOCAL.issuperset(asked):
            self.broken.append(f"a private call reached {asked}")
        if not (self.looping or self.escalated) or not asked or self.last is None:
            return
        if asked[0] != self.last:
            if self.strained and not self.escalated:
                self.escalated = not syscall.response.error
                self.counts["escalated"] += self.escalated
            else:
                self.broken.append(
                    f"{self.last} -> {asked[0]} in a tool loop after {len(self.messages)} messages"
                    f", strained {self.strained}, escalated {self.escalated}"
                )
        for (before, failed), after in zip(syscall.tries, asked[1:], strict=False):
            if not failed and before != after:
                self.broken.append(f"{before} -> {after} though it had not failed")
        self.counts["left"] += len(set(asked)) > 1

    def go_on(self, response: Any) -> None:
        """The agent's next messages: results of tools in one of the usual forms, or a new word."""
        calls = response.tool_calls
        self.looping, self.strained = bool(calls), False
        if not calls:
            self.messages.append({"role": "assistant", "content": response.response_message})
            self.messages.append({"role": "user", "content": f"{self.draw.random():.3f} more"})
            return
        form, call = self.draw.randrange(3), calls[0]
        bad = self.draw.random() < 0.3
        text = f"{'Error: ' if bad else ''}{self.draw.random()}"
        if form == 0:
            said = {"role": "assistant", "content": None, "tool_calls": calls}
            result = {"role": "tool", "tool_call_id": call["id"], "content": text}
        elif form == 1:
            use = {"type": "tool_use", "id": call["id"], "name": "look", "input": {}}
            said = {"role": "assistant", "content": [use]}
            back = {"type": "tool_result", "tool_use_id": call["id"], "content": text}
            result = {"role": "user", "content": [back]}
        else:  # as AIOS's SDK hands them back
            said = {"role": "assistant", "content": text}
            result = {"role": "user", "content": f"{self.draw.random():.3f} go on"}
        self.messages += [said, result]
        self.strained = strained(self.messages)


def test_no_switch_in_a_tool_loop_no_private_call_outside_every_call_settled_once(
    kernels: list[Serving],
) -> None:
    plays = [Play(number, kernels) for number in range(SESSIONS)]
    with ThreadPoolExecutor(24) as pool:
        played = [*pool.map(Play.run, plays)]
    counts = Counter[str]()
    for play in played:
        counts += play.counts
    print(dict(counts))
    assert [fault for play in played for fault in play.broken] == []
    assert counts["turns"] == SESSIONS * TURNS_EACH
    assert counts["looping"] > 0.3 * counts["turns"], "there were tool loops"
    assert counts["left"] > 0, "models failed in them"
    for serving in kernels:
        engine = serving.engine
        assert engine is not None
        assert engine.recorder.flush(60)
    limits = {model.slot: model.limit for model in kernels[0].engine.router.models}  # type: ignore[union-attr]
    loads = kernels[0].engine.workload.loads(limits)  # type: ignore[union-attr]
    assert {load.in_use for load in loads.values()} == {0}, "every slot came back"
    assert sum(serving.settled for serving in kernels) == counts["turns"]
