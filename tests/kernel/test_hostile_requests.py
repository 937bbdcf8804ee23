"""Requests to /eccos/ that nobody sends by mistake are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

fastapi = pytest.importorskip("fastapi")
TestClient = pytest.importorskip("fastapi.testclient").TestClient


@pytest.fixture
def client(fresh: Any) -> Any:
    """A client on this machine of a kernel that has answered one call."""
    from aios_eccos.kernel import routes

    app = fastapi.FastAPI()
    routes.add(app, fresh.process)
    fresh.ask("hello")
    return TestClient(app, "http://localhost", client=("127.0.0.1", 50000))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/eccos/decisions?n=-5", 200),
        (f"/eccos/decisions?n={10**30}", 200),
        ("/eccos/decisions?n=x", 422),
        ("/eccos/decisions/" + "a" * 10_000, 404),
        ("/eccos/decisions/%00", 404),
        ("/eccos/decisions/%ed%a0%80", 404),
        ("/eccos/decisions/..%2f..%2fetc", 404),
        ("/eccos/decisions/999999999999999999999999-1", 404),
        ("/eccos/savings?baseline=%ff", 200),
        ("/eccos/events?n=0", 200),
    ],
)
def test_a_look_up_of_nonsense_is_answered(client: Any, path: str, status: int) -> None:
    assert client.get(path).status_code == status


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("explain", rb'{"text": "\ud800"}', "body.text"),
        ("explain", rb'{"text": "a", "agent": "\udfff"}', "body.agent"),
        ("explain", rb'{"text": "a", "\ud800": 1}', "body"),
        ("explain", b'{"text": NaN}', "body.text"),
        ("explain", b'{"text": "' + b"a" * 300_000 + b'"}', "body.text"),
        ("explain", b"\xff\xfe", "body"),
        ("explain", b"[" * 100_000, ""),
        ("mode", b'{"mode": ["route"]}', "body.mode"),
        ("mode", b'{"mode": "on"}', "'route', 'observe' or 'canary'"),
        ("feedback", b'{"id": "last", "correctness": NaN}', "body.correctness"),
        ("feedback", b'{"id": "last", "correctness": 1e999}', "body.correctness"),
        ("feedback", rb'{"id": "\ud800", "correctness": 1}', "body.id"),
    ],
)
def test_a_body_that_is_none_is_refused_by_key_and_not_repeated(
    client: Any, path: str, body: bytes, names: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"/eccos/{path}", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert names in answer.json()["detail"]
    assert len(answer.text) < 600


def test_who_may_not_ask_is_refused_before_the_body_is_read(client: Any) -> None:
    answer = client.post("/eccos/explain", content=b"[" * 100, headers={"Host": "evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["explain", "route", "feedback", "mode", "audit"])
@pytest.mark.parametrize("told", [True, False])
def test_a_body_beyond_all_use_is_refused_before_it_is_held(
    client: Any, path: str, told: bool
) -> None:
    sent = 0

    def body() -> Any:
        nonlocal sent
        for _ in range(50):
            sent += 1_000_000
            yield b" " * 1_000_000

    content = b" " * 3_000_000 if told else body()
    answer = client.post(f"/eccos/{path}", content=content)
    assert answer.status_code == 413
    assert "2,000,000 bytes" in answer.json()["detail"]
