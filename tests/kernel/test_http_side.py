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
from waiting import until

from aios_eccos.config import parse_settings
from aios_eccos.kernel import aios_config, http, status, workers
from aios_eccos.kernel.body_limit import AGENTS, MOST_VALUES
from aios_eccos.kernel.executor import StepFailed
from aios_eccos.kernel.scheduler import Process
from aios_eccos.kernel.workers import Broadcast
from aios_eccos.locate import state_dir_of

#: Its import warns that it would rather have another client of HTTP.
TestClient = pytest.importorskip("fastapi.testclient").TestClient

CONFIG = """
llms:
  models: [{name: small, backend: vllm, hostname: "http://localhost:1/v1"}]
  router: {strategy: eccos, eccos: {quality_floor: 0.5}}
"""


#: What AIOS cannot read, though nothing of it is ours.
NO_AIOS = ("", "# all is gone", *(f"{CONFIG}{name}:" for name in ("memory", "storage", "api_keys")))


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
    serving: Any = SimpleNamespace(
        config=SimpleNamespace(settings=parse_settings({"http_threads": 64})),
        mode="route",
        engine=None,
        close=ended.set,
    )
    serving.switch = lambda mode: setattr(serving, "mode", mode)
    manager = SimpleNamespace(config_path=str(path), config="read before")
    monkeypatch.setattr(aios_config, "manager", lambda: manager)
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(workers, "LOOK_S", 0.02)
    process = Process(state_dir_of(aios_config.aios_home()))
    process.serving = serving
    launch: Any = Launch()
    stock = launch.app.router.lifespan_context
    launch.app.router.lifespan_context = http.lifespan(launch, process, stock)
    with TestClient(launch.app, "http://localhost", client=("127.0.0.1", 50000)) as client:
        yield SimpleNamespace(
            launch=launch, client=client, serving=serving, path=path, process=process
        )
    assert ended.is_set(), "what is ours ends with the server"


def ask(served: Any, agent: str = "a") -> Any:
    body = {"query_type": "storage", "agent_name": agent, "query_data": {}}
    return served.client.post("/query", json=body)


def test_half_a_character_in_an_agents_name_stops_no_print_of_aios(served: Any) -> None:
    raw = rb'{"query_type": "storage", "agent_name": "a\ud800", "query_data": {}}'
    served.launch.execute_request = lambda agent, data: agent.encode() and agent
    response = served.client.post(
        "/query", content=raw, headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.json()) == (200, "a\ufffd")


def test_as_many_queries_as_threads_run_at_once_and_none_on_the_event_loop(served: Any) -> None:
    together = threading.Barrier(40)
    served.launch.execute_request = lambda agent, data: together.wait(60)
    with ThreadPoolExecutor(40) as clients:
        waiting = [clients.submit(ask, served) for _ in range(39)]
        assert served.client.get("/status").json() == "up"
        assert not any(call.done() for call in waiting), "39 operations that hang stall no answer"
        assert ask(served).status_code == 200
        assert {call.result().status_code for call in waiting} == {200}


@pytest.mark.usefixtures("served")
def test_a_full_collection_of_garbage_does_not_look_at_what_the_start_has_made() -> None:
    assert gc.get_freeze_count() > len(gc.get_objects())


def test_the_server_says_that_both_are_ours(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "find_launch", lambda: served.launch)
    assert status.executor() == 64
    assert status.seams(served.process)["query route"]


def test_no_other_page_may_frame_what_is_shown(served: Any) -> None:
    page = served.client.get("/eccos/")
    mode = served.client.post("/eccos/mode", json={"mode": "observe"})
    for answer in (page, mode):
        assert answer.status_code == 200
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


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


def test_a_query_beyond_all_use_is_refused_and_one_with_pictures_is_not(served: Any) -> None:
    assert ask(served, "x" * 5_000_000).status_code == 200
    for path in ("/query", "/user/select/llms"):
        answer = served.client.post(path, content=b" " * (AGENTS + 1))
        assert answer.status_code == 413, path
        answer = served.client.post(path, content=b"[" + b"{}," * (MOST_VALUES // 2) + b"{}]")
        assert (answer.status_code, "values" in answer.text) == (413, True), path


def test_any_other_failure_is_a_500_with_its_text(served: Any) -> None:
    served.launch.execute_request = lambda agent, data: {}["secret"]
    assert (ask(served).status_code, ask(served).json()["detail"]) == (500, "'secret'")


def test_an_error_that_no_answer_could_hold_is_told_all_the_same(served: Any) -> None:
    def fail(agent: str, data: Any) -> None:
        raise ValueError("half \ud800 " + "a" * 10**6)

    served.launch.execute_request = fail
    answer = ask(served)
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("half \ufffd aaa")
    assert len(answer.text) < 20_000


def test_half_a_character_in_a_tools_answer_reaches_the_agent(served: Any) -> None:
    served.launch.execute_request = lambda agent, data: {"response": "half \ud800", "n": [1.5]}
    answer = ask(served)
    assert (answer.status_code, answer.json()["response"]) == (200, "half \ud800")


@pytest.mark.parametrize(
    ("chosen", "status"),
    [
        (b'"small"', 422),
        (b'{"name": "small"}', 422),
        (b'["small"]', 422),
        (b'[{"name": null}]', 422),
        (b'[{"provider": "vllm"}]', 422),
        (b"{", 400),
        (b"", 400),
        (b"[" * 100_000, 400),
    ],
)
def test_a_selection_of_what_is_no_model_is_refused(
    served: Any, chosen: bytes, status: int
) -> None:
    answer = served.client.post("/user/select/llms", content=chosen)
    assert (answer.status_code, served.launch.selected_llms["llms"]) == (status, [])


def test_a_refresh_looks_first(served: Any) -> None:
    assert served.client.post("/core/refresh").json() == "refreshed"
    served.path.write_text(CONFIG.replace("quality_floor", "quality_flor"))
    refused = served.client.post("/core/refresh")
    assert refused.status_code == 422
    assert "quality_flor" in refused.json()["detail"]
    for broken in ("llms: {router: eccos}", "llms: [a]", "llms: {models: [], router: {", *NO_AIOS):
        served.path.write_text(broken)
        assert served.client.post("/core/refresh").status_code == 422
    for broken, said in (
        ("llms: {models: [{name: a}], router: {strategy: ecos}}", "llms.router.strategy = 'ecos'"),
        ("llms: {models: [{name: a}], router: {strategy: [a]}}", "llms.router.strategy = (list)"),
        ("llms: {models: [{name: a}], router: {strategy: }}", "llms.router.strategy = None"),
        ("server: {port: 1}", "llms.models"),
        ("llms: {router: {strategy: smart}}", "llms.models"),
        ("llms: {models: [], router: {strategy: eccos}}", "llms.models"),
        (CONFIG.replace("localhost:1", "[::1"), "llms.models[0].hostname = (hidden)"),
    ):
        served.path.write_text(broken)
        assert said in served.client.post("/core/refresh").json()["detail"]
    served.path.write_text("llms: [{api_key: sk-secret}]")
    assert "sk-secret" not in served.client.post("/core/refresh").text
    assert served.launch.refreshed == 1


@pytest.mark.parametrize(
    ("taken", "says"), [(False, "the one before stays"), (True, "the new one")]
)
def test_a_refresh_that_fails_in_aios_says_which_configuration_is_in_force(
    served: Any, caplog: pytest.LogCaptureFixture, taken: bool, says: str
) -> None:
    other = Broadcast(state_dir_of(aios_config.aios_home()))

    def fail() -> None:
        aios_config.manager().config = "read now"
        if taken:
            served.serving.config = SimpleNamespace(settings=served.serving.config.settings)
        raise HTTPException(500, "max_workers: abc")

    served.launch.fail = fail
    failed = served.client.post("/core/refresh")
    assert failed.status_code == 500
    assert "max_workers: abc" in failed.json()["detail"]
    assert says in failed.json()["detail"]
    assert says in caplog.text
    assert aios_config.manager().config == ("read now" if taken else "read before")
    assert other.receive() == ([("refresh", "")] if taken else [])


def test_what_one_worker_is_told_the_others_do_once(served: Any) -> None:
    other = Broadcast(state_dir_of(aios_config.aios_home()))
    served.client.post("/eccos/mode", json={"mode": "observe"})
    served.client.post("/core/refresh")
    served.client.post("/user/select/llms", json=[{"name": "small"}])
    chosen = ("selection", '[{"name": "small"}]')
    assert other.receive() == [("mode", "observe"), ("refresh", ""), chosen]
    assert other.receive() == []
    other.send("mode", "route")
    until(lambda: served.serving.mode == "route")
    other.send("cleanup")
    until(lambda: served.launch.cleaned == 1)
    served.client.post("/core/cleanup")
    assert ([*other.receive()], served.launch.cleaned) == ([("cleanup", "")], 2)
    other.send("selection", "[]")
    until(lambda: served.launch.selected_llms["llms"] == [])
    other.send("nothing that is known")
    other.send("refresh")
    until(lambda: served.launch.refreshed == 2)
    time.sleep(0.2)
    assert served.launch.refreshed == 2
    assert other.receive() == [], "the worker that was told tells nobody"


def test_a_message_that_cannot_be_sent_or_read_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    sender = Broadcast(tmp_path / "file")
    sender.send("refresh")
    assert "other workers do not hear of the refresh" in caplog.text
    for broken in ("", "[]", '{"refresh": 1}', '{"refresh": ["x", ""]}'):
        (tmp_path / "broadcast.json").write_text(broken)
        assert Broadcast(tmp_path).receive() == []


def test_messages_sent_at_the_same_moment_by_two_workers_are_all_kept(tmp_path: Path) -> None:
    one, two, heard = (Broadcast(tmp_path) for _ in range(3))
    for _ in range(50):
        begin = threading.Barrier(2)

        def send(sender: Broadcast, kind: str, begin: threading.Barrier = begin) -> None:
            begin.wait()
            sender.send(kind)

        both = [threading.Thread(target=send, args=each) for each in ((one, "a"), (two, "b"))]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert sorted(kind for kind, _ in heard.receive()) == ["a", "b"]


def test_a_state_that_was_replaced_before_it_was_acted_on_is_left_alone(tmp_path: Path) -> None:
    one, two = Broadcast(tmp_path), Broadcast(tmp_path)
    two.send("mode", "route")
    assert one.receive() == [("mode", "route")]
    assert one.is_last("mode", "route")
    one.send("mode", "observe")
    assert not one.is_last("mode", "route")
    assert one.is_last("refresh", ""), "an order stands"


def test_a_worker_that_is_told_to_refresh_looks_first(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served.path.write_text("llms: [a]")
    Broadcast(state_dir_of(aios_config.aios_home())).send("refresh")
    until(lambda: "asked for failed here: llms: wanted a mapping" in caplog.text)
    assert served.launch.refreshed == 0


def test_an_order_that_came_while_the_same_was_carried_out_is_not_missed(tmp_path: Path) -> None:
    one, two = Broadcast(tmp_path), Broadcast(tmp_path)
    one.send("refresh")
    two.send("refresh")  # begun before the other's, on older files
    assert two.receive() == [("refresh", "")]
    assert (one.receive(), one.receive(), two.receive()) == ([("refresh", "")], [], [])
    one.send("mode", "observe")
    two.send("mode", "route")
    assert (one.receive(), two.receive()) == ([("mode", "route")], [])


def test_a_message_is_received_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Broadcast(tmp_path), Broadcast(tmp_path)
    one.send("refresh")
    assert two.receive()
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    one.send("refresh")
    assert two.receive() == [("refresh", "")]


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
    Broadcast(state_dir_of(aios_config.aios_home())).send("refresh")
    assert begun.wait(60)
    served.client.__exit__(None, None, None)
    assert closed == [True]


def test_messages_from_before_the_start_are_not_received(tmp_path: Path) -> None:
    Broadcast(tmp_path).send("mode", "observe")
    assert Broadcast(tmp_path).receive() == []
