"""Every shape in which servers give an answer, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import Broken, StatusError, failure_of


def body(content: Any = "fine", finish: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


#: Content, its text and its thoughts.
CONTENTS: list[tuple[Any, str | None, str]] = [
    ("It is 4.", "It is 4.", ""),
    ("", "", ""),
    (None, None, ""),
    ([], None, ""),
    ([{"type": "text", "text": "It is 4."}], "It is 4.", ""),
    # docs.mistral.ai/capabilities/reasoning
    (
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "It is 4."},
        ],
        "It is 4.",
        "hm",
    ),
    # docs.anthropic.com/en/docs/build-with-claude/extended-thinking
    (
        [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "It is "},
            {"type": "text", "text": "4."},
        ],
        "It is 4.",
        "hm",
    ),
    # platform.openai.com/docs/api-reference/responses/object
    (
        [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "output_text", "text": "It is 4.", "annotations": []},
        ],
        "It is 4.",
        "hm",
    ),
    ([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "4"}], "4", "hm"),
    ([{"type": "refusal", "refusal": "I cannot."}], "I cannot.", ""),
    # platform.openai.com/docs/api-reference/messages: its assistants
    ([{"type": "text", "text": {"value": "4", "annotations": []}}], "4", ""),
    # ai.google.dev/gemini-api/docs/thinking
    ({"parts": [{"text": "hm", "thought": True}, {"text": "It is 4."}]}, "It is 4.", "hm"),
    (["It ", "is 4."], "It is 4.", ""),
    ([None, 7, {"type": "image_url", "image_url": {"url": "x"}}], "7", ""),
    ({"type": "text", "text": "4"}, "4", ""),
    ({"answer": 4}, '{"answer": 4}', ""),
    (4, "4", ""),
]


@pytest.mark.parametrize(("content", "text", "thoughts"), CONTENTS)
def test_the_text_of_an_answer_is_found_and_thoughts_are_left_out(
    content: Any, text: str | None, thoughts: str
) -> None:
    found = read(body(content))
    assert (found.text, found.thoughts) == (text, thoughts)


def test_thoughts_beside_the_content_and_a_refusal_in_its_place() -> None:
    assert read(body("4", reasoning_content="hm")).thoughts == "hm"
    assert read(body("4", reasoning="hm")).thoughts == "hm"
    assert read(body(None, refusal="I cannot.")).text == "I cannot."


@pytest.mark.parametrize(
    "word",
    [
        "length",  # OpenAI, vLLM, Ollama
        "max_tokens",  # Anthropic, Bedrock
        "MAX_TOKENS",  # Gemini, Cohere
        "FinishReason.MAX_TOKENS",  # Gemini's SDK, as text
        "model_length",  # Mistral
        "max_output_tokens",  # OpenAI's Responses
        "model_context_window_exceeded",  # Anthropic
        "token_limit",
    ],
)
def test_an_answer_that_was_cut_off_is_told_in_every_word(word: str) -> None:
    assert read(body(finish=word)).truncated is True


@pytest.mark.parametrize(
    ("word", "truncated"),
    [("stop", False), ("end_turn", False), ("eos_token", False), ("STOP", False), (None, None)],
)
def test_an_answer_that_ended_by_itself_is_whole(word: str | None, truncated: bool | None) -> None:
    assert read(body(finish=word)).truncated is truncated


def test_the_providers_own_word_counts_and_a_stop_text_does_not() -> None:
    choice = {"message": {"content": "4"}, "finish_reason": "stop"}
    # openrouter.ai/docs/api-reference/overview#finish-reason
    assert read({"choices": [choice | {"native_finish_reason": "MAX_TOKENS"}]}).truncated
    # vLLM gives the text at which it stopped
    assert read({"choices": [choice | {"stop_reason": "length"}]}).truncated is False


@pytest.mark.parametrize(
    "word",
    [
        "content_filter",  # OpenAI, Azure
        "SAFETY",  # Gemini
        "RECITATION",
        "PROHIBITED_CONTENT",
        "guardrail_intervened",  # Bedrock
        "refusal",  # Anthropic
        "sensitive",  # Zhipu
    ],
)
def test_what_a_filter_held_back_another_model_may_answer(word: str) -> None:
    with pytest.raises(Broken) as held:
        read(body("half of", finish=word))
    failure = failure_of(held.value)
    assert (failure.refused, failure.elsewhere, failure.rests) == ("filter", True, False)


@pytest.mark.parametrize(
    "word", ["error", "abort", "MALFORMED_FUNCTION_CALL", "network_error", "cancelled"]
)
def test_an_answer_that_was_broken_off_is_asked_again(word: str) -> None:
    with pytest.raises(Broken) as off:
        read(body("half of", finish=word))
    assert failure_of(off.value).retryable


def call(arguments: Any, name: Any = "add", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


#: Arguments as they arrive, and the parameters; None = they cannot be read.
ARGUMENTS: list[tuple[Any, dict[str, Any] | None]] = [
    ('{"a": 1, "b": 2}', {"a": 1, "b": 2}),
    ({"a": 1}, {"a": 1}),  # llama.cpp, Ollama
    (json.dumps('{"a": 1}'), {"a": 1}),  # huggingface/smolagents#1003
    (json.dumps(json.dumps('{"a": 1}')), {"a": 1}),
    ("", {}),  # vllm-project/vllm#19419
    ("  ", {}),
    (None, {}),
    ("null", {}),
    ("{}", {}),
    ("[]", {}),
    ([], {}),
    ('""', {}),
    ('{"a": 1}{"a": 2}', None),  # BerriAI/litellm#20543
    ('{}{"a": 1}', None),
    ('{"a": ', None),
    ("[1]", None),
    ("7", None),
    ('"text"', None),
    ('{"a": NaN}', None),
    ('{"a": 1e999}', None),
    ('{"a":' * 200 + "1" + "}" * 200, None),
    ("[" * 100_000, None),
]


@pytest.mark.parametrize(
    ("arguments", "wanted"), ARGUMENTS, ids=[str(a[0])[:30] for a in ARGUMENTS]
)
def test_the_arguments_of_a_tool_call(arguments: Any, wanted: dict[str, Any] | None) -> None:
    calls = read(body(None, "tool_calls", tool_calls=[call(arguments)])).calls
    assert (None if calls is None else calls[0].parameters) == wanted


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [call('{"a": 1}', id="1")]},
        {"function_call": {"name": "add", "arguments": '{"a": 1}'}},  # OpenAI before 2023-11
        {"content": [{"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}]},
        {"content": [{"type": "function_call", "name": "add", "arguments": '{"a": 1}'}]},
        {"tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
    ],
)
def test_a_tool_call_is_found_wherever_it_stands(message: dict[str, Any]) -> None:
    (found,) = read({"choices": [{"message": message}]}).calls or ()
    assert (found.name, found.parameters) == ("add", {"a": 1})
    assert found.id


@pytest.mark.parametrize("name", [None, "", 7])
def test_a_call_without_a_name_cannot_be_read(name: Any) -> None:
    assert read(body(None, tool_calls=[call("{}", name)])).calls is None


def test_halves_of_characters_are_replaced_wherever_they_stand() -> None:
    half = "half \ud83d of a pair"
    found = read(body(half, tool_calls=[call('{"\\ud83d": ["\\ude00"]}', half, id=half)]))
    assert found.text == "half \ufffd of a pair"
    (asked,) = found.calls or ()
    assert asked.parameters == {"\ufffd": ["\ufffd"]}
    assert (asked.name + asked.id).encode()
    assert read(body([{"text": "\ud83d"}, {"text": "\ude00"}])).text == "\U0001f600"


#: An answer with a good status, and the status that its error stands for.
ERRORS: list[tuple[dict[str, Any], int]] = [
    # openrouter.ai/docs/api-reference/errors
    ({"error": {"code": 429, "message": "Rate limit exceeded"}}, 429),
    ({"error": {"code": "502", "message": "Provider returned error"}}, 502),
    ({"choices": [{"error": {"code": 503, "message": "overloaded"}, "message": {}}]}, 503),
    # vLLM, SGLang
    ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, 400),
    # docs.anthropic.com/en/api/errors
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529),
    ({"error": {"type": "rate_limit_error", "message": "slow"}}, 429),
    # cloud.google.com/apis/design/errors
    ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "quota"}}, 429),
    ({"error": {"status": "UNAVAILABLE"}}, 503),
    ({"error": {"type": "insufficient_quota"}}, 429),
    ({"error": {"code": "invalid_api_key"}}, 401),
    ({"error": {"code": "context_length_exceeded", "message": "too long"}}, 400),
    # developers.cloudflare.com/fundamentals/api/how-to/make-api-calls
    ({"success": False, "errors": [{"code": 500, "message": "internal"}]}, 500),
    ({"error": "this model does not support tools"}, 400),
]


@pytest.mark.parametrize(("answer", "status"), ERRORS, ids=[str(e[1]) for e in ERRORS])
def test_an_error_within_a_good_status_is_that_error(answer: dict[str, Any], status: int) -> None:
    with pytest.raises(StatusError) as error:
        read(answer)
    assert failure_of(error.value).status_code == status


@pytest.mark.parametrize(
    "answer",
    [
        {"html-message": "Network connection lost."},  # Portkey-AI/gateway#267
        "<html>",
        None,
        7,
        [],
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": {"0": "a"}},
        {"error": {"message": "it broke"}},
        {"error": "it broke"},
    ],
)
def test_an_answer_without_a_choice_is_asked_again_and_rests_nothing(answer: Any) -> None:
    with pytest.raises(Broken) as broken:
        read(answer)
    failure = failure_of(broken.value)
    assert (failure.status_code, failure.retryable, failure.rests) == (502, True, False)


@pytest.mark.parametrize("nothing", [None, {}, "", [], False])
def test_an_error_that_is_none_is_none(nothing: Any) -> None:
    assert read(body() | {"error": nothing}).text == "fine"
