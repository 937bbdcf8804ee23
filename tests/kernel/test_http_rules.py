"""Who may call our routes, and what a global selection means."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aios_eccos.config import parse_settings
from aios_eccos.kernel import handlers, routes
from aios_eccos.kernel.handlers import selection
from aios_eccos.kernel.routes import refusal
from aios_eccos.kernel.workers import Broadcast

SMALL = {"name": "small", "provider": "vllm"}


def test_without_a_selection_the_agents_list_stands() -> None:
    assert selection(None, []) is None
    assert selection([{"name": "x"}], []) == [{"name": "x"}]


def test_a_selection_stands_in_for_no_list_and_is_not_shared() -> None:
    chosen = selection(None, [SMALL])
    assert chosen == [SMALL]
    assert chosen is not None
    assert chosen[0] is not SMALL


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "small"},
        {"name": "small", "backend": "vllm"},
        {"name": "small", "provider": "vllm"},
    ],
)
def test_a_pinned_model_passes_whatever_its_backend_is_called(entry: dict[str, str]) -> None:
    assert selection([entry, {"name": "large"}], [SMALL]) == [entry]


def test_what_is_not_selected_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="large is not selected"):
        selection([{"name": "large"}], [SMALL])
    with pytest.raises(ValueError, match="small"):
        selection([{"name": "small", "backend": "ollama"}], [SMALL])


@pytest.mark.parametrize(
    ("client", "host", "origin", "allowed"),
    [
        ("127.0.0.1", "localhost:8000", None, True),
        ("::1", "[::1]:8000", None, True),
        ("127.0.0.1", "localhost:8000", "http://localhost:3000", True),
        ("127.0.0.1", "localhost:8000", "http://evil.example", False),
        ("127.0.0.1", "evil.example:8000", None, False),
        ("127.0.0.1", "localhost:8000", "null", False),
        ("10.0.0.5", "localhost:8000", None, False),
        ("", "localhost", None, False),
    ],
)
def test_only_this_machine_and_its_own_pages(
    client: str, host: str, origin: str | None, allowed: bool
) -> None:
    assert (refusal(client, host, origin, None, None) is None) is allowed


def test_a_token_is_required_once_it_is_set() -> None:
    far = ("10.0.0.5", "kernel.example", "http://evil.example")
    assert refusal(*far, "Bearer secret", "secret") is None
    for sent in (None, "Bearer wrong", "Basic secret", "Bearer "):
        assert refusal("127.0.0.1", "localhost", None, sent, "secret") is not None


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        (None, {}, 200),
        (None, {"Origin": "http://evil.example"}, 403),
        ("secret", {}, 401),
        ("secret", {"Authorization": "Bearer wrong"}, 401),
        ("secret", {"Authorization": "Bearer secret", "Origin": "http://evil.example"}, 200),
    ],
)
def test_a_refused_request_is_told_what_is_missing(
    tmp_path: Path, token: str | None, headers: dict[str, str], status: int
) -> None:
    fastapi = pytest.importorskip("fastapi")
    client = pytest.importorskip("fastapi.testclient")
    app = fastapi.FastAPI()
    settings = parse_settings({"http_token": token})
    modes: list[str] = []
    serving = SimpleNamespace(config=SimpleNamespace(settings=settings), switch=modes.append)
    process: Any = SimpleNamespace(serving=serving, broadcast=Broadcast(tmp_path))
    routes.add(app, process)
    answer = client.TestClient(app, base_url="http://localhost").post(
        "/eccos/mode", json={"mode": "route"}, headers=headers
    )
    assert answer.status_code == status
    assert ("Bearer" in answer.headers.get("WWW-Authenticate", "")) is (status == 401)
    assert modes == (["route"] if status == 200 else [])


def test_a_client_that_left_is_heard_of_though_calls_fill_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handlers, "PRESENCE_S", 0.01)
    dropped = threading.Event()

    async def gone() -> bool:
        return True

    launch: Any = SimpleNamespace(
        QueryRequest=object, execute_request=lambda agent, data: dropped.wait(5)
    )
    serving: Any = SimpleNamespace(leave=lambda caller: dropped.set())
    body = SimpleNamespace(query_type="storage", query_data=None, agent_name="agent")

    async def ask() -> object:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        query = handlers.query_handler(launch, serving)
        return await query(body, SimpleNamespace(is_disconnected=gone))

    assert asyncio.run(ask()) is True
