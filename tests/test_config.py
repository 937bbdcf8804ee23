"""Settings and models: what is accepted, and what the refusals say."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aios_eccos.config import (
    Floor,
    ModelEntry,
    Settings,
    parse_config,
    parse_models,
    parse_settings,
    yaml_text,
)
from aios_eccos.config.checks import NUMBERS
from aios_eccos.errors import ConfigError
from aios_eccos.locate import load_config, locate, remember_enabled, state_dir_of


def test_nothing_configured_means_all_defaults() -> None:
    assert parse_settings(None) == Settings()


@pytest.mark.parametrize(
    ("raw", "floor"),
    [("95 %", Floor(0.95, True)), ("95%", Floor(0.95, True)), (0.8, Floor(0.8, False))]
    + [
        ("strongest - 3 points", Floor(1.0, True, 0.03)),
        ("strongest -2.5 points", Floor(1.0, True, 0.025)),
    ],
)
def test_a_floor_is_absolute_or_a_share_of_the_strongest(raw: object, floor: Floor) -> None:
    assert parse_settings({"quality_floor": raw}).quality_floor == floor


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"quality_floor": 1.4}, ["quality_floor = 1.4", "0..1"]),
        ({"quality_floor": True}, ["quality_floor = True", "0..1"]),
        ({"quality_floor": "95 %%"}, ["quality_floor = '95 %%'", "0..1"]),
        ({1: 2}, ["llms.router.eccos.1", "strings"]),
        ({"agents": {"a": {"models": "x"}}}, ["agents.a.models = 'x'"]),
        ({"quality_flor": 1}, ["quality_flor", "did you mean 'quality_floor'"]),
        ({"window_ms": -1}, ["window_ms = -1", "greater than or equal to 0"]),
        ({"predictor": "magic"}, ["predictor = 'magic'", "'retrieval', 'trained' or 'hybrid'"]),
        ({"namespace": "a b"}, ["namespace = 'a b'"]),
        ({"redis": "localhost:6379"}, ["redis = (hidden)", "allowed: embedded", "redis://"]),
        ({"redis": ""}, ["redis = (hidden)", "allowed: embedded"]),
        ({"agents": {"a/*": {"model": ["x"]}}}, ["agents.a/*.model", "did you mean 'models'"]),
        ({"agents": {"a/*": {"quality_floor": 2}}}, ["agents.a/*.quality_floor = 2"]),
        (["x"], ["llms.router.eccos", "mapping"]),
    ],
)
def test_a_refusal_names_key_value_and_what_is_allowed(raw: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_settings(raw)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], ["llms.models", "at least one"]),
        ([{"backend": "vllm"}], ["llms.models[0].name", "missing"]),
        ([{"name": "a", "concurrency": 0}], ["llms.models[0].concurrency = 0"]),
        ([{"name": "a", "input_cost_per_token": -1}], ["input_cost_per_token = -1"]),
        ([{"name": "a", "concurency": 4}], ["concurency", "did you mean 'concurrency'"]),
        ([{"name": "a"}, {"name": "a"}], ["llms.models[1].name = 'a'", "twice"]),
        (["a"], ["llms.models[0] = 'a'"]),
    ],
)
def test_a_bad_model_is_named(raw: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_models(raw)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


BROKEN_URLS = [
    "http://[::1",
    "http://[::1]]:80",
    "http://[::g]:80/v1",
    "http://h:0/v1",
    "http://h:99999/v1",
    "http://h:port/v1",
    "http://h:-1/v1",
    "http://:8000/v1",
    "http:///v1",
    "http:/h/v1",
    "http//h/v1",
    "htp://h/v1",
    "ftp://h/v1",
    "unix:///run/x",
    "//h/v1",
    "http://http://h/v1",
    "http://h h/v1",
    " http://h/v1",
    "http://h/v1\n",
    "http://h/\0",
    "http://h\\v1",
    "http://a..b/v1",
    "http://u:a/b@h/v1",
    "http://u:a@b@h/v1",
    "http://u:12/34@h/v1",
    "http://u:12#34@h",
    "http://u?34@h",
    "http://u:a[b@h/v1",
    "http://u:a]b@h/v1",
    "http://.",
    "http://-h/v1",
    "http://h:\uff18\uff10/v1",
    "http://[127.0.0.1]/v1",
    "http://[v1.fe]/v1",
    "http://u:p\uff20ss@h/v1",
    "http://u:a\uff0fb@h/v1",
    "https://u:\u2100@h/v1",
]


@pytest.mark.parametrize("url", BROKEN_URLS)
def test_what_is_no_url_is_refused(url: str) -> None:
    for raw, parse, key in (
        ([{"name": "a", "hostname": url}], parse_models, "llms.models[0].hostname = (hidden)"),
        ({"history": url}, parse_settings, "llms.router.eccos.history = (hidden)"),
    ):
        with pytest.raises(ConfigError) as refusal:
            parse(raw)
        assert key in str(refusal.value)
        assert "http" in str(refusal.value).removeprefix(key), "what is wanted"


@pytest.mark.parametrize(
    ("hostname", "url"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://u:p%40ss@[fd00::1]:443/v1?key=x", "https://u:p%40ss@[fd00::1]:443/v1?key=x"),
        ("http://my_host.internal.", "http://my_host.internal."),
        ("https://müller.example/", "https://müller.example/"),
        ("localhost:11434", "http://localhost:11434"),
        ("HTTP://h/v1", "HTTP://h/v1"),
        ("http://h:/v1", "http://h:/v1"),
        ("https://[::1]:/v1", "https://[::1]:/v1"),
        ("http://h:0008000/v1", "http://h:0008000/v1"),
        ("", ""),
    ],
)
def test_an_address_is_taken_with_its_scheme(hostname: str, url: str) -> None:
    (entry,) = parse_models([{"name": "a", "hostname": hostname}])
    assert entry.hostname == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:port",
        "redis://h:99999/0",
        "redis://h:0",
        "redis://[::1",
        "redis://h h:6379",
        "rediss://:pass/word@h:6379",
        "redis+sentinel://h:1,h:x/service",
        "redis+cluster://h:1,h:70000",
        "redis://:123#pw@h:6379",
        "redis://:123?pw@h:6379",
        "rediss://u:12/34@h",
        "redis+sentinel://:1/2@h:1/service",
        "unix://u:pa/ss@/run/r",
        "unix:///run/my redis",
        "redis://.",
        "redis://a..b:6379",
        f"rediss://{'a' * 64}.example",
        "redis://h\0",
        "redis://h,-i",
        "redis+sentinel://h:1,[::g]:2/service",
        "redis://:p\uff20ss@h",
        "redis+cluster://:a\uff0fb@h:1,i:2",
    ],
)
def test_a_broken_url_of_redis_is_refused_before_it_is_opened(url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis = \(hidden\): a port is a number"):
        parse_settings({"redis": url})


@pytest.mark.parametrize(
    "url",
    [
        "redis:///0",
        "redis://h",
        "redis://:p@h:6379/1",
        "unix:///run/r?db=1",
        "unix:///run/r@1",
        "unix://u:p@/run/r@1",
        "redis+sentinel://a,b/s",
        "redis+sentinel://a:1,[::1]:2/s",
        "redis+sentinel://u:p@[::1],a:2/s",
        "redis://:6379/1",
        "redis://h:",
        "unix:///run/my%20redis",
    ]
    + ["redis+cluster://[::1]:7000,h:7001", "rediss://u:%2F%40@h?socket_timeout=0.2"],
)
def test_every_kind_of_url_of_redis_is_taken(url: str) -> None:
    assert parse_settings({"redis": url}).redis == url


@pytest.mark.parametrize(
    ("key", "url", "kept"),
    [
        ("redis", "REDIS://h:6379", "redis://h:6379"),
        ("redis", "Redis+Sentinel://H/S", "redis+sentinel://H/S"),
        ("redis", "UNIX:///run/R", "unix:///run/R"),
        ("history", "HTTPS://Chroma:8000", "HTTPS://Chroma:8000"),
    ],
)
def test_a_scheme_may_be_in_capitals(key: str, url: str, kept: str) -> None:
    assert getattr(parse_settings({key: url}), key) == kept


@pytest.mark.parametrize(
    "text",
    [
        "a: !!bool s3cret",
        "a: !!timestamp s3cret",
        "a: !!int s3cret",
        "a: !!float s3cret",
        'a: !!int "s3cret\'s"',
        "a: *s3cret",
        "a: !s3cret x",
    ],
)
def test_what_a_tag_says_wrongly_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: ") as refusal:
        yaml_text.load(text, "config.yaml")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("text", ["0x" + "f" * 4000, "-0x" + "f" * 4000, "0b" + "1" * 20_000])
@pytest.mark.parametrize("key", ["max_records", "quality_floor", "namespace", "max_cost", "mode"])
def test_a_number_that_python_cannot_write_is_refused_by_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"eccos\.{key} = \(int\): "):
        parse_settings(yaml_text.load(f"{key}: {text}", "config.yaml"))


def configured(raw: object) -> object:
    return parse_config(raw, [{"name": "a"}])


@pytest.mark.parametrize(
    ("raw", "parse"),
    [
        (["http://u:s3cret@h/v1"], parse_models),
        ([{"name": "a"}, "http://u:s3cr et@h/v1"], parse_models),
        ("redis://:s3cret@h", parse_settings),
        ({"namespace": "redis://:s3cret's@h"}, parse_settings),
        ({"max_records": "redis://:s3cret@h"}, parse_settings),
        ({"agents": {"a": "http://s3cret@h"}}, parse_settings),
        ({"embedder": ["a"], "mode": "redis://:s3cret"}, parse_settings),
        ([{"name": "a", "concurrency": "u:s3cret@h:80/v1"}], parse_models),
        ({"redis://:s3cret@h": None}, parse_settings),
        ({"agents": {"a": {"http://u:s3cret@h": 1}}}, parse_settings),
        ({"judge": "http://u:s3cret@h"}, configured),
        ({"plans": ["u:s3cret@h"]}, configured),
    ],
)
def test_a_password_at_a_wrong_place_is_not_shown(
    raw: object, parse: Callable[[object], object]
) -> None:
    with pytest.raises(ConfigError, match=r"\(hidden\): ") as refusal:
        parse(raw)
    assert "s3cr" not in str(refusal.value)


@pytest.mark.parametrize(
    ("raw", "share"),
    [
        ("5 %", 0.05),
        ("2.5%", 0.025),
        (0.1, 0.1),
        (0, 0.0),
        (False, 0.0),
        ("off", 0.0),
        (True, 0.05),
    ],
)
def test_a_share_for_audits_may_be_written_as_yaml_reads_it(raw: object, share: float) -> None:
    assert parse_settings({"audit": raw}).audit == pytest.approx(share)


@pytest.mark.parametrize("raw", [60, "80 %", -0.1, "some", None, [5]])
def test_what_is_no_share_is_refused_by_name(raw: object) -> None:
    with pytest.raises(ConfigError, match=r"llms.router.eccos.audit = .*such as 5 %"):
        parse_settings({"audit": raw})


def test_audits_may_be_off_for_some_agents() -> None:
    settings = parse_settings({"audit": "5 %", "agents": {"private/*": {"audit": False}}})
    assert not settings.policy("private/notes")[1].audit
    assert settings.policy("coder")[1].audit


@pytest.mark.parametrize("key", ["baseline", "judge"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [("larg", "did you mean 'large'?"), ("zzz", "configured: small, large")],
)
def test_a_model_named_must_be_a_configured_one(
    key: str, name: str, hint: str, tmp_path: Path
) -> None:
    models = [{"name": "small"}, {"name": "large"}]
    settings, entries = parse_config({key: "large"}, models)
    assert (getattr(settings, key), len(entries)) == ("large", 2)
    with pytest.raises(ConfigError) as refusal:
        parse_config({key: name}, models)
    assert str(refusal.value) == (
        f"llms.router.eccos.{key} = {name!r}: no configured model; {hint}"
    )
    text = json.dumps({"llms": {"models": models, "router": {"eccos": {key: name}}}})
    with pytest.raises(ConfigError, match="no configured model"):
        load_config(locate(None, aios_home(tmp_path, text)))


def test_a_key_is_never_shown() -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_models([{"name": "a", "api_key": ["sk-secret"]}])
    assert "sk-secret" not in str(refusal.value)
    (entry,) = parse_models([{"name": "a", "api_key": "sk-secret"}])
    assert "sk-secret" not in repr(entry)


def test_aios_own_keys_pass_and_limits_default_by_backend() -> None:
    entries = parse_models(
        [
            {"name": "a", "backend": "ollama", "hostname": "http://h"},
            {"name": "b", "backend": "huggingface", "max_gpu_memory": {0: "48GB"}},
            {"name": "c", "backend": "vllm"},
            {"name": "d", "backend": "vllm", "concurrency": 7},
        ]
    )
    assert [entry.model().limit for entry in entries] == [4, 1, 32, 7]
    assert entries[0].model().endpoint == "http://h"


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("http://h:8001/v1", "h:8001/v1/"),
        ("http://h:8001/v1", "HTTP://H.:8001/v1"),
        ("http://h/v1", "http://h:80/v1"),
        ("https://h:443/v1?a=1", "https://h/v1/?a=1"),
        ("http://h", "http://h/"),
        ("http://localhost:8001/v1", "http://127.0.0.1:8001/v1"),
        ("http://localhost:8001/v1", "http://[::1]:8001/v1"),
        ("http://localhost:8001/v1", "http://0.0.0.0:8001/v1/"),
        ("http://10.0.0.1/v1", "http://[::ffff:10.0.0.1]/v1"),
        ("http://[fc00::1]:81/v1", "http://[FC00:0:0::1]:81/v1"),
        ("http://bücher.de/v1", "http://xn--bcher-kva.de/v1"),
    ],
)
def test_a_server_has_one_limit_however_its_address_is_written(written: str, other: str) -> None:
    one, same = (_slot(address) for address in (written, other))
    assert one == same


@pytest.mark.parametrize(
    "other",
    ["http://h:8002/v1", "https://h:8001/v1", "http://h:8001/v2", "http://g:8001/v1"]
    + ["http://h:8001", "http://h:8001/V1", "http://key@h:8001/v1", "http://h:8001/v1?a=1"],
)
def test_other_servers_have_limits_of_their_own(other: str) -> None:
    assert _slot("http://h:8001/v1") != _slot(other)


def _slot(address: str) -> str:
    (entry,) = parse_models([{"name": "a", "backend": "vllm", "hostname": address}])
    return entry.model().slot


@pytest.mark.parametrize("address", ["http://h℀:1/v1", "http://a℀@h:1/v1", "http://[::1%]/v1"])
def test_an_address_that_libraries_read_in_another_way_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="hostname"):
        _slot(address)


def test_the_first_matching_agent_pattern_wins() -> None:
    settings = parse_settings(
        {"agents": {"coder/a*": {"quality_floor": 0.9}, "coder/*": {"models": ["x"]}}}
    )
    assert settings.policy("coder/abc")[0] == "coder/a*"
    assert settings.policy("coder/xyz")[0] == "coder/*"
    assert settings.policy("writer")[0] == ""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("AIOS_HOME", raising=False)
    return tmp_path / "state"


def aios_home(folder: Path, text: str) -> Path:
    path = folder / "aios" / "config" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return folder


GOOD = "llms: {models: [{name: a}], router: {strategy: eccos, eccos: {quality_floor: 0.7}}}"


def test_the_configuration_is_found_in_the_order_told(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate().found_by == "defaults"
    enabled, by_env, named = (aios_home(tmp_path / n, GOOD) for n in ("one", "two", "three"))
    remember_enabled(enabled)
    assert (locate().aios_home, locate().found_by) == (enabled, "the last `enable`")
    monkeypatch.setenv("AIOS_HOME", str(by_env))
    assert (locate().aios_home, locate().found_by) == (by_env, "$AIOS_HOME")
    assert locate(aios_home=named).aios_home == named
    config = by_env / "aios" / "config" / "config.yaml"
    assert locate(config=config, aios_home=named).state_dir == state_dir_of(by_env)
    remember_enabled(None)
    monkeypatch.delenv("AIOS_HOME")
    assert locate().found_by == "defaults"


def test_a_place_that_is_named_must_exist(state: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        locate(config=tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="enable --aios-home"):
        locate(aios_home=tmp_path)


@pytest.mark.parametrize("noted", ["not json", "[1]", json.dumps({"aios_home": "/nowhere"})])
def test_a_damaged_note_of_the_last_enable_is_no_error(state: Path, noted: str) -> None:
    state.mkdir(parents=True)
    (state / "enabled.json").write_text(noted, encoding="utf-8")
    assert locate().found_by == "defaults"


def test_a_config_file_is_read_whole(state: Path, tmp_path: Path) -> None:
    config = load_config(locate(aios_home=aios_home(tmp_path / "aios", GOOD)))
    assert config.strategy == "eccos"
    assert config.settings.quality_floor == Floor(0.7, False)
    assert [entry.name for entry in config.entries] == ["a"]


@pytest.mark.parametrize("text", ["llms: [1, 2", "- a\n- b", "llms: 5", "a: !!python/object:x {}"])
def test_yaml_that_is_broken_or_hostile_is_a_config_error(
    state: Path, tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError):
        load_config(locate(aios_home=aios_home(tmp_path / "aios", text)))


def refusal_of(text: str, tmp_path: Path) -> str:
    """The one line in which a configuration file is refused."""
    home = aios_home(tmp_path / "aios", "")
    path = home / "aios/config/config.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as refused:
        load_config(locate(aios_home=home))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None, "a chain would quote the file"
    return str(refused.value)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("# Küche\nllms:\n".encode("latin-1"), "not UTF-8: byte 0xfc at position 3 (line 1)"),
        (b"a: 1\nb: \x80\n", "not UTF-8: byte 0x80 at position 8 (line 2)"),
        (GOOD.encode("utf-16"), "UTF-16: byte 0xff at position 0 (line 1); save the file as UTF-8"),
        (GOOD.encode("utf-16-be"), "#x0000"),
        (b"a: \x00", "character 3: #x0000"),
        (b"a:\n\tb: 1\n", "line 2, column 1: found character '\\t' that cannot start any token"),
        (b"a:\n\tb: 1\n", "spaces, not tabs"),
        (b"a: " + b"[" * 5_000, "nested too deeply"),
        (b"llms: &a {router: *a}", "contains itself"),
        (b"a: 2024-13-45", "month must be in 1..12"),
        (b"a: !!int x", "not what it looks like"),
        (b"{a: 1}: b", "line 1, column 1"),
    ],
)
@pytest.mark.usefixtures("state")
def test_a_file_that_is_no_configuration_is_refused_by_name_and_place(
    raw: bytes, says: str, tmp_path: Path
) -> None:
    assert says in refusal_of(raw.decode("latin-1"), tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        'api_key: "sk-4f1',
        "api_key: *sk-4f1x",
        "api_key: !sk-4f1x x",
        "api_key: sk-4f1: x",
        "api_key: [sk-4f1",
        "api_key: !!float sk-4f1x",
        "api_key: %sk-4f1\n api_key: @sk-4f1",
    ],
)
@pytest.mark.usefixtures("state")
def test_a_file_that_is_no_yaml_is_refused_without_its_words(line: str, tmp_path: Path) -> None:
    assert "sk-4f1" not in refusal_of(f"llms:\n  models:\n  - {line}\n", tmp_path)


def bomb(levels: int) -> str:
    """Nine values that are each nine of the level below, and so on."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "use",
    ["", "llms: {models: *a9}", "llms: {models: [{name: *a9}]}", "llms: {router: {eccos: *a9}}"],
)
@pytest.mark.usefixtures("state")
def test_aliases_that_grow_without_measure_are_refused_at_once(use: str, tmp_path: Path) -> None:
    begun = time.thread_time()
    assert "100,000 values" in refusal_of(f"{bomb(10)}\n{use}", tmp_path)
    assert time.thread_time() - begun < 2


@pytest.mark.usefixtures("state")
def test_anchors_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    text = "\ufeffx: &m {name: a}\nllms: {models: [*m, {<<: *m, name: b}]}"
    config = load_config(locate(aios_home=aios_home(tmp_path / "aios", text)))
    assert [entry.name for entry in config.entries] == ["a", "b"]


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("\t\n", "empty"),
        ("x", "1 characters"),
        ("seven77", "7 characters"),
        ("two words of it", "no spaces"),
        ("schlüssel-zur-küche", "ASCII"),
        ("line-one\nline-two", "no spaces"),
        ("${ECCOS_TOKEN}", "anybody could guess it"),
        ("$ECCOS_TOKEN", "anybody could guess it"),
        ("{{ eccos_token }}", "no spaces"),
        ("{{eccos_token}}", "anybody could guess it"),
        ("<your-token>", "anybody could guess it"),
        (12345678, "in quotes"),
        (True, "in quotes"),
        (["a-long-token"], "in quotes"),
    ],
)
def test_a_token_that_protects_nothing_is_refused_and_not_shown(token: object, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings({"http_token": token})
    text = str(refused.value)
    assert text.startswith("llms.router.eccos.http_token = (hidden): ")
    assert says in text
    assert "token_urlsafe" in text, "what to do"
    assert refused.value.__suppress_context__, "the chain would show it"
    assert not str(token).strip() or len(str(token)) < 2 or str(token) not in text


def test_no_token_and_a_good_one_are_taken() -> None:
    assert parse_settings({"http_token": None}).http_token is None
    token = parse_settings({"http_token": "Zm9vYmFy-_.~!"}).http_token
    assert token is not None
    assert token.get_secret_value() == "Zm9vYmFy-_.~!"


NUMERIC = [key for key, field in Settings.model_fields.items() if field.annotation in NUMBERS]
#: What each kind of number may not be.
NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), "nan", "inf", "abc", True, False, [], {}]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("key", [*NUMERIC, "quality_floor"])
def test_a_setting_that_is_a_number_takes_nothing_else(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^llms.router.eccos.{key} = "):
        parse_settings({key: value})


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1], ids=repr)
@pytest.mark.parametrize(
    "key", [key for key, field in ModelEntry.model_fields.items() if field.annotation in NUMBERS]
)
def test_a_models_number_takes_nothing_else(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^llms.models\[0\].{key} = "):
        parse_models([{"name": "a", key: value}])


@pytest.mark.parametrize(
    "key", [k for k, f in Settings.model_fields.items() if f.annotation in NUMBERS]
)
@pytest.mark.parametrize("value", [10**30, 1e300])
def test_a_setting_that_no_clock_or_list_could_hold_is_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        parse_settings({key: value})


@pytest.mark.parametrize("value", ["4e-07", "0.0000004", 4e-07, "4.0E-7", " 4e-7 "])
def test_a_price_may_be_text_as_yaml_reads_it_without_a_point(value: object) -> None:
    (entry,) = parse_models([{"name": "a", "input_cost_per_token": value}])
    assert entry.model().input_price == 4e-07


@pytest.mark.parametrize(
    ("price", "says"),
    [
        (0.55, "$550,000 per million tokens"),
        (0.55, "$0.55 per million is written 5.5e-07"),
        (15, "$15 per million is written 1.5e-05"),
        ("2.50", "$2.5 per million is written 2.5e-06"),
        (0.01, "written 1e-08"),
    ],
)
@pytest.mark.parametrize("key", ["input_cost_per_token", "output_cost_per_token"])
def test_a_price_per_million_written_as_per_token_is_refused_with_the_right_one(
    key: str, price: object, says: str
) -> None:
    with pytest.raises(ConfigError, match=key) as refused:
        parse_models([{"name": "a", key: price}])
    assert says in str(refused.value)


@pytest.mark.parametrize("price", [0, 1e-9, 6e-4, 0.0097])
def test_prices_of_models_that_exist_are_taken(price: float) -> None:
    (entry,) = parse_models([{"name": "a", "output_cost_per_token": price}])
    assert entry.model().output_price == price


#: What LiteLLM's table (1.106) counts in; and its other keys that are nearest to ours.
UNITS = (
    *("character", "image", "pixel", "query", "request", "second"),
    *("audio_token", "image_token", "reasoning_token", "video_token"),
    *("token_above_128k_tokens", "token_batches", "token_cache_hit", "token_flex"),
    *("token_priority", "token_ultrafast"),
)
LITELLM_KEYS = (
    *(f"{way}_cost_per_{unit}" for way in ("input", "output") for unit in UNITS),
    *(f"cache_creation_input{part}_cost" for part in ("_token", "_audio_token")),
    *(f"cache_read_input_{kind}_token_cost" for kind in ("audio", "image")),
    *(f"cache_read_input_token_cost_{way}" for way in ("above_200k_tokens", "batches", "flex")),
    *("explicit_cache_read_input_token_cost", "cache_creation_input_token_cost_above_1hr"),
    *("input_dbu_cost_per_token", "output_dbu_cost_per_token", "max_input_tokens", "max_tokens"),
    *("max_output_tokens", "litellm_provider", "mode", "supports_vision"),
)


@pytest.mark.parametrize("key", LITELLM_KEYS)
def test_a_key_that_litellms_table_has_is_no_misspelling_of_ours(key: str) -> None:
    assert parse_models([{"name": "a", key: 1e-6}])[0].name == "a"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("input_cost_per_tokens", "input_cost_per_token"),
        ("input_cost_per_tokn", "input_cost_per_token"),
        ("ouput_cost_per_token", "output_cost_per_token"),
        ("output_costs_per_token", "output_cost_per_token"),
        ("output-cost_per_token", "output_cost_per_token"),
        ("cache_read_input_tokens_cost", "cache_read_input_token_cost"),
        ("strenght", "strength"),
        ("context_windows", "context_window"),
        ("abilites", "abilities"),
        ("hostnane", "hostname"),
        ("concurency", "concurrency"),
    ],
)
def test_a_misspelt_key_of_ours_is_named(key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: unknown key; did you mean '{meant}'"):
        parse_models([{"name": "a", key: 1}])


@pytest.mark.parametrize(
    "raw",
    [
        {"redis": "http://u:hunter2@h"},
        {"history": "chroma://u:hunter2@h"},
        {"http_token": "hunter2"},
        [{"http_token": "hunter2"}],
        {"agents": {"a": [{"redis": "hunter2"}]}},
    ],
)
def test_no_refusal_of_settings_shows_a_secret(raw: object) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings(raw)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "a", "hostname": ["https://u:hunter2@h"]},
        {"name": "a", "api_key": {"key": "hunter2"}},
        [{"name": "a", "api_key": "hunter2"}],
    ],
)
def test_no_refusal_of_a_model_shows_a_secret(entry: object) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_models([entry])
    assert "hunter2" not in str(refused.value)


def test_settings_are_printed_without_urls_that_may_hold_a_password() -> None:
    settings = parse_settings({"redis": "redis://:hunter2@h", "history": "http://u:hunter2@h"})
    assert "hunter2" not in repr(settings)
    (entry,) = parse_models([{"name": "a", "hostname": "https://u:hunter2@h/v1"}])
    assert "hunter2" not in repr(entry)


POOL = [{"name": n, "backend": "vllm", "hostname": "http://x"} for n in ("small", "mini", "large")]


@pytest.mark.parametrize(
    "raw, plans",
    [
        ("none", ()),
        (False, ()),
        (None, ()),
        ("auto", ("auto",)),
        (["small + mini, else large"], ("small + mini, else large",)),
    ],
)
def test_plans_are_none_auto_or_a_list(raw: object, plans: tuple[str, ...]) -> None:
    assert parse_config({"plans": raw}, POOL)[0].plans == plans


@pytest.mark.parametrize(
    "raw, said",
    [
        (["small + mini else large"], "written `small + mini, else large`"),
        (["small + mini + large, else large"], "written `small + mini, else large`"),
        (
            ["tiny + mini, else large"],
            "'tiny' is no configured model; those are small,",
        ),
        (["small + mini, else small"], "asks each model once"),
        (["small + mini, else large"] * 7, "up to 6 plans, not 7"),
        ("often", "allowed: none, auto, or a list"),
        ([3], "allowed: none, auto, or a list"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_by_name(raw: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"router.eccos.plans = .*{re.escape(said)}"):
        parse_config({"plans": raw}, POOL)
