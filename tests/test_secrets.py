"""No password, token or key is in what the plugin says, wherever it comes from."""

from __future__ import annotations

import socket
import time
import traceback
from pathlib import Path

import pytest

from aios_eccos.collect.client import load_endpoints
from aios_eccos.config import Settings
from aios_eccos.errors import ConfigError, EccosError, HistoryError, hide
from aios_eccos.history.client import open_server
from aios_eccos.kernel.answers import explain
from aios_eccos.kernel.client import url_of
from aios_eccos.locate import Config, Location
from aios_eccos.providers.transport import HttpProvider
from aios_eccos.serve.shared_servers import fetched
from aios_eccos.values import Failure
from aios_eccos.workload.connect import open_workload

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:hunter2@h:1/a", "http://(hidden)@h:1/a"),
        ("redis://:hunter2@h", "redis://(hidden)@h"),
        ("at https://hunter2@h, and so on", "at https://(hidden)@h, and so on"),
        ("http://u:hun/ter#2?@h", "http://(hidden)@h"),
        ("socks5://u:p@hunter2@h", "socks5://(hidden)@h"),
        ("URL('http://u:hunter2@h')", "URL('http://(hidden)@h')"),
        ("https://h/v1?key=hunter2&alt=sse", "https://h/v1?key=(hidden)&alt=sse"),
        ("https://h/v1?x=1&api-key=hunter2", "https://h/v1?x=1&api-key=(hidden)"),
        ("https://h/?access_token=hunter2", "https://h/?access_token=(hidden)"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer (hidden)"),
        ("authorization: basic aHVudGVyMg==", "authorization: basic (hidden)"),
    ],
)
def test_secrets_in_somebody_elses_words_are_hidden(text: str, shown: str) -> None:
    assert hide(text) == shown


@pytest.mark.parametrize("word", ["http://", "://a", "a@://", "?key=", "&x-key=", "bearer a "])
def test_a_text_that_is_all_marks_of_secrets_is_read_at_once(word: str) -> None:
    begun = time.thread_time()
    hide(word * 200_000)
    assert time.thread_time() - begun < 5, "all other threads wait meanwhile"


@pytest.mark.parametrize(
    "text",
    ["", "ask me@example.com", "http://h:1/a?model=x", "a token is missing", "bearer of news"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide(text) == text


@pytest.mark.parametrize(
    "url",
    [
        "https://eccos:hunter2@chroma.example:80a0",
        "chroma://eccos:hunter2@chroma.example",
        "http://eccos:hunter2@:8000",
        "http://eccos:8000/hunter2@chroma.example",
        "http://eccos:8000#hunter2@chroma.example",
        "http://[hunter2@chroma.example",
        "http://hunter2@[::1",
        "http://eccos:'hunter2'@chroma.example:x",
        "//eccos:hunter2@chroma.example",
        "http://eccos:hunter2@127.0.0.1:9",
        ":hunter2//1@127.0.0.1:9",
        "u:1=;hunter2://@[::1",
    ],
)
def test_a_history_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(HistoryError) as failed:
        open_server(url)
    assert SECRET not in str(failed.value)
    assert failed.value.__cause__ is None or SECRET not in str(failed.value.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        "redis://eccos:hunter2@127.0.0.1:9",
        "redis://:hunter2@127.0.0.1:port",
        "rediss://eccos:8000/hunter2@h",
        "redis://[hunter2@h",
        "redis+sentinel://:hunter2@127.0.0.1:9/mymaster",
        "redis+cluster://:hunter2@127.0.0.1:9",
        "redis://127.0.0.1:9?password=hunter2",
    ],
)
def test_a_redis_that_cannot_be_used_is_named_without_its_password(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(EccosError) as failed:
        open_workload(url, state_dir=tmp_path, member=False)
    assert SECRET not in str(failed.value)
    if isinstance(failed.value, ConfigError):
        assert SECRET not in str(failed.value.__cause__ or "")


@pytest.mark.parametrize(
    "url",
    [
        "http://eccos:hunter2@h:port/v1",
        "//eccos:hunter2@h:port/v1",
        "http://eccos:hunter2 or so@h:port/v1",
        "http://eccos:'hunter2'@h:port/v1",
        "http://eccos:a://hunter2@h:port/v1",
        "http://eccos:a@hunter2@h:port/v1",
        "http://hunter2@[::1/v1",
        "http://eccos:hunter2/x@h:port/v1",
        "http://eccos:hunter2?x@h:port/v1",
        "http://h:port/v1?api-key=hunter2",
        "http://eccos:hunter2\uff20@h:port/v1",
        "http://eccos:\u2100hunter2@h:port/v1",
        "http://[:1%40hunter2@[::1/v1",
    ],
)
def test_a_models_server_that_cannot_be_asked_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"h:port/v1|\[::1/v1") as failed:
        HttpProvider(url)
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://u:hunter2/x@proxy.example:1",
        "http://u:hunter2#x@proxy.example",
        "http://u:hunter2@proxy.example:port",
        "socks9://u:hunter2@proxy.example",
        "u:hunter2/x@proxy.example",
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConfigError, match=r"h\.example/v1, by .*proxy\.example") as failed:
        HttpProvider("http://h.example/v1")
    assert SECRET not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize(
    "proxy",
    [
        "http://u:hunter2/x@proxy.example:1",
        "http://u:hunter2@proxy.example:port",
        "socks5://u:hunter2@proxy.example",
        "socks9://u:hunter2@proxy.example",
    ],
)
def test_a_proxy_that_other_requests_cannot_use_is_told_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(OSError) as failed:
        fetched("http://h.example/metrics")
    assert SECRET not in "".join(traceback.format_exception(failed.value))
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(HistoryError) as refused:
        open_server(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["[{name: a, api_key: hunter2", 'api_keys:\n - "hunter2', "a: *hunter2", "a: !!int hunter2"],
)
def test_a_file_of_models_that_is_no_yaml_is_told_without_its_keys(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"models\.yaml: ") as failed:
        load_endpoints(Location(None, None, tmp_path, "a test"), path)
    assert SECRET not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize(
    "text",
    [
        f"server: {{port: 0x{'f' * 4000}}}",
        f"server: {{host: 0x{'f' * 4000}}}",
        "server: {host: [hunter2]}",
        "server: {host: 'http://u:hunter2@h'}",
        "server: {port: 'http://u:hunter2@h'}",
    ],
)
def test_an_address_of_the_kernel_that_is_none_is_refused_by_its_key(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config = Config(Location(tmp_path, path, tmp_path, "a test"), Settings(), ())
    with pytest.raises(ConfigError, match=r"server\.(port|host) = \(") as failed:
        url_of(config)
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize(
    "words",
    [
        "400 for url https://gemini.example/v1/models/x:generate?key=hunter2",
        "proxy http://u:hunter2@proxy.example:3128 refused",
        "bad header Authorization: Bearer hunter2hunter2",
    ],
)
def test_what_an_agent_hears_of_a_failed_request_holds_no_secret(words: str) -> None:
    said = explain(Failure("400", 400), "m", RuntimeError(words))
    assert SECRET not in said
    assert "(hidden)" in said
