"""Settings and models: what is accepted, and what the refusals say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aios_eccos.config import Floor, Settings, parse_config, parse_models, parse_settings
from aios_eccos.errors import ConfigError
from aios_eccos.locate import load_config, locate, remember_enabled, state_dir_of


def test_nothing_configured_means_all_defaults() -> None:
    assert parse_settings(None) == Settings()


@pytest.mark.parametrize(
    ("raw", "floor"),
    [("95 %", Floor(0.95, True)), ("95%", Floor(0.95, True)), (0.8, Floor(0.8, False))],
)
def test_a_floor_is_absolute_or_a_share_of_the_strongest(raw: object, floor: Floor) -> None:
    assert parse_settings({"quality_floor": raw}).quality_floor == floor


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"quality_floor": 1.4}, ["quality_floor = 1.4", "0..1"]),
        ({"quality_floor": True}, ["quality_floor = True", "0..1"]),
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


@pytest.mark.parametrize(
    ("baseline", "hint"),
    [("larg", "did you mean 'large'?"), ("zzz", "configured: small, large")],
)
def test_a_baseline_must_be_a_configured_model(baseline: str, hint: str, tmp_path: Path) -> None:
    models = [{"name": "small"}, {"name": "large"}]
    settings, entries = parse_config({"baseline": "large"}, models)
    assert (settings.baseline, len(entries)) == ("large", 2)
    with pytest.raises(ConfigError) as refusal:
        parse_config({"baseline": baseline}, models)
    assert str(refusal.value) == (
        f"llms.router.eccos.baseline = {baseline!r}: no configured model; {hint}"
    )
    text = json.dumps({"llms": {"models": models, "router": {"eccos": {"baseline": baseline}}}})
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
