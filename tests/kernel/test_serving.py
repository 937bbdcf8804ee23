"""What serves calls while the adapter under it changes."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import until

from aios_eccos.config import Settings, parse_settings
from aios_eccos.kernel import serving as module
from aios_eccos.kernel.calls import Caller
from aios_eccos.kernel.engine_setup import open_engine
from aios_eccos.kernel.serving import ENDING, Serving
from aios_eccos.locate import Config, Location
from aios_eccos.observe.reader import Reader
from aios_eccos.values import Query
from aios_eccos.workload.memory import MemoryWorkload


class Adapter:
    """Answers until it is retired."""

    def __init__(self) -> None:
        self.available_llm_names = ["a"]
        self.eccos_config = SimpleNamespace(settings=parse_settings({}))
        self.retired = self.following = False

    def ask(self, *_: object) -> str | None:
        return None if self.retired else "answer"

    def retire(self) -> None:
        self.retired = True

    def follow(self) -> None:
        self.following = True

    def error_response(self, failure: object, name: object = None) -> object:
        return failure

    def _dynamic_register_ollama_model(self, name: str) -> bool:
        self.available_llm_names.append(name)
        return True


class Dispatched:
    """A dispatcher that keeps what it is given and runs none of it."""

    def __init__(self) -> None:
        self.run: Any = None
        self.futures: dict[str, Future[Any]] = {}

    def submit(self, query: Query, run: Any, repeat: Any) -> Future[Any]:
        self.run = run
        self.futures[query.id] = Future()
        return self.futures[query.id]

    def drop(self, query_id: str) -> None:
        self.futures[query_id].cancel()


class Syscall:
    """One of the kernel's: an agent's call, which it may bind to models."""

    agent_name = "agent"

    def __init__(self, *llms: dict[str, str]) -> None:
        self.event = threading.Event()
        self.eccos_caller = Caller()
        self.query = SimpleNamespace(
            messages=[{"role": "user", "content": "hello"}],
            llms=list(llms),
            tools=None,
            max_new_tokens=None,
            message_return_type="text",
            response_format=None,
        )

    def __getattr__(self, name: str) -> Any:
        return lambda *values: 1


def asks_for_x() -> Any:
    """A call for a model of Ollama's that AIOS does not know yet."""
    return Syscall({"name": "x", "backend": "ollama"})


def settings(mode: str = "route") -> Any:
    return SimpleNamespace(settings=SimpleNamespace(mode=mode, terminal_agent="terminal"))


class Slow(threading.Event):
    """Refreshes wait for this event; `begun` tells that one does."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    go = Slow()

    def refresh(engine: Any, config: Any) -> None:
        go.begun.set()
        go.wait(60)

    monkeypatch.setattr(module, "of_adapter", lambda config, adapter: config)
    monkeypatch.setattr(module, "refresh", refresh)
    return go


@pytest.fixture
def serving(slow: Slow) -> Serving:
    kept = SimpleNamespace(settings=parse_settings({"session_affinity": False}))
    engine: Any = SimpleNamespace(
        dispatcher=Dispatched(),
        config=kept,
        set=lambda mode: None,
        router=SimpleNamespace(models=()),
        workload=MemoryWorkload(),
    )
    found = Serving(lambda config: engine)
    found.use(Adapter(), settings())
    return found


def begin(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def refresh(serving: Serving, slow: Slow, adapter: Any = None) -> threading.Thread:
    """A refresh, under way."""
    thread = begin(lambda: serving.use(adapter or serving.adapter, settings()))
    assert slow.begun.wait(60)
    return thread


def test_a_client_may_leave_while_a_refresh_runs(serving: Serving, slow: Slow) -> None:
    syscall: Any = Syscall()
    serving.serve(syscall)
    refreshing = refresh(serving, slow)
    leaving = begin(lambda: serving.leave(syscall.eccos_caller))
    leaving.join(60)
    assert not leaving.is_alive(), "its answer waits for no refresh"
    assert syscall.event.is_set()
    slow.set()
    refreshing.join(60)
    assert not refreshing.is_alive()


def test_a_look_up_of_models_brings_no_retired_adapter_back(serving: Serving, slow: Slow) -> None:
    new = Adapter()
    refreshing = refresh(serving, slow, new)
    serving.serve(asks_for_x())
    slow.set()
    refreshing.join(60)
    until(lambda: new.available_llm_names == ["a", "x"])  # the one in force knows it too
    assert serving.adapter is new
    assert not new.retired


def test_a_look_up_of_models_leaves_the_mode_alone(serving: Serving, slow: Slow) -> None:
    slow.set()
    serving.switch("observe")
    serving.serve(asks_for_x())
    until(lambda: serving.adapter.available_llm_names == ["a", "x"])
    assert serving.mode == "observe"
    fresh = Adapter()
    serving.use(fresh, settings("observe"))
    assert fresh.following
    serving.use(Adapter(), settings())
    assert serving.mode == "route", "a refresh goes by the file"


def test_an_adapter_that_stays_retired_ends_the_call(serving: Serving) -> None:
    serving.serve(Syscall())
    serving.adapter.retire()
    assert serving.engine.dispatcher.run("a", 5.0).failure is ENDING


def test_a_state_folder_that_cannot_be_made_does_not_keep_the_kernel_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for redis in ("memory", "embedded"):
        location = Location(None, None, tmp_path / "file" / "state", "test")
        settings = parse_settings({"redis": redis, "predictor": "retrieval"})
        engine = open_engine(Config(location, settings, ()))
        folder = engine.config.location.state_dir
        (said,) = Reader.of_engine(engine, lambda: None).status().warnings
        assert "the state folder cannot be used" in said
        engine.close()
        assert folder.is_dir()
    assert "the state folder cannot be used" in caplog.text


@pytest.mark.parametrize(
    "redis",
    [
        "redis://:pw@localhost:99999",
        "redis://:pw/x@localhost:6379",
        "redis://:pw#x@localhost",
        "redis://:x[pw]y@localhost",
        "redis://[::1",
        "redis+sentinel://127.0.0.1:1",
    ],
)
def test_a_redis_url_that_is_none_does_not_keep_the_kernel_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, redis: str
) -> None:
    location = Location(None, None, tmp_path, "test")
    # A configuration that names it is refused before; a setting may yet come another way.
    settings = Settings().model_copy(update={"redis": redis, "predictor": "retrieval"})
    engine = open_engine(Config(location, settings, ()))
    (said,) = Reader.of_engine(engine, lambda: None).status().warnings
    engine.close()
    assert "limits hold in this kernel only" in said and "pw" not in said
    assert "limits hold in this kernel only" in caplog.text
    assert "pw" not in caplog.text
