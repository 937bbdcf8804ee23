"""AIOS's HTTP side with ours in its place: threads, routes, workers, the end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from aios_eccos.config import parse_settings
from aios_eccos.kernel import hook, http, status, workers
from aios_eccos.kernel.actions import StepFailed
from aios_eccos.kernel.scheduler import EccosScheduler
from aios_eccos.locate import state_dir_of

#: Its import warns that it would rather have another client of HTTP.
TestClient = pytest.importorskip("fastapi.testclient").TestClient

CONFIG = """
llms:
  models: [{name: small, backend: vllm, hostname: "http://localhost:1/v1"}]
  router: {strategy: eccos, eccos: {quality_floor: 0.5}}
"""


class QueryRequest(BaseModel):
    """As AIOS's; the agent's query is left as it comes."""

    query_type: str
    agent_name: str
    query_data: Any


class Launch:
    """AIOS's launcher: its app, and what `/query` calls."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.QueryRequest = QueryRequest
        self.selected_llms: dict[str, list[Any]] = {"llms": []}
        self.active_components = None
        self.select_llm = self.select
        self.refreshed = self.cleaned = 0
        self.fail: Any = None
        self.execute_request: Any = lambda agent, data: agent

        async def refresh() -> str:
            if self.fail is not None:
                self.fail()
            self.refreshed += 1
            return "refreshed"

        async def cleanup() -> str:
            self.cleaned += 1
            return "cleaned"

        async def on_the_loop() -> None:
            raise AssertionError("AIOS's own handler")

        self.refresh_configuration, self.cleanup_components = refresh, cleanup
        for path in ("/query", "/core/refresh", "/core/cleanup", "/user/select/llms"):
            self.app.add_api_route(path, on_the_loop, methods=["POST"])
        self.app.add_api_route("/status", lambda: "up")

    async def select(self, request: Any) -> str:
        self.selected_llms["llms"] = await request.json()
        return "selected"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A launcher with our side in it and a client of its server."""
    path = tmp_path / "aios/config/config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    ended = threading.Event()
    serving = SimpleNamespace(
        config=SimpleNamespace(settings=parse_settings({"http_threads": 64})),
        mode="route",
        engine=None,
        close=ended.set,
    )
    monkeypatch.setattr(hook, "config_path", lambda: str(path))
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(EccosScheduler, "eccos_serving", serving, raising=False)
    monkeypatch.setattr(EccosScheduler, "_current", None)
    word = workers.Word(state_dir_of(hook.aios_home()))
    monkeypatch.setattr(EccosScheduler, "eccos_word", word, raising=False)
    monkeypatch.setattr(workers, "LOOK_S", 0.02)
    launch: Any = Launch()
    launch.app.router.lifespan_context = http._lifespan(launch, launch.app.router.lifespan_context)
    with TestClient(launch.app, base_url="http://localhost") as client:
        yield SimpleNamespace(launch=launch, client=client, serving=serving, path=path)
    assert ended.is_set(), "what is ours ends with the server"


def ask(served: Any, agent: str = "a") -> Any:
    body = {"query_type": "storage", "agent_name": agent, "query_data": {}}
    return served.client.post("/query", json=body)


def test_as_many_queries_as_threads_run_at_once_and_none_on_the_event_loop(served: Any) -> None:
    together = threading.Barrier(40)
    served.launch.execute_request = lambda agent, data: together.wait(10)
    with ThreadPoolExecutor(40) as clients:
        waiting = [clients.submit(ask, served) for _ in range(39)]
        begun = time.monotonic()
        assert served.client.get("/status").json() == "up"
        assert time.monotonic() - begun < 2, "39 operations that hang stall no answer"
        assert ask(served).status_code == 200
        assert {call.result().status_code for call in waiting} == {200}


@pytest.mark.usefixtures("served")
def test_a_full_collection_of_garbage_does_not_look_at_what_the_start_has_made() -> None:
    assert gc.get_freeze_count() > len(gc.get_objects())


def test_the_server_says_that_both_are_ours(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "find_launch", lambda: served.launch)
    assert status.executor() == 64
    served.serving.adapter = None
    assert status.seams(served.serving)["query route"]


def test_an_action_that_failed_has_its_models_status(served: Any) -> None:
    def fail(agent: str, data: Any) -> None:
        response = SimpleNamespace(error="LLM error with model 'small': 429", status_code=429)
        raise StepFailed({"response": response}, ["a.txt was made"])

    served.launch.execute_request = fail
    answer = ask(served)
    assert answer.status_code == 429
    assert answer.json()["detail"] == (
        "LLM error with model 'small': 429; before it: a.txt was made"
    )


def test_any_other_failure_is_a_500_with_its_text(served: Any) -> None:
    served.launch.execute_request = lambda agent, data: {}["secret"]
    assert (ask(served).status_code, ask(served).json()["detail"]) == (500, "'secret'")


def test_a_refresh_looks_first(served: Any) -> None:
    assert served.client.post("/core/refresh").json() == "refreshed"
    served.path.write_text(CONFIG.replace("quality_floor", "quality_flor"))
    refused = served.client.post("/core/refresh")
    assert refused.status_code == 422
    assert "quality_flor" in refused.json()["detail"]
    for broken in ("llms: {router: eccos}", "llms: [a]", "llms: {models: [], router: {"):
        served.path.write_text(broken)
        assert served.client.post("/core/refresh").status_code == 422
    served.path.write_text("llms: [{api_key: sk-secret}]")
    assert "sk-secret" not in served.client.post("/core/refresh").text
    assert served.launch.refreshed == 1


@pytest.mark.parametrize(
    ("taken", "says"), [(False, "the one before stays"), (True, "the new one")]
)
def test_a_refresh_that_fails_in_aios_says_which_configuration_is_in_force(
    served: Any, caplog: pytest.LogCaptureFixture, taken: bool, says: str
) -> None:
    other = workers.Word(state_dir_of(hook.aios_home()))

    def fail() -> None:
        if taken:
            served.serving.config = SimpleNamespace(settings=served.serving.config.settings)
        raise HTTPException(500, "max_workers: abc")

    served.launch.fail = fail
    failed = served.client.post("/core/refresh")
    assert failed.status_code == 500
    assert "max_workers: abc" in failed.json()["detail"]
    assert says in failed.json()["detail"]
    assert says in caplog.text
    assert other.news() == ([("refresh", "")] if taken else [])


def until(met: Any, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(met())


def test_what_one_worker_is_told_the_others_do_once(served: Any) -> None:
    other = workers.Word(state_dir_of(hook.aios_home()))
    served.client.post("/eccos/mode", json={"mode": "observe"})
    served.client.post("/core/refresh")
    served.client.post("/user/select/llms", json=[{"name": "small"}])
    chosen = ("selection", '[{"name": "small"}]')
    assert other.news() == [("mode", "observe"), ("refresh", ""), chosen]
    assert other.news() == []
    other.leave("mode", "route")
    assert until(lambda: served.serving.mode == "route")
    other.leave("cleanup")
    assert until(lambda: served.launch.cleaned == 1)
    served.client.post("/core/cleanup")
    assert ([*other.news()], served.launch.cleaned) == ([("cleanup", "")], 2)
    other.leave("selection", "[]")
    assert until(lambda: served.launch.selected_llms["llms"] == [])
    other.leave("nothing that is known")
    other.leave("refresh")
    assert until(lambda: served.launch.refreshed == 2)
    time.sleep(0.2)
    assert served.launch.refreshed == 2
    assert other.news() == [], "the worker that was told tells nobody"


def test_word_that_cannot_be_left_or_read_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    word = workers.Word(tmp_path / "file")
    word.leave("refresh")
    assert "other workers do not hear of the refresh" in caplog.text
    for broken in ("", "[]", '{"refresh": 1}', '{"refresh": ["x", ""]}'):
        (tmp_path / "told.json").write_text(broken)
        assert workers.Word(tmp_path).news() == []


def test_word_left_at_the_same_moment_by_two_workers_is_all_kept(tmp_path: Path) -> None:
    one, two, heard = (workers.Word(tmp_path) for _ in range(3))
    for _ in range(50):
        begin = threading.Barrier(2)

        def leave(word: workers.Word, kind: str, begin: threading.Barrier = begin) -> None:
            begin.wait()
            word.leave(kind)

        both = [threading.Thread(target=leave, args=each) for each in ((one, "a"), (two, "b"))]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert sorted(kind for kind, _ in heard.news()) == ["a", "b"]


def test_a_state_that_was_replaced_before_it_was_acted_on_is_left_alone(tmp_path: Path) -> None:
    one, two = workers.Word(tmp_path), workers.Word(tmp_path)
    two.leave("mode", "route")
    assert one.news() == [("mode", "route")]
    assert one.stands("mode", "route")
    one.leave("mode", "observe")
    assert not one.stands("mode", "route")
    assert one.stands("refresh", ""), "an order stands"


def test_a_worker_that_is_told_to_refresh_looks_first(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served.path.write_text("llms: [a]")
    workers.Word(state_dir_of(hook.aios_home())).leave("refresh")
    assert until(lambda: "told of a refresh that failed here" in caplog.text)
    assert served.launch.refreshed == 0


def test_an_order_that_came_while_the_same_was_carried_out_is_not_missed(tmp_path: Path) -> None:
    one, two = workers.Word(tmp_path), workers.Word(tmp_path)
    one.leave("refresh")
    two.leave("refresh")  # begun before the other's, on older files
    assert two.news() == [("refresh", "")]
    assert (one.news(), one.news(), two.news()) == ([("refresh", "")], [], [])
    one.leave("mode", "observe")
    two.leave("mode", "route")
    assert (one.news(), two.news()) == ([("mode", "route")], [])


def test_word_is_heard_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = workers.Word(tmp_path), workers.Word(tmp_path)
    one.leave("refresh")
    assert two.news()
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    one.leave("refresh")
    assert two.news() == [("refresh", "")]


def test_a_refresh_under_way_is_over_before_the_end(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    begun, over = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.3)
        over.set()

    close = served.serving.close
    served.serving.close = lambda: closed.append(over.is_set()) or close()
    served.launch.fail = slow
    workers.Word(state_dir_of(hook.aios_home())).leave("refresh")
    assert begun.wait(5)
    served.client.__exit__(None, None, None)
    assert closed == [True]


def test_old_word_is_no_news(tmp_path: Path) -> None:
    workers.Word(tmp_path).leave("mode", "observe")
    assert workers.Word(tmp_path).news() == []
