"""Every row of the list of AIOS's defects, entered through the kernel's own door."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import until

from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.kernel import operations, status
from aios_eccos.kernel.calls import turn
from aios_eccos.kernel.executor import StepFailed
from aios_eccos.kernel.setup import doctor
from aios_eccos.observe import command
from aios_eccos.observe.trace import of_fields
from aios_eccos.providers.transport import HttpProvider, LiteLLMProvider
from aios_eccos.values import EXPLORED
from integration.hostile.servers import SERVERS, body
from integration.hostile.servers import server as model_server


def test_a_lone_call_does_not_wait_for_a_batch(fresh: Any) -> None:
    fresh.refresh(window_ms=1000.0)
    times = []
    for _ in range(4):
        begun = time.monotonic()
        response = fresh.ask(llms=["small"])
        times.append(time.monotonic() - begun)
        assert response.response_message.startswith("small: ")
        assert response.status_code == 200
    assert min(times) < 1.0, "none waits out the window; a busy machine holds up one or the other"


class Gate:
    """Requests with the text "held" wait for `go`; `begun` tells that one does."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    complete, found = HttpProvider.complete, Gate()

    def held(provider: Any, request: Any, timeout_s: float) -> object:
        if request["messages"][0]["content"] == "held":
            found.begun.set()
            found.go.wait(60)
        return complete(provider, request, timeout_s)

    monkeypatch.setattr(HttpProvider, "complete", held)
    yield found
    found.go.set()


def test_a_short_call_is_answered_while_a_long_one_on_its_model_runs(
    fresh: Any, gate: Gate
) -> None:
    fresh.refresh(call_timeout_s=60.0)
    slow, slow_got = fresh.spawn(lambda: fresh.ask("held", llms=["small"]))
    assert gate.begun.wait(60)
    assert fresh.ask(llms=["small"]).status_code == 200
    assert not slow_got
    gate.go.set()
    slow.join(60)
    assert slow_got[0][1].status_code == 200


def test_a_pinned_model_is_obeyed_and_others_are_not_asked(fresh: Any) -> None:
    assert fresh.ask(llms=["large"]).response_message.startswith("large: ")
    assert fresh.stubs.stats("small")["requests"] == 0


def test_without_llms_every_model_is_allowed_and_the_strongest_serves_at_first(fresh: Any) -> None:
    assert fresh.ask().response_message.startswith("large: ")


def test_unavailable_names_are_filtered_out_of_a_list(fresh: Any) -> None:
    assert fresh.ask(llms=["no-such-model", "small"]).response_message.startswith("small: ")


def test_only_unavailable_names_get_the_error_of_aios(fresh: Any) -> None:
    response = fresh.ask(llms=["no-such-model"])
    assert response.finished
    assert response.status_code == 404
    assert "not all available" in response.error


def test_an_entry_without_a_name_hurts_nobody_else(fresh: Any) -> None:
    calls = [fresh.spawn(lambda: fresh.ask(llms=["small"])) for _ in range(2)]
    bad = fresh.ask(llms=[{"backend": "vllm"}])
    assert bad.status_code == 400
    assert "name" in bad.error
    for thread, got in calls:
        thread.join(60)
        assert got[0][1].status_code == 200


@pytest.mark.parametrize("most", [-5, 0, 10**400, 2.5, True])
def test_a_length_that_is_none_hurts_nobody_else(fresh: Any, most: Any) -> None:
    undecided = fresh.serving.engine.router.failures
    query = fresh.query()
    object.__setattr__(query, "max_new_tokens", most)
    bad = [fresh.spawn(lambda: fresh.execute(query)) for _ in range(3)]
    good = [fresh.spawn(fresh.ask) for _ in range(3)]
    for thread, got in bad:
        thread.join(60)
        assert got[0][1].status_code == 400
        assert "max_new_tokens" in got[0][1].error
    for thread, got in good:
        thread.join(60)
        assert got[0][1].response_message.startswith("large: ")
    assert fresh.serving.engine.router.failures == undecided


def test_half_a_character_in_an_agents_name_can_be_shown(fresh: Any) -> None:
    assert fresh.ask(llms=["small"], agent="\ud800").status_code == 200
    until(lambda: fresh.serving.last[-1]["agent"] == "?")
    json.dumps(list(fresh.serving.last), ensure_ascii=False).encode()


def test_a_message_that_is_no_json_is_answered(fresh: Any) -> None:
    message = {"role": "user", "content": "a", "x": {1: 2, "b": 3}}
    response = fresh.ask([message], llms=["small"])
    assert response.status_code == 200


def test_a_client_that_raises_anything_is_an_answer(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = HttpProvider.complete

    def broken(provider: Any, request: Any, timeout_s: float) -> object:
        if request["messages"][0]["content"] == "break":
            raise KeyError("a bug")
        return complete(provider, request, timeout_s)

    monkeypatch.setattr(HttpProvider, "complete", broken)
    beside = fresh.spawn(fresh.ask)
    response = fresh.ask("break")
    assert response.status_code == 500
    assert "KeyError" in response.error
    beside[0].join(60)
    assert beside[1][0][1].status_code == 200


def test_no_messages_is_the_agents_own_error(fresh: Any) -> None:
    response = fresh.ask([])
    assert response.status_code == 400
    assert "non-empty list of messages" in response.error


@pytest.mark.parametrize("content", [None, [], [{"type": "text", "text": "hi"}], "é\x00漢🙂"])
def test_any_content_is_served(fresh: Any, content: object) -> None:
    response = fresh.ask([{"role": "user", "content": content}], llms=["small"])
    assert response.status_code == 200


def test_temperature_length_and_schema_reach_the_model(fresh: Any) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "object"}}}
    fresh.ask(
        llms=["small"],
        action_type="chat_with_json_output",
        message_return_type="json",
        temperature=0.25,
        max_new_tokens=77,
        response_format=schema,
    )
    (body,) = fresh.stubs.requests("small")
    assert (body["temperature"], body["max_tokens"]) == (0.25, 77)
    assert body["response_format"] == schema


def test_json_without_a_schema_asks_for_a_json_object(fresh: Any) -> None:
    fresh.ask(llms=["small"], message_return_type="json")
    assert fresh.stubs.requests("small")[0]["response_format"] == {"type": "json_object"}


TOOLS = [{"type": "function", "function": {"name": "demo/add", "parameters": {}}}]


def test_tool_calls_work_on_openai_compatible_servers(fresh: Any) -> None:
    tools = [{"type": "function", "function": {"name": "demo/add", "parameters": {}}}]
    response = fresh.ask('[[tool demo__add {"a": 1}]]', llms=["small"], tools=tools)
    assert response.tool_calls == [{"name": "demo/add", "parameters": {"a": 1}, "id": "call_1"}]
    assert tools == TOOLS, "the agent's own list was changed"
    assert fresh.stubs.requests("small")[0]["tools"][0]["function"]["name"] == "demo__add"


def test_text_is_kept_where_tools_were_offered_and_none_was_called(fresh: Any) -> None:
    response = fresh.ask("[[say no tool needed]]", llms=["small"], tools=TOOLS)
    assert response.response_message == "no tool needed"
    assert response.tool_calls == []


def test_what_answers_show_of_themselves_is_kept(fresh: Any) -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}
    strict = [{"function": {"name": "demo/add", "parameters": schema}}]
    cases: list[tuple[str, dict[str, Any], dict[str, bool | None]]] = [
        ('[[say {"a": 1}]]', {"response_format": asked}, {"valid_json": True}),
        ('[[say {"a": "1"}]]', {"response_format": asked}, {"valid_json": False}),
        ("[[say words]]", {"message_return_type": "json"}, {"valid_json": False}),
        ("[[say words]]", {"tools": strict}, {"valid_json": None, "tool_calls": None}),
        ('[[tool demo__add {"a": 1}]]', {"tools": strict}, {"tool_calls": True, "empty": False}),
        ('[[tool demo__add {"b": 1}]]', {"tools": strict}, {"tool_calls": False}),
        ('[[tool other {"a": 1}]]', {"tools": strict}, {"tool_calls": False}),
    ]
    for text, fields, wanted in cases:
        assert fresh.ask(text, llms=["small"], **fields).status_code == 200
        engine = fresh.serving.engine
        assert engine.recorder.flush()
        ((identity, flat),) = engine.ledger.decisions(1)
        (tried,) = of_fields(identity, flat).tries
        assert tried.model == "small"
        assert {name: getattr(tried.signals, name) for name in wanted} == wanted, text


class Loaded:
    """A tool, in the place of one from the hub."""

    def run(self, params: Any) -> str:
        return f"added {params['a']}"


def test_call_tool_runs_the_tool_that_the_model_calls(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = fresh.scheduler.tool_manager
    monkeypatch.setattr(tools, "load_tool_instance", lambda name: Loaded())
    response = fresh.ask(
        '[[tool demo__add {"a": 1}]]', llms=["small"], tools=TOOLS, action_type="call_tool"
    )
    assert response.response_message == "added 1"
    response = fresh.ask("[[say no]]", llms=["small"], tools=TOOLS, action_type="call_tool")
    assert "No tool was called" in response.response_message


def test_a_model_that_fails_under_call_tool_is_the_agents_error(fresh: Any) -> None:
    response = fresh.ask("[[status 400]]", llms=["small"], tools=TOOLS, action_type="call_tool")
    assert response.status_code == 400
    assert "LLM error with model 'small': 400" in response.error


def test_a_model_that_fails_under_operate_file_is_the_agents_error(fresh: Any) -> None:
    with pytest.raises(StepFailed, match="LLM error with model 'small': empty answer") as failed:
        fresh.ask("[[null]]", llms=["small"], action_type="operate_file")
    assert failed.value.status_code == 502


class Storing:
    """A storage manager after whose operation the model is ill."""

    def __init__(self, stubs: Any) -> None:
        self.stubs = stubs

    def address_request(self, syscall: Any) -> Any:
        from cerebrum.storage.apis import StorageResponse

        self.stubs.faults("small", {"status 400": 1.0})
        return StorageResponse(response_message="notes.txt was made", finished=True)


def test_a_summary_that_fails_does_not_hide_what_was_done(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh.scheduler, "storage_manager", Storing(fresh.stubs))
    with pytest.raises(StepFailed, match=r"model 'small': 400.*before it: notes.txt was made"):
        fresh.ask(FILE, llms=["small"], action_type="operate_file")


FILE = '[[first tool create_file {"file_path": "notes.txt"}]]'


def test_every_step_of_an_action_is_served_by_the_model_that_the_agent_named(fresh: Any) -> None:
    summary = fresh.ask(FILE, llms=["small"], action_type="operate_file")
    assert summary.startswith("small: ")
    assert fresh.stubs.stats("large")["requests"] == 0


def test_a_malformed_tool_is_the_agents_own_error(fresh: Any) -> None:
    response = fresh.ask(llms=["small"], tools=[{"type": "function"}])
    assert response.status_code == 400
    assert fresh.stubs.stats("small")["requests"] == 0


@pytest.mark.parametrize(
    ("directive", "status", "reason"),
    [
        ("[[empty]]", 502, "empty choices"),
        ("[[null]]", 502, "empty answer"),
        ("[[badjson]]", 502, "invalid answer"),
        ("[[close]]", 503, "no connection"),
        ("[[status 500]]", 500, "500"),
        ("[[status 429]]", 429, "429"),
    ],
)
def test_a_failing_server_costs_one_request_on_each_of_two_models(
    fresh: Any, directive: str, status: int, reason: str
) -> None:
    response = fresh.ask(directive)
    assert response.finished
    assert response.status_code == status
    assert reason in response.error
    for model in ("small", "large"):
        assert fresh.stubs.stats(model)["requests"] == 1


@pytest.mark.parametrize(
    "directive", ["null", "empty", "badjson", "close", "status 503", "status 401"]
)
def test_a_failed_call_is_answered_by_another_model(fresh: Any, directive: str) -> None:
    fresh.stubs.faults("large", {directive: 1.0})
    response = fresh.ask()
    assert response.status_code == 200
    assert response.response_message.startswith("small: ")


def refusing(*models: str, fresh: Any, status: int, words: str) -> None:
    """Let models' servers refuse every call in these words.

    The models are declared as nowhere else, as a refusal is believed wherever they are alike.
    """
    error = json.dumps({"error": {"message": words}})
    declared = copy.deepcopy(fresh.config)
    for entry in declared["llms"]["models"]:
        if entry["name"] in models:
            entry["context_window"] = 16_384
            fresh.stubs.faults(entry["name"], {f"raw {status} {error}": 1.0})
    fresh.config = declared
    fresh.write_raw(declared)
    fresh.reload()


#: A status and a server's words when only its own model cannot serve a call.
REFUSALS = [
    (400, "This model's maximum context length is 4096 tokens. However, you requested 9000."),
    (413, "Request too large"),
    (405, "Model does not accept image input"),
    (404, "No endpoints found that support tool use."),
    (400, "The response was filtered due to the content management policy"),
    (500, "tools param requires --jinja flag"),
]


@pytest.mark.parametrize(("status", "words"), REFUSALS)
def test_what_one_model_refuses_another_answers(fresh: Any, status: int, words: str) -> None:
    refusing("large", fresh=fresh, status=status, words=words)
    response = fresh.ask()
    assert response.response_message.startswith("small: ")
    assert not fresh.serving.engine.router.slots().cooling
    pinned = fresh.ask(llms=["large"])
    assert pinned.status_code == status
    assert words[:20] in pinned.error


def test_a_window_that_a_server_names_is_kept_to_and_told(fresh: Any) -> None:
    words = "The input (9000 tokens) is longer than the model's context length (4096 tokens)."
    refusing("large", fresh=fresh, status=400, words=words)
    long = "a word and another " * 1050
    fresh.ask(long)
    fresh.stubs.faults("large", {})
    fresh.stubs.reset()
    assert fresh.ask(f"another {long}").response_message.startswith("small: ")
    assert fresh.stubs.stats("large")["requests"] == 0
    said = doctor.LivingKernel.model_validate(status.kernel_status(fresh.process))
    assert said.refusals == [
        {
            "model": "large",
            "refuses": "has refused more than 4096 tokens",
            "remedy": "set its context_window",
        }
    ]
    engine = fresh.serving.engine
    assert engine.recorder.flush()
    ((identity, flat),) = engine.ledger.decisions(1)
    closed = {option.model: option.closed for option in of_fields(identity, flat).options}
    assert closed["large"] == "has refused more than 4096 tokens"


CUT = {"message": {"content": "half of"}, "finish_reason": "MAX_TOKENS"}


def test_a_cut_off_answer_is_told_as_such(fresh: Any) -> None:
    response = fresh.ask(f"[[raw 200 {json.dumps({'choices': [CUT]})}]]", llms=["small"])
    assert (response.response_message, response.finish_reason) == ("half of", "length")
    assert (response.status_code, response.error) == (200, None)
    assert fresh.ask("[[say whole]]", llms=["small"]).finish_reason == "stop"
    nothing = {"choices": [CUT | {"message": {"content": ""}}]}
    response = fresh.ask(f"[[raw 200 {json.dumps(nothing)}]]", llms=["small"])
    assert response.status_code == 502 and "truncated" in response.error


def test_what_a_server_does_not_count_is_counted_and_not_metered(fresh: Any) -> None:
    choice = {"message": {"content": "It is so."}, "finish_reason": "stop"}
    for usage in ({"prompt_tokens": -5, "completion_tokens": -5}, {"completion_tokens": 1e30}):
        body = json.dumps({"choices": [choice], "usage": usage})
        assert fresh.ask(f"[[raw 200 {body}]]", llms=["small"]).status_code == 200
        engine = fresh.serving.engine
        assert engine.recorder.flush()
        ((identity, flat),) = engine.ledger.decisions(1)
        trace = of_fields(identity, flat)
        assert (trace.output_tokens, trace.metered) == (4, False)
        assert trace.cost_usd is not None and 0 < trace.cost_usd < 1e-4


def test_halves_of_characters_break_neither_question_nor_answer(fresh: Any) -> None:
    half = json.dumps({"choices": [{"message": {"content": "half \ud83d"}}]})
    response = fresh.ask(f"[[raw 200 {half}]] \ud83d", llms=["small"])
    assert response.response_message == "half \ufffd"
    assert fresh.stubs.requests("small")[-1]["messages"][0]["content"].endswith(" \ufffd")


def _litellm(fresh: Any) -> Any:
    """In LiteLLM's place where AIOS is not installed: it asks thrice unless told otherwise."""

    def completion(
        model: str, api_base: str, num_retries: int, max_retries: int, timeout: Any, **asked: Any
    ) -> Any:
        request = {"model": model.split("/")[1], **asked}
        server = HttpProvider(api_base)
        try:
            for _ in range(2 * max(num_retries, max_retries)):
                server.complete(request, timeout.read)
            return server.complete(request, timeout.read)
        finally:
            server.close()

    return SimpleNamespace(completion=completion)


@pytest.fixture
def hosted(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernel, whose model `small` is asked through LiteLLM."""
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    if importlib.util.find_spec("litellm") is None:
        monkeypatch.setitem(sys.modules, "litellm", _litellm(fresh))
    adapter = fresh.serving.adapter
    place = {"api_base": adapter.llm_configs[0].hostname}
    small = LiteLLMProvider("openai/small", place)
    monkeypatch.setattr(adapter, "llms", [small, *adapter.llms[1:]])
    return fresh


def test_hosted_models_are_asked_through_litellm(hosted: Any) -> None:
    response = hosted.ask("hello", llms=["small"], temperature=0.25, max_new_tokens=77)
    assert response.response_message == "small: hello"
    (body,) = hosted.stubs.requests("small")
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("small", 0.25, 77)


def test_tools_are_called_through_litellm_too(hosted: Any) -> None:
    response = hosted.ask('[[tool demo__add {"a": 1}]]', llms=["small"], tools=TOOLS)
    assert response.tool_calls == [{"name": "demo/add", "parameters": {"a": 1}, "id": "call_1"}]
    response = hosted.ask("[[say no tool needed]]", llms=["small"], tools=TOOLS)
    assert (response.response_message, response.tool_calls) == ("no tool needed", [])


@pytest.mark.parametrize(
    ("directive", "status"),
    [("[[close]]", 503), ("[[badjson]]", 502), ("[[status 500]]", 500), ("[[null]]", 502)],
)
def test_litellm_repeats_nothing_on_its_own_and_says_what_happened(
    hosted: Any, directive: str, status: int
) -> None:
    adapter = hosted.serving.adapter
    syscall = SimpleNamespace(query=hosted.query(directive))
    answer = adapter.ask("small", syscall, 5.0)
    assert answer.failure.status_code == status
    assert hosted.stubs.stats("small")["requests"] == 1


def test_a_pinned_call_is_repeated_on_its_model(fresh: Any) -> None:
    response = fresh.ask("[[first status 500]]", llms=["small"])
    assert response.status_code == 200
    assert fresh.stubs.stats("small")["requests"] == 2


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_other_client_errors_are_not_repeated(fresh: Any, status: int) -> None:
    response = fresh.ask(f"[[status {status}]]", llms=["small"])
    assert response.status_code == status
    assert fresh.stubs.stats("small")["requests"] == 1


def test_a_server_that_never_answers_is_given_up(fresh: Any) -> None:
    fresh.refresh(call_timeout_s=0.6)
    call, got = fresh.spawn(lambda: fresh.ask("[[hang]]", llms=["small"]))
    call.join(60)
    seconds, response = got[0]
    assert response.status_code == 504
    assert "timeout" in response.error
    assert seconds < 8.0, "the limit of before"


def test_the_deadline_hint_ends_a_call_sooner(fresh: Any) -> None:
    entry = {"name": "small", "eccos": {"deadline_s": 0.4}}
    response = fresh.ask("[[delay 3]]", llms=[entry])
    assert response.status_code == 504


@pytest.mark.parametrize("depth", [120, 900])
@pytest.mark.parametrize(
    "nest",
    [
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: {"type": "text", "content": [inner]},
        lambda inner: {"type": "tool_result", "content": [inner]},
    ],
    ids=["lists", "mappings", "parts", "results"],
)
def test_what_is_nested_beyond_all_use_is_the_calls_own_fault(
    fresh: Any, nest: Any, depth: int
) -> None:
    deep: Any = "deep"
    for _ in range(depth):
        deep = nest(deep)
    function = {"name": "f", "parameters": {"a": deep}}
    for fields in (
        {"text": [{"role": "user", "content": [deep]}]},
        {"tools": [{"type": "function", "function": function}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": deep}}}},
    ):
        answer = fresh.ask(**fields)
        assert (answer.status_code, answer.response_message) == (400, None)
    assert fresh.ask().status_code == 200


def test_a_hint_out_of_range_is_named(fresh: Any) -> None:
    response = fresh.ask(llms=[{"name": "small", "eccos": {"floor": 2}}])
    assert response.status_code == 400
    assert "floor = 2" in response.error


def one_slot(fresh: Any) -> None:
    """A refresh after which the small model has one slot."""
    changed = fresh.stock_config()
    changed["llms"]["models"][0]["concurrency"] = 1
    changed["llms"]["router"]["eccos"]["call_timeout_s"] = 60.0
    fresh.config = changed
    fresh.write_raw(changed)
    fresh.reload()


def test_a_priority_hint_goes_first_when_slots_are_short(fresh: Any, gate: Gate) -> None:
    one_slot(fresh)
    depth = fresh.serving.engine.dispatcher.depth
    threads = []
    for waiting, (label, priority) in enumerate((("held", 0), ("later", 0), ("urgent", 5))):
        entry = {"name": "small", "eccos": {"priority": priority}}
        call = partial(fresh.ask, label, llms=[entry])
        threads.append(fresh.spawn(call)[0])
        until(lambda before=waiting: depth() == (before, 1))
    gate.go.set()
    for thread in threads:
        thread.join(60)
    asked = [body["messages"][0]["content"] for body in fresh.stubs.requests("small")]
    assert asked == ["held", "urgent", "later"]


def test_limits_hold(fresh: Any) -> None:
    changed = fresh.stock_config()
    changed["llms"]["models"][0]["concurrency"] = 3
    fresh.config = changed
    fresh.write_raw(changed)
    fresh.reload()
    calls = [fresh.spawn(lambda: fresh.ask("[[delay 0.4]]", llms=["small"])) for _ in range(12)]
    for thread, got in calls:
        thread.join(60)
        assert got[0][1].status_code == 200
    assert fresh.stubs.stats("small")["peak"] == 3


def test_ollama_models_join_at_run_time(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = fresh.serving.adapter
    monkeypatch.setattr(adapter, "_initialize_single_llm", lambda config: adapter.llms[0])
    with model_server(body(b'{"models": [{"name": "pulled-1b"}, {"name": 5}, 5]}')) as url:
        monkeypatch.setattr(adapter, "_ollama_hostname", url.removesuffix("/v1"))
        response = fresh.ask(llms=[{"name": "pulled-1b", "backend": "ollama"}])
    assert response.status_code == 200
    assert "pulled-1b" in fresh.serving.adapter.available_llm_names
    fresh.refresh()


def test_an_unknown_ollama_model_is_refused(fresh: Any) -> None:
    response = fresh.ask(llms=[{"name": "never-heard-of", "backend": "ollama"}])
    assert response.status_code == 404


@pytest.mark.parametrize(
    "name", ["drips chunks", "sends chunks for ever", "nests", "says nothing", "is no UTF-8"]
)
def test_a_call_waits_in_vain_for_no_ollama(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("aios_eccos.kernel.adapter.OLLAMA_S", 0.3)
    with model_server(SERVERS[name]) as url:
        monkeypatch.setattr(fresh.serving.adapter, "_ollama_hostname", url.removesuffix("/v1"))
        response = fresh.ask(llms=[{"name": "never-heard-of", "backend": "ollama"}])
    assert response.status_code == 404


class Failing:
    """A manager whose operations go wrong."""

    def address_request(self, syscall: Any) -> Any:
        raise RuntimeError("the disk is full")


class Hung:
    """A manager that never answers the agent `bad`."""

    def __init__(self) -> None:
        self.begun, self.release = threading.Event(), threading.Event()

    def address_request(self, syscall: Any) -> Any:
        if syscall.agent_name == "bad":
            self.begun.set()
            self.release.wait(60)
        return "served"


class Together:
    """A manager that counts how many calls are in it at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def address_request(self, syscall: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.02)
        self.now -= 1
        return "served"


@pytest.mark.parametrize("kind", ["memory", "storage", "tool"])
def test_a_failing_manager_answers_with_an_error(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(fresh.scheduler, f"{kind}_manager", Failing())
    response = fresh.execute(other_query(kind))
    assert "the disk is full" in response.error


class Leaving:
    """A manager whose operation ends its thread, as a tool that calls sys.exit() does."""

    def address_request(self, syscall: Any) -> Any:
        sys.exit(3)


@pytest.mark.parametrize("kind", ["memory", "storage", "tool"])
def test_an_operation_that_ends_its_thread_answers_with_an_error(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(fresh.scheduler, f"{kind}_manager", Leaving())
    response = fresh.execute(other_query(kind))
    assert "SystemExit" in response.error, "no timeout"


def test_a_client_that_ends_its_thread_is_an_answer_and_keeps_no_slot(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(provider: Any, request: Any, timeout_s: float) -> object:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(HttpProvider, "complete", leave)
        response = fresh.ask(llms=["small"])
    assert response.status_code == 500 and "SystemExit" in response.error
    slots = fresh.serving.engine.router.slots()
    assert slots.free == slots.limits
    assert fresh.ask(llms=["small"]).status_code == 200


class Fails:
    """A tool."""

    def run(self, params: Any) -> str:
        raise RuntimeError("no such number")


def test_a_tool_that_has_failed_before_answers_with_an_error(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = fresh.scheduler.tool_manager
    monkeypatch.setattr(tools, "load_tool_instance", lambda name: Fails())
    first = fresh.execute(other_query("tool"))
    assert "no such number" in first.response_message
    again = fresh.execute(other_query("tool"))
    assert again.status_code == 500
    assert "no answer" in again.error
    fresh.refresh()


def test_operations_that_never_return_are_given_up_together_and_keep_no_other_waiting(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.refresh(call_timeout_s=5.0)
    hung = Hung()
    monkeypatch.setattr(fresh.scheduler, "storage_manager", hung)
    bad = [fresh.spawn(lambda: fresh.execute(other_query("storage"), "bad")) for _ in range(5)]
    assert hung.begun.wait(60)
    assert fresh.execute(other_query("storage"), "good") == "served"
    assert all(thread.is_alive() for thread, _ in bad)
    for thread, got in bad:
        thread.join(60)
        seconds, response = got[0]
        assert "timeout" in response.error
        assert 4.9 < seconds < 9.9, "the time runs from the call's arrival"
    hung.release.set()


def test_quick_operations_of_a_kind_come_one_at_a_time(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Together()
    monkeypatch.setattr(operations, "TURN_S", 5.0)
    monkeypatch.setattr(operations, "TURNS_S", 5.0)
    monkeypatch.setattr(fresh.scheduler, "memory_manager", together)
    calls = [fresh.spawn(lambda: fresh.execute(other_query("memory"))) for _ in range(25)]
    for thread, got in calls:
        thread.join(60)
        assert got[0][1] == "served"
    assert together.most == 1


def test_slow_operations_wait_for_no_more_than_a_second_behind_however_many(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.refresh(call_timeout_s=60.0)
    hung = Hung()
    monkeypatch.setattr(operations, "TURN_S", 60.0)
    monkeypatch.setattr(fresh.scheduler, "storage_manager", hung)
    bad = [fresh.spawn(lambda: fresh.execute(other_query("storage"), "bad")) for _ in range(40)]
    assert hung.begun.wait(60)
    assert fresh.execute(other_query("storage"), "good") == "served"
    assert all(thread.is_alive() for thread, _ in bad), "it came before any turn was over"
    hung.release.set()
    for thread, _ in bad:
        thread.join(60)


def test_an_operation_that_never_returns_does_not_keep_the_process_from_ending(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = Hung()
    monkeypatch.setattr(fresh.scheduler, "storage_manager", hung)
    call, got = fresh.spawn(lambda: fresh.execute(other_query("storage"), "bad"))
    assert hung.begun.wait(60)
    monkeypatch.setattr(fresh.serving, "ends_at", time.monotonic() + 0.1)
    call.join(60)
    hung.release.set()
    assert "the kernel is ending" in got[0][1].error


def other_query(kind: str) -> Any:
    module = importlib.import_module(f"cerebrum.{kind}.apis")
    fields: dict[str, Any] = {
        "memory": {"operation_type": "get_memory", "params": {"memory_id": "x"}},
        "storage": {"operation_type": "sto_list", "params": {}},
        "tool": {"tool_calls": [{"name": "a/b", "parameters": {}}]},
    }[kind]
    return getattr(module, f"{kind.capitalize()}Query")(**fields)


def test_calls_under_way_survive_a_refresh_and_limits_do_not_leak(fresh: Any) -> None:
    calls = [fresh.spawn(lambda: fresh.ask("[[delay 0.5]]", llms=["small"])) for _ in range(12)]
    until(lambda: fresh.serving.engine.dispatcher.depth()[1])
    fresh.refresh()
    calls += [fresh.spawn(lambda: fresh.ask("[[delay 0.5]]", llms=["small"])) for _ in range(6)]
    for thread, got in calls:
        thread.join(60)
        assert got[0][1].status_code == 200
    assert fresh.stubs.stats("small")["peak"] <= 8


def test_a_model_that_moved_is_asked_at_its_new_place_alone(fresh: Any) -> None:
    for _ in range(2):
        fresh.refresh()
    changed = fresh.stock_config()
    changed["llms"]["models"][0]["hostname"] = fresh.stubs.url("large")
    fresh.config = changed
    fresh.write_raw(changed)
    fresh.reload()
    for _ in range(6):
        assert fresh.ask(llms=["small"]).response_message.startswith("large: "), "its server"
    assert fresh.stubs.stats("small")["requests"] == 0


def test_refreshes_leave_no_threads_and_one_scheduler(fresh: Any) -> None:
    ended = [*fresh.scheduler.processing_threads.values()]
    fresh.refresh()
    # What the refresh ends must not count as having been there.
    until(lambda: not any(thread.is_alive() for thread in ended))
    until(lambda: not any("_clean" in thread.name for thread in threading.enumerate()))
    before = threading.active_count()
    first = fresh.scheduler
    for _ in range(4):
        fresh.refresh()
    until(lambda: threading.active_count() <= before)
    assert fresh.scheduler is not first
    assert not first.active
    assert fresh.launch.active_components["scheduler"] is fresh.scheduler


def test_one_tool_server_runs_after_any_number_of_refreshes(fresh: Any) -> None:
    servers = [fresh.scheduler.tool_manager.mcp_server_process]
    for _ in range(3):
        fresh.refresh()
        servers.append(fresh.scheduler.tool_manager.mcp_server_process)
    with pytest.raises(Exception, match=r".+"):
        fresh.refresh(quality_flor=1)  # AIOS has started another by the time that it gives up
    fresh.refresh()
    servers.append(fresh.scheduler.tool_manager.mcp_server_process)
    for server in servers[:-1]:
        server.wait(60)
    assert servers[-1].poll() is None
    (note,) = (fresh.serving.config.location.state_dir / "kernels").iterdir()
    assert str(servers[-1].pid) in note.read_text()


def test_a_refresh_that_does_not_validate_leaves_the_old_configuration_in_force(
    fresh: Any,
) -> None:
    adapter = fresh.serving.adapter
    broken = fresh.stock_config()
    broken["llms"]["router"]["eccos"]["quality_flor"] = 0.5
    fresh.write_raw(broken)
    with pytest.raises(Exception, match=r"quality_flor|Missing required components"):
        fresh.reload()
    assert fresh.serving.adapter is adapter
    fresh.write()
    fresh.launch.config.refresh()
    assert fresh.ask(llms=["small"]).status_code == 200


def test_another_strategy_is_aioss_own_until_a_refresh_comes_back(fresh: Any) -> None:
    ours, kind = fresh.scheduler, type(fresh.scheduler)
    fresh.config = fresh.stock_config()
    fresh.config["llms"]["router"]["strategy"] = "sequential"
    fresh.write_raw(fresh.config)
    fresh.reload()
    assert not ours.active
    (own,) = fresh.process.stock_schedulers
    assert not isinstance(own, kind) and not isinstance(own.llm, type(ours.llm))
    threads = [*own.processing_threads.values()]
    settled = fresh.serving.settled
    assert fresh.ask().response_message.startswith("small: "), "the first"
    fresh.refresh()
    assert not own.active and fresh.scheduler.active
    until(lambda: not any(thread.is_alive() for thread in threads))  # its last look at the queue
    for _ in range(8):
        assert fresh.ask().response_message.startswith("large: "), "the strongest"
    until(lambda: fresh.serving.settled == settled + 8)


def test_after_cleanup_calls_get_an_error_until_the_next_refresh(fresh: Any) -> None:
    fresh.scheduler.stop()
    response = fresh.ask(llms=["small"])
    assert response.status_code == 503
    assert "/core/refresh" in response.error
    assert "/core/refresh" in fresh.execute(other_query("storage")).error
    fresh.refresh()
    assert fresh.ask(llms=["small"]).status_code == 200


def test_the_context_managers_scheduler_serves_too(fresh: Any) -> None:
    changed = fresh.stock_config()
    changed["llms"]["use_context_manager"] = True
    fresh.config = changed
    fresh.write_raw(changed)
    fresh.reload()
    response = fresh.ask(llms=["small"], tools=TOOLS)
    assert response.status_code == 200


def test_a_waiting_call_whose_client_has_gone_is_dropped(fresh: Any, gate: Gate) -> None:
    from aios_eccos.kernel import calls

    one_slot(fresh)
    depth = fresh.serving.engine.dispatcher.depth
    running, _ = fresh.spawn(lambda: fresh.ask("held", llms=["small"]))
    assert gate.begun.wait(60)
    caller = calls.Caller()

    def as_client() -> Any:
        calls.caller.set(caller)
        return fresh.ask(llms=["small"])

    waiting, got = fresh.spawn(as_client)
    until(lambda: depth() == (1, 1))
    fresh.serving.leave(caller)
    waiting.join(60)
    assert got[0][1].status_code == 499
    gate.go.set()
    running.join(60)
    until(lambda: depth() == (0, 0))
    assert fresh.stubs.stats("small")["requests"] == 1


def test_observe_serves_the_choice_of_aios_and_counts_what_routing_would_do(fresh: Any) -> None:
    fresh.refresh(mode="observe")
    before = fresh.serving.observed.sums.model_copy()
    assert fresh.ask().response_message.startswith("small: ")
    until(lambda: fresh.serving.observed.sums.calls == before.calls + 1)
    assert fresh.serving.observed.sums.same_choice == before.same_choice
    assert fresh.ask(llms=["large", "small"]).response_message.startswith("large: ")


class Last:
    """In the place of AIOS's SmartRouting, whose store wants the network: the last model."""

    def __init__(self, llm_configs: list[Any], bootstrap_url: Any) -> None:
        if bootstrap_url == "broken":
            raise OSError("no network")
        self.count = len(llm_configs)

    def get_model_idxs(self, selected: Any, queries: Any) -> list[int]:
        return [self.count - 1 for _ in queries]


@pytest.mark.parametrize(
    ("before", "model"),
    [("smart", "large"), ("'smart'", "large"), ("sequential", "small"), (None, "small")],
)
def test_observe_follows_the_strategy_of_before(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, before: str | None, model: str
) -> None:
    import aios.llm_core.routing

    monkeypatch.setattr(aios.llm_core.routing, "SmartRouting", Last)
    note = fresh.serving.config.location.state_dir / "enabled.json"
    fields = {"python": "", "hook": "", "created": False, "before": "", "after": ""}
    note.write_text(json.dumps({**fields, "strategy": before}))
    try:
        fresh.refresh(mode="observe")
        assert fresh.ask().response_message.startswith(f"{model}: ")
        fresh.refresh()
        fresh.serving.switch("observe")  # switched in the living kernel
        assert fresh.ask().response_message.startswith(f"{model}: ")
    finally:
        note.unlink()


def test_a_strategy_of_before_that_cannot_start_costs_no_answer(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import aios.llm_core.routing

    monkeypatch.setattr(aios.llm_core.routing, "SmartRouting", Last)
    note = fresh.serving.config.location.state_dir / "enabled.json"
    fields = {"python": "", "hook": "", "created": False, "before": "", "after": ""}
    note.write_text(json.dumps({**fields, "strategy": "smart"}))
    config = fresh.stock_config()
    config["llms"]["router"] |= {"bootstrap_url": "broken"}
    config["llms"]["router"]["eccos"]["mode"] = "observe"
    try:
        fresh.config = config
        fresh.write_raw(config)
        fresh.reload()
        assert fresh.ask().response_message.startswith("small: ")
        assert "cannot be followed" in caplog.text
    finally:
        note.unlink()


def test_observe_serves_what_aios_would_whatever_the_model_can(fresh: Any) -> None:
    config = fresh.stock_config()
    config["llms"]["router"]["eccos"]["mode"] = "observe"
    config["llms"]["models"][0] |= {"context_window": 10, "abilities": []}
    fresh.config = config
    fresh.write_raw(config)
    fresh.reload()
    response = fresh.ask("x" * 400, message_return_type="json")
    assert response.response_message.startswith("small: ")


@pytest.mark.parametrize("index", [-1, 7, "raise", "short"])
def test_a_broken_router_of_aios_costs_no_answer_in_observe_mode(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, index: Any
) -> None:
    fresh.refresh(mode="observe")

    def choose(selected: Any, queries: Any) -> list[int]:
        if index == "raise":
            raise RuntimeError("broken")
        return [] if index == "short" else [index]

    monkeypatch.setattr(fresh.serving.adapter.router, "get_model_idxs", choose)
    assert fresh.ask().response_message.startswith("small: ")


def test_agents_keep_no_process_alive(fresh: Any, gate: Gate) -> None:
    call, _ = fresh.spawn(lambda: fresh.ask("held", llms=["small"]))
    assert gate.begun.wait(60)
    foreign = [t for t in threading.enumerate() if "Syscall" in type(t).__name__]
    assert foreign
    assert all(thread.daemon for thread in foreign)
    gate.go.set()
    call.join(60)


def test_eccos_in_the_terminal_asks_no_model(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "answer", lambda reader, words: f"rendered: {words}")
    assert fresh.ask("/eccos status", agent="terminal").response_message == "rendered: status"
    classifier = [
        {"role": "system", "content": "Answer with chat or file_operation"},
        {"role": "user", "content": "/eccos status"},
    ]
    assert fresh.ask(classifier, agent="terminal").response_message == "chat"
    as_file = fresh.ask("/eccos status", agent="terminal", action_type="operate_file")
    assert as_file == "rendered: status"
    assert sum(fresh.stubs.stats(m)["requests"] for m in ("small", "large")) == 0


def test_eccos_is_for_the_terminal_alone(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "answer", lambda reader, words: "secret")
    assert "secret" not in fresh.ask("/eccos status", agent="spy").response_message


def test_an_inspection_that_fails_says_so(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(reader: Any, words: str) -> str:
        raise ValueError("no such decision")

    monkeypatch.setattr(command, "answer", broken)
    assert "no such decision" in fresh.ask("/eccos last", agent="terminal").response_message


def test_what_an_agent_wraps_its_questions_in_is_not_forecast_on(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    router = fresh.serving.engine.router
    forecast = router.forecast
    monkeypatch.setattr(fresh.serving, "templates", TemplateFilter())
    monkeypatch.setattr(
        router,
        "forecast",
        lambda queries: seen.extend(q.text for q in queries) or forecast(queries),
    )
    for i in range(5):
        fresh.ask(f"You are careful.\nTools: none\n\nQuestion: add {i} and 1\n\nAnswer in JSON.")
    assert seen[0].startswith("You are careful.") and seen[-1] == "add 4 and 1"


def test_a_decision_says_which_part_of_a_long_prompt_it_was_made_on(fresh: Any) -> None:
    context = "The river passes the old mill, and the town trades wool there. " * 100
    question = "What is 12 times 34, and is it even?"
    fresh.ask(f"{context}\n\n{question}", agent="reader")
    workload = fresh.serving.engine.workload
    mine: list[dict[str, str]] = []

    def kept() -> bool:
        mine[:] = [flat for _, flat in workload.decisions(5) if flat["agent"] == '"reader"']
        return bool(mine)

    until(kept)
    flat = mine[0]
    trace = of_fields("1-0", flat)
    end = len(context) + 2 + len(question)
    assert trace.reading is not None
    assert (trace.reading.source, trace.reading.rule) == ("last user message", "question")
    assert (trace.reading.end, trace.reading.of) == (end, end)
    assert trace.reading.end - trace.reading.start == len(question)
    assert question not in json.dumps(flat), "never the text itself"


@pytest.mark.parametrize("status", ["optimal", EXPLORED])
def test_the_conversation_knows_who_read_it_and_is_not_bound_to_who_chance_chose(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    dispatcher = fresh.serving.engine.dispatcher
    submit = dispatcher.submit

    def chosen(*call: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def over(done: Future[Any]) -> None:
            settled = done.result()
            decision = replace(settled.decision, status=status)
            future.set_result(replace(settled, decision=decision))

        submit(*call).add_done_callback(over)
        return future

    monkeypatch.setattr(dispatcher, "submit", chosen)
    query = fresh.query(f"remember {status}", llms=["small"])
    fresh.execute(query)
    known = fresh.serving.sessions.recall(turn("agent", query.messages))
    assert [*known.read] == ["small"]
    assert not known.called and not known.escalated, "only these bind it"


def test_the_next_turn_finds_its_model_as_soon_as_the_answer_is_there(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every kernel: it is shared before the answer, and an agent has that whatever happens."""
    serving, told = fresh.serving, []

    def share(key: str, known: Any, shared: Any) -> None:
        told.append((key, known.model))
        raise RuntimeError("Redis has lost its mind")

    monkeypatch.setattr(serving.sessions, "share", share)
    query = fresh.query("remember me", llms=["small"])
    assert fresh.execute(query).response_message.startswith("small")
    key = turn("agent", query.messages)
    assert told == [(key, "small")]
    assert serving.sessions.recall(key).model == "small"
