"""Ollama's models that are not loaded carry the time of loading as cost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from aios_eccos.config import Settings, parse_models
from aios_eccos.serve.ollama import Loading, loaded_in
from aios_eccos.serve.router import Router
from aios_eccos.values import Answer, Attempt, CallResult, Model, Query
from aios_eccos.workload.memory import MemoryWorkload

HOST = "http://127.0.0.1:11434"


def ps(*names: str) -> str:
    """An answer to /api/ps, as Ollama writes it."""
    details = {"format": "gguf", "family": "qwen2", "parameter_size": "7.6B"}
    more = {"size": 6_654_289_920, "expires_at": "2026-06-04T14:38:31Z", "size_vram": 0}
    models = [{"name": name, "model": name, "details": details, **more} for name in names]
    return json.dumps({"models": models})


def watched(*names: str) -> Loading:
    loading = Loading()
    loading.use(parse_models([{"name": n, "backend": "ollama", "hostname": HOST} for n in names]))
    return loading


@pytest.mark.parametrize(
    ("hostname", "host"),
    [
        ("localhost:11434", "http://localhost:11434"),
        ("10.0.0.7:11434/v1", "http://10.0.0.7:11434"),
        ("https://one.example/api", "https://one.example"),
        (None, "http://localhost:11434"),
    ],
)
def test_an_address_may_lack_its_scheme(hostname: str | None, host: str) -> None:
    loading = Loading()
    loading.use(parse_models([{"name": "a", "backend": "ollama", "hostname": hostname}]))
    assert loading.hosts == {"a": host}


def look(loading: Loading, *loaded: str) -> None:
    loading.look(HOST, lambda url: ps(*loaded) if url == f"{HOST}/api/ps" else "")


def answered(model: str, seconds: float, tokens: int = 100) -> CallResult:
    tries = (Attempt(model, seconds, tokens),)
    return CallResult(Query(""), Answer("x"), None, 1, 0.0, seconds, tries=tries)


def test_what_is_loaded_is_read() -> None:
    assert loaded_in(ps("qwen2.5:7b", "llama3:latest")) == {"qwen2.5:7b", "llama3:latest"}
    assert loaded_in('{"models": []}') == set()


NONE_OF_IT = ["", "<html>", "[]", "{}", '{"models": null}', '{"models": {}}', "[" * 100_000]


@pytest.mark.parametrize("text", NONE_OF_IT)
def test_what_is_no_answer_of_ollamas_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loaded_in(text)


def test_only_ollamas_models_are_looked_at() -> None:
    entries = [{"name": "a", "backend": "ollama"}, {"name": "b", "backend": "vllm"}]
    loading = Loading()
    loading.use(parse_models(entries))
    assert loading.hosts == {"a": "http://localhost:11434"}


def test_the_time_of_loading_is_what_a_request_took_beyond_its_tokens() -> None:
    loading = watched("qwen2.5:7b")
    look(loading, "qwen2.5:7b")
    loading.note(answered("qwen2.5:7b", 1.0))
    assert loading.tokens() == {}, "it is loaded"
    look(loading)
    assert loading.tokens() == {}, "how long loading takes is not known yet"
    time.sleep(0.01)
    loading.note(answered("qwen2.5:7b", 0.001))
    loading.note(answered("qwen2.5:7b", 0.0))
    look(loading, "qwen2.5:7b")
    loading.note(answered("qwen2.5:7b", 5.0))
    assert loading.tokens() == {}
    look(loading)
    assert loading.tokens() == {"qwen2.5:7b": pytest.approx(400.0)}, "4 s at 0.01 s a token"


def test_a_name_without_a_tag_is_the_latest() -> None:
    loading = watched("llama3")
    look(loading)
    loading.note(answered("llama3", 5.0))
    assert loading.tokens()
    look(loading, "llama3:latest")
    assert loading.tokens() == {}


@pytest.mark.parametrize(
    ("price", "tokens", "chosen"),
    [(1e-6, 0, "a"), (1e-6, 10, "a"), (1e-6, 1000, "b"), (0.0, 0, "a"), (0.0, 1, "b")],
)
def test_a_model_that_must_be_loaded_is_dearer_by_that(
    price: float, tokens: float, chosen: str
) -> None:
    """`b` costs 100 tokens more; where both are free, only loading makes a difference."""
    common: dict[str, Any] = {"input_price": price, "strength": 0.5}
    models = [
        Model("a", "a", output_price=price, **common),
        Model("b", "b", output_price=price * 1.5, **common),
    ]
    settings = Settings(quality_floor=0.4)
    router = Router(models, settings, MemoryWorkload(), loading=lambda: {"a": tokens})
    (decision,) = router.route([Query("?", max_output_tokens=200)]).decisions
    assert decision.model == chosen
    candidate = decision.candidate
    assert candidate.reread is not None
    assert candidate.reread[0] == pytest.approx(tokens * price, abs=1e-9)
