"""Who may call our routes, and what a global selection means."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aios_eccos.config import parse_settings
from aios_eccos.kernel import http, routes
from aios_eccos.kernel.http import selection
from aios_eccos.kernel.routes import refusal
from aios_eccos.kernel.workers import Broadcast

TOKEN = "tk-d4f1-long-enough"
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
        ("127.0.0.2", "LOCALHOST", None, True),
        ("::1", "[::1]:8000", None, True),
        ("::ffff:127.0.0.1", "127.0.0.1:8000", None, True),
        ("127.0.0.1", "localhost:8000", "http://localhost:3000", True),
        ("127.0.0.1", "localhost:8000", "https://[::1]:3000", True),
        ("127.0.0.1", "localhost:8000", "http://evil.example", False),
        ("127.0.0.1", "localhost:8000", "http://evil.example@localhost", False),
        ("127.0.0.1", "localhost:8000", "http://localhost@evil.example", False),
        ("127.0.0.1", "localhost:8000", "http://localhost.evil.example", False),
        ("127.0.0.1", "localhost:8000", "http://[", False),
        ("127.0.0.1", "localhost:8000", "file://", False),
        ("127.0.0.1", "localhost:8000", "null", False),
        ("127.0.0.1", "localhost:8000", "http://" + "a" * 100_000, False),
        ("127.0.0.1", "evil.example:8000", None, False),
        ("127.0.0.1", "0.0.0.0:8000", None, False),
        ("127.0.0.1", "127.0.0.1.evil.example", None, False),
        ("10.0.0.5", "localhost:8000", None, False),
        ("testclient", "localhost:8000", None, False),
        ("", "localhost", None, False),
    ],
)
def test_only_this_machine_and_its_own_pages(
    client: str, host: str, origin: str | None, allowed: bool
) -> None:
    assert (refusal(client, host, origin, None, None) is None) is allowed


MALFORMED = [
    "[",
    "[::1",
    "a[b",
    "localhost:x",
    "localhost:8000:9",
    "localhost:123456",
    "user@localhost",
    "localhost/eccos",
    "local host",
    "localhost,localhost",
    "a" * 100_000,
    "localhost\x00",
    "b\xfccher.example",
]


@pytest.mark.parametrize("host", MALFORMED)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_malformed_host_is_a_bad_request(host: str, token: str | None) -> None:
    refused = refusal("127.0.0.1", host, None, f"Bearer {TOKEN}", token)
    assert refused is not None
    assert refused[0] == 400


def test_a_token_is_required_once_it_is_set() -> None:
    far = ("10.0.0.5", "kernel.example", "http://evil.example")
    for sent in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
        assert refusal(*far, sent, TOKEN) is None
    refused = (None, "", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN} ")
    for wrong in (*refused, f"Bearer {TOKEN[:-1]}", "Bearer \xfc", "Bearer " + "x" * 1_000_000):
        assert refusal("127.0.0.1", "localhost", None, wrong, TOKEN) is not None, wrong[:20]


@pytest.fixture
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A client on this machine of a kernel with the token that the test names."""
    fastapi = pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    app = fastapi.FastAPI()
    settings = parse_settings({"http_token": request.param})
    modes: list[str] = []
    serving = SimpleNamespace(
        config=SimpleNamespace(settings=settings), switch=modes.append, engine=None
    )
    routes.add(app, cast(Any, SimpleNamespace(serving=serving, broadcast=Broadcast(tmp_path))))
    found = testclient.TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))
    found.modes = modes
    return found


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        (None, {}, 200),
        (None, {"Origin": "http://evil.example"}, 403),
        (None, {"Host": "["}, 400),
        (None, {"Host": "evil.example"}, 403),
        (None, {"X-Forwarded-For": "127.0.0.1"}, 403),
        (None, {"X-Forwarded-Host": "localhost"}, 403),
        (None, {"Forwarded": "for=127.0.0.1"}, 403),
        (None, {"X-Real-IP": "127.0.0.1"}, 403),
        (TOKEN, {}, 401),
        (TOKEN, {"Host": "["}, 400),
        (TOKEN, {"Authorization": "Bearer wrong"}, 401),
        (TOKEN, {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}, 200),
        (TOKEN, {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "10.0.0.5"}, 200),
    ],
    indirect=["client"],
)
def test_a_refused_request_is_told_what_is_missing(
    client: Any, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/eccos/mode", json={"mode": "route"}, headers=headers)
    assert answer.status_code == status
    assert ("Bearer" in answer.headers.get("WWW-Authenticate", "")) is (status == 401)
    assert client.modes == (["route"] if status == 200 else [])
    assert TOKEN not in answer.text


@pytest.mark.parametrize("client", [None], indirect=True)
def test_two_hosts_in_one_request_are_a_bad_request(client: Any) -> None:
    hosts = [("Host", "localhost"), ("Host", "evil.example")]
    assert client.get("/eccos/kernel", headers=hosts).status_code == 400


def test_a_client_that_left_is_heard_of_though_calls_fill_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "PRESENCE_S", 0.01)
    dropped = threading.Event()

    async def gone() -> bool:
        return True

    launch: Any = SimpleNamespace(
        QueryRequest=object, execute_request=lambda agent, data: dropped.wait(60)
    )
    serving: Any = SimpleNamespace(leave=lambda caller: dropped.set())
    body = SimpleNamespace(query_type="storage", query_data=None, agent_name="agent")

    async def ask() -> object:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        query = http.query_handler(launch, serving)
        return await query(body, SimpleNamespace(is_disconnected=gone))

    assert asyncio.run(ask()) is True
