"""What serves calls while the adapter under it changes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aios_eccos.config import parse_settings
from aios_eccos.kernel import serving as module
from aios_eccos.kernel.engine_setup import open_engine
from aios_eccos.kernel.serving import ENDING, Serving
from aios_eccos.kernel.ticket import Ticket
from aios_eccos.locate import Config, Location
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.values import Query


class Adapter:
    """Answers until it is retired."""

    def __init__(self) -> None:
        self.available_llm_names = ["a"]
        self.retired = self.following = False

    def ask(self, *_: object) -> str | None:
        return None if self.retired else "answer"

    def retire(self) -> None:
        self.retired = True

    def follow(self) -> None:
        self.following = True

    def warm_up(self) -> None: ...

    def error_response(self, failure: object, name: object) -> object:
        return failure

    def _dynamic_register_ollama_model(self, name: str) -> bool:
        self.available_llm_names.append(name)
        return True


class Nothing:
    """A router that is never asked."""

    spills = True

    def on_release(self, callback: object) -> None: ...


class Syscall:
    """One of the kernel's, as far as settling goes."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return lambda *values: 1


ASKS_FOR_X: Any = SimpleNamespace(query=SimpleNamespace(llms=[{"name": "x", "backend": "ollama"}]))


def settings(mode: str = "route") -> Any:
    return SimpleNamespace(settings=SimpleNamespace(mode=mode, terminal_agent="terminal"))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Refreshes wait for this event, then take the dispatcher's lock."""
    go = threading.Event()

    def refresh(engine: Any, config: Any) -> None:
        go.wait(10)
        engine.dispatcher.use(Nothing())

    monkeypatch.setattr(module, "of_adapter", lambda config, adapter: config)
    monkeypatch.setattr(module, "refresh", refresh)
    return go


@pytest.fixture
def serving(slow: threading.Event) -> Serving:
    engine: Any = SimpleNamespace(dispatcher=Dispatcher(Nothing()))
    found = Serving(lambda config: engine)
    found.use(Adapter(), settings())
    return found


def begin(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.05)
    return thread


def test_a_client_may_leave_while_a_refresh_runs(serving: Serving, slow: threading.Event) -> None:
    syscall, query = Syscall(), Query("x")
    ticket = Ticket(syscall, query, None, query)
    serving._in_flight[query.id] = ticket
    engine = serving.engine
    assert engine is not None
    future = engine.dispatcher.submit(query, lambda model, left: None)
    future.add_done_callback(lambda done: serving._done(ticket, done))
    refreshing = begin(lambda: serving.use(serving.adapter, settings()))
    leaving = begin(lambda: engine.dispatcher.drop(query.id))
    leaving.join(5)
    assert not leaving.is_alive(), "its answer waits for no refresh"
    assert syscall.event.is_set()
    slow.set()
    refreshing.join(5)
    assert not refreshing.is_alive()


def test_a_look_up_of_models_brings_no_retired_adapter_back(
    serving: Serving, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_submit", lambda syscall: None)
    new = Adapter()
    refreshing = begin(lambda: serving.use(new, settings()))
    looking = begin(lambda: serving._discover(ASKS_FOR_X))
    slow.set()
    refreshing.join(5)
    looking.join(5)
    assert serving.adapter is new
    assert not new.retired
    assert new.available_llm_names == ["a", "x"], "the one in force knows it too"


def test_a_look_up_of_models_leaves_the_mode_alone(
    serving: Serving, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow.set()
    monkeypatch.setattr(serving, "_submit", lambda syscall: None)
    serving.switch("observe")
    serving._discover(ASKS_FOR_X)
    assert serving.mode == "observe"
    fresh = Adapter()
    serving.use(fresh, settings("observe"))
    assert fresh.following
    serving.use(Adapter(), settings())
    assert serving.mode == "route", "a refresh goes by the file"


def test_an_adapter_that_stays_retired_ends_the_call(serving: Serving) -> None:
    serving.adapter.retire()
    answer = serving._run(Ticket(Syscall(), Query(""), None, Query("")), "a", 5.0)
    assert answer.failure is ENDING


def test_a_state_folder_that_cannot_be_made_does_not_keep_the_kernel_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for redis in ("memory", "embedded"):
        location = Location(None, None, tmp_path / "file" / "state", "test")
        settings = parse_settings({"redis": redis, "predictor": "retrieval"})
        engine = open_engine(Config(location, settings, ()))
        folder = engine.config.location.state_dir
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
    settings = parse_settings({"redis": redis, "predictor": "retrieval"})
    engine = open_engine(Config(location, settings, ()))
    engine.close()
    assert "limits hold in this kernel only" in caplog.text
    assert "pw" not in caplog.text
