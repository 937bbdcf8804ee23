"""One model asked: what is tried again and how long, what a reply means, where models are found."""

from __future__ import annotations

import sys
import threading
import types

import httpx
import pytest

from aios_eccos.collect.client import Client, Endpoint, Patience, load_endpoints, open_provider
from aios_eccos.collect.reply import read_reply
from aios_eccos.errors import ConfigError, EmbedderError
from aios_eccos.lab.replay_server import ReplayServers
from aios_eccos.locate import Location
from aios_eccos.providers.failures import StatusError
from aios_eccos.providers.tokens import tokenizer
from aios_eccos.values import Failure, Model

QUICK = Patience(base_s=0.01, cap_s=0.05, timeout_s=0.3)
NOWHERE = Endpoint(Model("m"), "http://127.0.0.1:9/v1", "m")


class Script:
    """A provider that plays one answer or exception after the other, the last for ever."""

    def __init__(self, *steps):
        self._steps = [*steps]
        self.requests = []

    def complete(self, request, timeout_s):
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self):
        pass


WHAT = {"messages": [{"role": "user", "content": "what?"}]}


def body(content="7", finish="stop", usage=True, **message):
    tokens = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return {"choices": [choice]} | ({"usage": tokens} if usage else {})


def ask(*steps, patience=QUICK, stop=None):
    provider = Script(*steps)
    asked = Client(
        NOWHERE, max_tokens=99, patience=patience, stop=stop or threading.Event(), provider=provider
    )
    return asked.ask("what?"), provider


def status(code, text="said no", **headers):
    return StatusError(code, text, {name.replace("_", "-"): told for name, told in headers.items()})


def test_a_request_is_zero_shot_and_deterministic():
    _, backend = ask(body())
    assert backend.requests == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "what?"}],
            "temperature": 0,
            "max_tokens": 99,
        }
    ]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 408])
def test_passing_failures_are_tried_again(code):
    reply, _ = ask(status(code), status(code), body())
    assert (reply.status, reply.content, reply.attempts) == ("ok", "7", 3)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_refusals_are_not(code):
    reply, backend = ask(status(code))
    assert (reply.status, reply.error, reply.attempts) == ("error", str(code), 1)
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    "malformed", [[], {}, {"choices": []}, {"choices": [7]}, body(None), {"choices": [{}]}]
)
def test_a_malformed_answer_is_tried_again_and_then_an_error(malformed):
    reply, backend = ask(malformed)
    assert (reply.status, reply.error) == ("error", "malformed")
    assert len(backend.requests) == QUICK.attempts
    assert ask(malformed, body())[0].status == "ok"


def test_a_timeout_is_tried_again_once():
    reply, backend = ask(httpx.ReadTimeout("late"))
    assert (reply.error, len(backend.requests)) == ("timeout", 2)


def test_waits_double_with_jitter_up_to_a_cap_unless_the_server_says_how_long():
    asked = Client(
        NOWHERE, max_tokens=9, patience=Patience(), stop=threading.Event(), provider=Script(body())
    )
    for attempt, most in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30], start=1):
        waits = [asked._pause(attempt, Failure("500")) for _ in range(50)]
        assert most / 2 <= min(waits) < max(waits) <= most
    assert asked._pause(1, Failure("429", 429, retry_after_s=7.0)) == 7


def test_a_stop_ends_a_wait():
    stop = threading.Event()
    stop.set()
    reply, backend = ask(status(429, retry_after="600"), stop=stop)
    assert reply is None
    assert len(backend.requests) == 1


def test_a_refused_parameter_is_replaced_or_left_out():
    no_max = status(
        400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    )
    no_heat = status(400, "'temperature' does not support 0 with this model.")
    reply, backend = ask(no_max, no_heat, body())
    assert (reply.status, reply.attempts) == ("ok", 1)
    last = backend.requests[-1]
    assert last["max_completion_tokens"] == 99
    assert "max_tokens" not in last
    assert "temperature" not in last
    # A complaint that stays is an error, not a loop.
    reply, backend = ask(no_max)
    assert (reply.error, len(backend.requests)) == ("not supported", 2)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (body("7"), ("ok", "7", "")),
        (body(""), ("ok", "", "")),
        (body("7 is", finish="length"), ("truncated", "7 is", "truncated")),
        (body(None, finish="length"), ("truncated", "", "truncated")),
        (body("", reasoning_content="hm"), ("truncated", "", "truncated")),
        (body(None, reasoning="hm"), ("truncated", "", "truncated")),
        (body("<think>hm"), ("truncated", "", "truncated")),
        (body("<think>hm</think>\n"), ("truncated", "\n", "truncated")),
        (body("<think>hm</think>7"), ("ok", "7", "")),
        (body("7", reasoning_content="hm"), ("ok", "7", "")),
    ],
)
def test_what_a_reply_is(answer, wanted):
    reply = read_reply(answer, WHAT)
    assert (reply.status, reply.content, reply.error) == wanted
    assert (reply.input_tokens, reply.output_tokens, reply.tokens_from) == (10, 5, "usage")


def test_reasoning_and_cached_tokens_are_kept_apart():
    answer = body("7")
    answer["usage"] |= {
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    reply = read_reply(answer, WHAT)
    assert (reply.reasoning_tokens, reply.cached_tokens) == (3, 4)
    assert (reply.input_tokens, reply.output_tokens) == (10, 5)
    answer["choices"][0]["message"]["content"] = ""
    assert read_reply(answer, WHAT).status == "truncated"


def test_what_a_filter_holds_back_is_no_outcome_but_costs_its_tokens():
    reply, provider = ask(body("", finish="content_filter"))
    assert (reply.status, reply.error, reply.output_tokens) == ("error", "content_filter", 5)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, "much"])
def test_tokens_without_usage_are_counted_and_marked(usage):
    reply = read_reply(
        body("Seven words make up this short answer.", usage=False) | {"usage": usage}, WHAT
    )
    assert reply.tokens_from in ("tokenizer", "characters")
    assert 7 <= reply.output_tokens <= 12
    assert 1 <= reply.input_tokens <= 3


def test_without_a_tokenizer_length_counts(monkeypatch):
    def missing():
        raise EmbedderError("not here")

    monkeypatch.setattr("aios_eccos.providers.tokens.find_embedder", missing)
    tokenizer.cache_clear()
    reply = read_reply(body("x" * 40, usage=False), {"messages": [{"content": "y" * 9}]})
    tokenizer.cache_clear()
    assert (reply.tokens_from, reply.output_tokens, reply.input_tokens) == ("characters", 10, 3)


def http(url, patience=QUICK, **options):
    endpoint = Endpoint(Model("m"), url, "m", **options)
    return Client(endpoint, max_tokens=9, patience=patience, stop=threading.Event())


def test_faults_over_http_have_names():
    with ReplayServers([], ["m"], seconds_per_token=0) as servers:
        asked = http(servers.url("m"), Patience(base_s=0.01, cap_s=0.05, timeout_s=60.0))
        assert asked.ask("what?").status == "ok"
        faults = {"500": "500", "close": "connection", "invalid_json": "malformed"}
        for fault, reason in faults.items():
            servers.inject("m", {fault: 1.0})
            assert asked.ask("what?").error == reason
        asked.close()
        servers.inject("m", {"hang": 1.0})
        hasty = http(servers.url("m"))
        assert hasty.ask("what?").error == "timeout"
        hasty.close()
    assert http("http://127.0.0.1:9/v1").ask("what?").error == "connection"


def test_the_key_goes_into_the_header_and_is_not_shown(monkeypatch):
    from pydantic import SecretStr

    seen = []

    def send(self, request, **options):
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json=body(), request=request)

    monkeypatch.setattr(httpx.Client, "send", send)
    asked = http("http://127.0.0.1:9/v1", api_key=SecretStr("sk-secret"))
    assert asked.ask("what?").status == "ok"
    asked.close()
    assert seen == ["Bearer sk-secret"]
    assert "sk-secret" not in repr(asked.endpoint)


@pytest.fixture
def litellm(monkeypatch):
    """As much of LiteLLM as is used; its import goes to the network and takes seconds."""
    fake = types.ModuleType("litellm")
    monkeypatch.setitem(sys.modules, "litellm", fake)
    return fake


def test_litellm_is_asked_once_at_the_models_place(litellm):
    endpoint = Endpoint(Model("flash"), "", "gemini/flash", "http://proxy:1")
    calls = []

    def completion(**options):
        calls.append(options)
        return types.SimpleNamespace(model_dump=lambda warnings: body())

    litellm.completion = completion
    asked = Client(endpoint, max_tokens=9, patience=QUICK, stop=threading.Event())
    assert asked.ask("what?").content == "7"
    asked.close()
    assert (calls[0]["model"], calls[0]["api_base"]) == ("gemini/flash", "http://proxy:1")
    assert (calls[0]["num_retries"], calls[0]["max_retries"]) == (0, 0)


def test_a_missing_litellm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ConfigError, match=r"flash.*aios-eccos\[collect\]"):
        open_provider(Endpoint(Model("flash"), "", "gemini/flash"))


MODELS = """
api_keys: {openai: sk-config, gemini: g-config}
llms:
  models:
    - {name: small-8b, backend: vllm, hostname: "http://127.0.0.1:9201/v1"}
    - {name: bare, backend: sglang, hostname: "127.0.0.1:9202"}
    - {name: llama3, backend: ollama, hostname: "http://127.0.0.1:11434"}
    - {name: llama4, backend: ollama}
    - {name: gpt-x, backend: openai, cache_read_input_token_cost: 1.0e-7}
    - {name: flash, backend: google, api_key: own}
    - {name: mix, backend: groq}
"""


def load(tmp_path, text=MODELS, **options):
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return load_endpoints(Location(None, None, tmp_path, ""), path, **options)


def test_where_models_are_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    found = {e.name: e for e in load(tmp_path)}
    assert {name: (e.base_url, e.target) for name, e in found.items()} == {
        "small-8b": ("http://127.0.0.1:9201/v1", "small-8b"),
        "bare": ("http://127.0.0.1:9202/v1", "bare"),
        "llama3": ("http://127.0.0.1:11434/v1", "llama3"),
        "llama4": ("http://localhost:11434/v1", "llama4"),
        "gpt-x": ("https://api.openai.com/v1", "gpt-x"),
        "flash": ("", "gemini/flash"),
        "mix": ("", "groq/mix"),
    }
    keys = {name: e.api_key and e.api_key.get_secret_value() for name, e in found.items()}
    assert keys["gpt-x"] == "sk-config"
    assert keys["flash"] == "own"
    assert keys["small-8b"] is keys["mix"] is None
    assert found["gpt-x"].cached_price == 1e-7


def test_openais_key_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    (found,) = load(tmp_path, "[{name: gpt-x, backend: openai}]")
    assert found.api_key.get_secret_value() == "sk-environment"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[{name: m, backend: vllm}]", "needs a hostname"),
        ("[{name: m, backend: vllm, hostname: 'ftp://x'}]", "wanted http"),
        ("[{name: m, backend: huggingface}]", "own process"),
        ("[{name: m, backend: vllm, hostnam: x}]", "hostname"),
        ("[}", "models.yaml"),
        ("{models: []}", "at least one model"),
        ("7", "mapping"),
    ],
)
def test_models_that_cannot_be_asked_are_named(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, text)


@pytest.mark.parametrize("address", ["ftp://u:hunter2@x", "//u:hunter2@x", "x://u:a hunter2@x"])
def test_an_address_that_cannot_be_asked_is_named_without_its_password(tmp_path, address):
    with pytest.raises(ConfigError, match="wanted http") as failed:
        load(tmp_path, f"[{{name: m, backend: vllm, hostname: '{address}'}}]")
    assert "hunter2" not in str(failed.value)


def test_a_model_that_cannot_be_asked_may_be_left_out(tmp_path):
    text = "[{name: local, backend: huggingface}, {name: m, backend: ollama}]"
    (found,) = load(tmp_path, text, wanted=["m"])
    assert found.name == "m"
