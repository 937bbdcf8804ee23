"""How servers are reached: proxies, addresses, what is sent."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from aios_eccos.errors import ConfigError
from aios_eccos.providers.failures import Broken, StatusError, failure_of
from aios_eccos.providers.transport import HttpProvider, LiteLLMProvider

PROXIES = [f"{name}_PROXY" for name in ("ALL", "HTTP", "HTTPS", "NO")]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Answering(BaseHTTPRequestHandler):
    """Answers what the request's first message says."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        status, _, text = body["messages"][0]["content"].partition(" ")
        raw = text.encode()
        if status == "drip":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Answering.asked = []
    with HTTPServer(("127.0.0.1", 0), Answering) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: HTTPServer, text: str, host: str = "127.0.0.1") -> object:
    provider = HttpProvider(f"http://{host}:{server.server_port}/v1")
    try:
        return provider.complete({"messages": [{"role": "user", "content": text}]}, 5.0)
    finally:
        provider.close()


@pytest.mark.parametrize(
    "proxy",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "socks5h://127.0.0.1:9"},
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "elsewhere"},
        {"HTTPS_PROXY": "nonsense://", "ALL_PROXY": "http://127.0.0.1:9"},
    ],
    ids=str,
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_without_a_proxy(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch, proxy: dict[str, str], host: str
) -> None:
    for name, value in proxy.items():
        monkeypatch.setenv(name, value)
    assert ask(server, '200 {"a": 1}', host) == {"a": 1}


@pytest.mark.parametrize("proxy", ["socks5://user:secret@p.example:7897", "nonsense://p.example"])
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError, match=r"models.example.*p.example") as error:
        HttpProvider("http://models.example/v1")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_proxy_for_others_stands_in_nobodys_way(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{server.server_port}")
    provider = HttpProvider("http://models.example/v1")
    request = {"messages": [{"role": "user", "content": '200 {"by": "the proxy"}'}]}
    assert provider.complete(request, 5.0) == {"by": "the proxy"}
    provider.close()


def test_a_host_that_is_excepted_is_asked_without_a_proxy(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "models.example")
    HttpProvider("http://models.example/v1").close()


@pytest.mark.parametrize("url", ["http://[", "http://h:port/v1"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        HttpProvider(url)


def test_libraries_that_look_for_proxies_themselves_leave_this_machine_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "litellm", httpx)
    monkeypatch.setattr(httpx, "completion", None, raising=False)
    monkeypatch.setenv("NO_PROXY", "models.example,localhost")
    monkeypatch.setenv("no_proxy", "")
    LiteLLMProvider("openai/m", {})
    for name in ("NO_PROXY", "no_proxy"):
        assert os.environ[name] == "models.example,localhost,127.0.0.1,::1"


def test_a_servers_error_carries_its_words_and_its_wait(server: HTTPServer) -> None:
    with pytest.raises(StatusError, match="slow down") as error:
        ask(server, '429 {"error": {"message": "slow down"}}')
    assert failure_of(error.value).retry_after_s == 7
    with pytest.raises(StatusError) as error:  # Google's come as a list
        ask(server, '400 [{"error": {"message": "it does not support tools"}}]')
    assert failure_of(error.value).refused == "tools"


def test_an_answer_that_never_ends_is_given_up_in_time(server: HTTPServer) -> None:
    provider = HttpProvider(f"http://127.0.0.1:{server.server_port}/v1")
    with pytest.raises(httpx.ReadTimeout):  # otherwise the test does not end
        provider.complete({"messages": [{"role": "user", "content": "drip"}]}, 0.3)
    provider.close()


@pytest.mark.parametrize("text", ["200 <html>", "200 ", '200 {"choices": [{"mess'])
def test_a_good_status_without_json_is_a_broken_answer(server: HTTPServer, text: str) -> None:
    with pytest.raises(Broken, match="invalid answer"):
        ask(server, text)


def test_halves_of_characters_are_replaced_before_they_are_sent(server: HTTPServer) -> None:
    ask(server, '200 {"half": "\ud83d"}')
    assert Answering.asked[0]["messages"][0]["content"].endswith('"\ufffd"}')


@pytest.mark.parametrize("odd", [float("nan"), {1, 2}])
def test_a_request_that_is_no_json_is_the_agents_own_fault(server: HTTPServer, odd: object) -> None:
    provider = HttpProvider(f"http://127.0.0.1:{server.server_port}/v1")
    with pytest.raises(Broken) as broken:
        provider.complete({"messages": [], "temperature": odd}, 5.0)
    provider.close()
    failure = failure_of(broken.value)
    assert (failure.status_code, failure.retryable, failure.elsewhere) == (400, False, False)
