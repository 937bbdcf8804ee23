"""What a call asks, needs and hints at; what an answer or an exception of a client means."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from aios_eccos.errors import DataError, KernelError
from aios_eccos.kernel import answers, calls, client
from aios_eccos.kernel.calls import settle
from aios_eccos.kernel.sessions import Known, Sessions
from aios_eccos.kernel.setup import contract
from aios_eccos.providers.failures import Broken, StatusError
from aios_eccos.providers.tokens import IMAGE_TOKENS
from aios_eccos.providers.usage import Usage
from aios_eccos.records import Signals
from aios_eccos.values import Failure
from integration.hostile.servers import SERVERS, server


def asked(**fields: Any) -> Any:
    defaults: dict[str, Any] = {
        "llms": None,
        "messages": [{"role": "user", "content": "hello"}],
        "tools": None,
        "max_new_tokens": 100,
        "message_return_type": "text",
        "response_format": None,
    }
    return SimpleNamespace(**{**defaults, **fields})


def read(available: tuple[str, ...] = ("small", "large"), **fields: Any) -> Any:
    return calls.read_query("agent", asked(**fields), available)


def test_needs_are_read_off_the_call() -> None:
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    assert read().needs == frozenset()
    assert read(tools=[{"name": "t"}]).needs == {"tools"}
    assert read(message_return_type="json").needs == {"json"}
    assert read(response_format={"type": "json_schema"}).needs == {"json"}
    assert read(messages=picture).needs == {"vision"}
    assert read(messages=picture).input_tokens >= IMAGE_TOKENS


def test_a_prompt_in_chinese_is_long() -> None:
    chinese = [{"role": "user", "content": "这是一个长文本。" * 1000}]
    assert read(messages=chinese).input_tokens >= 6000


def test_hints_from_any_entry() -> None:
    query = read(
        llms=[
            {"name": "small"},
            {"name": "large", "eccos": {"floor": 0.9, "priority": 3, "deadline_s": 5}},
        ]
    )
    assert (query.floor, query.priority, query.allowed) == (0.9, 3, ("small", "large"))
    assert query.deadline == pytest.approx(query.arrived + 5)


def test_hints_without_a_model_allow_every_model() -> None:
    assert read(llms=[{"eccos": {"floor": 0.5}}]).allowed is None


def test_hints_of_later_versions_are_left_aside() -> None:
    assert read(llms=[{"name": "small", "eccos": {"region": "eu", "floor": 0.5}}]).floor == 0.5


@pytest.mark.parametrize(
    "llms",
    [
        [{"name": "small", "eccos": 5}],
        [{"name": "small", "eccos": {"floor": "high"}}],
        [{"name": "small", "eccos": {"privat": True}}],
        [{"name": "small", "eccos": {"Private": True}}],
        [{"name": "small", "eccos": {"floor": 0.5, "deadlines": 5}}],
        [{"name": "small"}, {"eccos": {"max_costs": 1}}],
        [{"name": "small", "eccos": {"floor": True}}],
        [{"name": "small", "eccos": {"deadline_s": -1}}],
        [{"name": "small", "eccos": {"deadline_s": 10**400}}],
        [{"name": "small", "eccos": {"max_cost": float("nan")}}],
        [{"name": "small", "eccos": {"private": "yes" * 1000}}],
        [{"name": "small", "eccos": {"floor": [[0.5] * 1000]}}],
        [{"name": ""}],
        ["small"],
    ],
)
def test_malformed_entries_are_refused(llms: Any) -> None:
    with pytest.raises(calls.Refused) as refused:
        read(llms=llms)
    assert refused.value.status_code == 400
    assert len(str(refused.value)) < 200


def test_a_name_beyond_all_use_is_refused_and_not_kept() -> None:
    assert calls.read_query("a" * 1000, asked(), ("small",)).agent == "a" * 1000
    with pytest.raises(calls.Refused, match="1,001 signs: allowed 1,000") as refused:
        calls.read_query("a" * 1001, asked(), ("small",))
    assert refused.value.status_code == 400


def test_names_keep_their_order_once() -> None:
    names = [{"name": n} for n in ("large", "gone", "small", "large")]
    assert read(llms=names).allowed == ("large", "small")


USER = {"role": "user", "content": "u"}
REPLY = {"role": "assistant", "content": "a"}
TOOL = {"role": "tool", "content": "t"}


def test_a_conversations_next_call_finds_the_one_before() -> None:
    opening = [USER]
    assert calls.conversation("a", opening) is None
    second = [USER, REPLY, {"role": "user", "content": "more"}]
    assert calls.conversation("a", second) == calls.turn("a", opening)
    third = [*second, REPLY, USER]
    assert calls.conversation("a", third) == calls.turn("a", second)


def test_a_tool_loop_finds_the_call_before() -> None:
    opening = [USER]
    after_tool = [USER, REPLY, TOOL]
    assert calls.conversation("a", after_tool) == calls.turn("a", opening)
    after_two = [*after_tool, REPLY, TOOL, TOOL]
    assert calls.conversation("a", after_two) == calls.turn("a", after_tool)
    assert calls.conversation("a", [USER, TOOL]) == calls.turn("a", opening)


def test_keys_hold_no_text_and_differ_by_agent() -> None:
    key = calls.turn("a", [{"role": "user", "content": "a secret"}])
    assert "secret" not in key
    assert key != calls.turn("b", [{"role": "user", "content": "a secret"}])
    assert calls.conversation("a", [REPLY]) is None


def test_sessions_forget_the_old_and_the_surplus() -> None:
    sessions = Sessions(remembered_s=60, most=2)
    for key in ("one", "two", "three"):
        sessions.remember(key, Known("small"))
    assert sessions.recall("one") is None
    assert sessions.recall("three") == Known("small")
    expired = Sessions(remembered_s=0)
    expired.remember("one", Known("small"))
    assert expired.recall("one") is None


def test_the_last_user_text_whatever_the_content() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert calls.last_user_text([{"role": "user", "content": parts}]) == "a\nb"
    assert calls.last_user_text([{"role": "system", "content": "s"}]) == "s"
    assert calls.last_user_text([{"role": "user", "content": None}, "no message", {}]) == ""


def completion(
    content: Any = None, tool_calls: Any = None, finish: str = "stop", **more: Any
) -> dict[str, Any]:
    message = {"content": content, "tool_calls": tool_calls}
    return {"choices": [{"message": message, "finish_reason": finish}], **more}


def tool_call(arguments: str = "{}", name: str = "demo__add") -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, "id": None}


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (completion(choices=[]), "empty choices"),
        ("<html>", "invalid answer"),
        (completion(), "empty answer"),
        (completion(""), "empty answer"),
        (completion("", [tool_call()]), "empty answer"),
    ],
)
def test_an_answer_without_content_is_broken(response: Any, reason: str) -> None:
    with pytest.raises(Broken, match=reason) as broken:
        answers.read(response, None)
    assert answers.failure_of(broken.value).retryable


@pytest.mark.parametrize("broken", [completion(), completion(choices=[]), completion("", ["?"])])
def test_a_broken_answers_tokens_are_kept(broken: Any) -> None:
    used = {"prompt_tokens": 40, "completion_tokens": 900}
    with pytest.raises(Broken) as raised:
        answers.read({**broken, "usage": used}, None)
    assert raised.value.usage == Usage(40, 900)


def test_an_answer_cut_off_before_its_first_word_is_told_so_and_not_asked_again() -> None:
    with pytest.raises(Broken, match="truncated") as broken:
        answers.read(completion("", finish="length"), None)
    assert not answers.failure_of(broken.value).retryable
    assert broken.value.signals == Signals(truncated=True, empty=True)


def test_an_answer_that_was_cut_off_is_handed_on_and_told_so() -> None:
    found = answers.read(completion("half of", finish="MAX_TOKENS"), None)
    assert (found.text, found.truncated, found.finish) == ("half of", True, "length")


def test_an_answer_that_its_server_did_not_count_is_counted_and_marked() -> None:
    found = answers.read(completion("It is so.", usage={"completion_tokens": None}), None)
    assert (found.output_tokens, found.input_tokens) == (4, None)
    assert found.counted_by == "tokenizer"
    counted = {"prompt_tokens": 9, "completion_tokens": 5}
    found = answers.read(completion("It is so.", usage=counted), None)
    assert (found.output_tokens, found.input_tokens, found.counted_by) == (5, 9, None)


def test_tool_names_go_out_and_come_back_exactly() -> None:
    tools = [{"function": {"name": "a/b"}}, {"name": "under__score"}]
    sent, names = answers.wire_tools(tools)
    assert [tool["function"]["name"] for tool in sent] == ["a__b", "under__score"]
    assert all(tool["type"] == "function" for tool in sent)
    back = answers.read(
        completion("", [tool_call(name=n) for n in ("a__b", "under__score", "x__y")]), names
    )
    assert [call.name for call in back.calls or ()] == ["a/b", "under__score", "x/y"]
    assert all(call.id for call in back.calls or ())


def test_a_tool_call_that_is_no_json_is_broken() -> None:
    with pytest.raises(Broken, match="invalid tool call"):
        answers.read(completion(None, [tool_call("{no")]), {})


def test_a_turn_that_is_no_json_has_a_key() -> None:
    messages = [{"role": "user", 1: "mixed"}]
    assert calls.turn("agent", messages) == calls.turn("agent", messages)
    assert calls.turn("agent", messages) != calls.turn("other", messages)


def test_error_texts_never_carry_a_key() -> None:
    for code in (401, 403):
        error = StatusError(code, "sk-secret-key")
        assert "sk-" not in answers.explain(answers.failure_of(error), "small", error)
    error = StatusError(400, "half \ud83d of sk-secret-key")
    told = answers.explain(answers.failure_of(error), "small", error)
    assert "sk-secret-key" in told and told.encode()


def test_a_refusals_own_words_reach_the_agent() -> None:
    for status in (400, 403, 500):
        error = StatusError(status, "content_filter: this model does not support images")
        failure = answers.failure_of(error)
        assert "does not support images" in answers.explain(failure, "small", error)


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x9b31m", "\u202e", "\x00", "a\r\nb", "\ud800"])
def test_a_servers_words_reach_the_agent_without_what_a_terminal_obeys(odd: str) -> None:
    error = StatusError(400, f"no tools{odd} here")
    told = answers.explain(answers.failure_of(error), "small", error)
    assert "no tools" in told and "here" in told
    assert all(c.isprintable() or c == "\n" for c in told)


def test_a_call_is_settled_as_done_and_its_event_comes_last() -> None:
    steps: list[tuple[str, Any]] = []

    class Recorded:
        event = SimpleNamespace(set=lambda: steps.append(("event", None)))

        def __getattr__(self, name: str) -> Any:
            if name == "get_start_time":
                return lambda: None
            return lambda value: steps.append((name, value))

    settle(Recorded(), "response")
    assert [name for name, _ in steps][-2:] == ["set_status", "event"]
    assert ("set_status", "done") in steps
    assert ("set_response", "response") in steps


def test_explain_without_a_model_names_us() -> None:
    assert "aios-eccos" in answers.explain(Failure("stopped", 503), None)


def test_the_contract_says_what_moved(tmp_path: Any) -> None:
    problems = contract.check(tmp_path, tmp_path)
    assert any("aios/llm_core/adapter.py: no such file" in line for line in problems)
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime/launch.py").write_text("def broken(:\n")
    assert any("launch.py: cannot be read" in line for line in contract.check(tmp_path, tmp_path))


def test_a_strategy_of_that_name_in_aios_would_clash(tmp_path: Any) -> None:
    folder = tmp_path / "aios/llm_core"
    folder.mkdir(parents=True)
    (folder / "routing.py").write_text("class RouterStrategy:\n    Eccos = 'eccos'\n")
    assert any("has 'eccos' of its own" in line for line in contract.check(tmp_path, tmp_path))


def test_a_kernel_that_is_not_there_is_none_and_one_that_refuses_is_named(tmp_path: Any) -> None:
    import http.server
    import threading

    from aios_eccos.locate import load_config, locate

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404 if self.path == "/absent" else 403)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        path = tmp_path / "config.yaml"
        path.write_text(
            "llms: {models: [{name: a}]}\n"
            f"server: {{host: 127.0.0.1, port: {server.server_port}}}\n"
        )
        config = load_config(locate(config=path))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert client.ask(config, "/absent") is None
        with pytest.raises(KernelError, match="HTTP 403"):
            client.ask(config, "/eccos/kernel")
        server.shutdown()
        thread.join()
    assert client.ask(config, "/eccos/kernel") is None


@pytest.mark.parametrize(
    "name",
    [
        "drips a header",
        "drips chunks",
        "says that it goes on, for ever",
        "sends chunks for ever",
        "speaks no HTTP",
        "sends another elsewhere",
        "nests",
    ],
)
def test_whatever_listens_on_the_kernels_port_is_left_in_time(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from aios_eccos.locate import load_config, locate

    monkeypatch.setattr(client, "WHOLE_S", 0.5)
    path = tmp_path / "config.yaml"
    with server(SERVERS[name]) as url:
        port = url.split(":")[2].split("/")[0]
        path.write_text(f"llms: {{models: [{{name: a}}]}}\nserver: {{port: {port}}}\n")
        config = load_config(locate(config=path))
        if name == "sends another elsewhere":
            with pytest.raises(KernelError, match="HTTP 307"):
                client.ask(config, "/eccos/status")
        else:
            assert client.ask(config, "/eccos/status") is None


@pytest.mark.parametrize(
    ("status", "detail", "error", "told"),
    [
        (401, "http_token is set", KernelError, "HTTP 401, http_token is set"),
        (503, "the plugin serves no calls now", KernelError, "503, the plugin serves no calls now"),
        (422, [{"loc": 1}], KernelError, "HTTP 422$"),
        (404, "no decision has been kept yet", DataError, "^no decision has been kept yet$"),
    ],
)
def test_a_refusal_is_told_with_what_the_kernel_says_of_it(
    tmp_path: Any, status: int, detail: object, error: type[Exception], told: str
) -> None:
    from aios_eccos.locate import load_config, locate

    path, said = tmp_path / "config.yaml", json.dumps({"detail": detail}).encode()
    answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(said)) + said
    with server(lambda send: send(answer)) as url:
        port = url.split(":")[2].split("/")[0]
        path.write_text(f"llms: {{models: [{{name: a}}]}}\nserver: {{port: {port}}}\n")
        with pytest.raises(error, match=told):
            client.ask(load_config(locate(config=path)), "/eccos/status")
