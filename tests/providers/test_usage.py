"""Token counts by every name, and those that cannot be."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from aios_eccos.providers.completion import read
from aios_eccos.providers.usage import MOST_TOKENS, Usage, read_usage, whole

WORDS = "It is so, and that is all."


@pytest.mark.parametrize(
    ("claim", "count"),
    [
        (100, 100),
        ("100", 100),
        (100.0, 100),
        (0, 0),
        (MOST_TOKENS, MOST_TOKENS),
        (None, None),
        (-5, None),
        (10**30, None),
        (1e30, None),
        (1.5, None),
        (math.nan, None),
        (math.inf, None),
        ("n/a", None),
        ("", None),
        (True, None),
        ({"text": 12}, None),
        ([12], None),
    ],
)
def test_a_count_is_a_whole_number_in_range(claim: object, count: int | None) -> None:
    assert whole(claim) == count


def details(kind: str, **counts: int) -> dict[str, Any]:
    return {f"{kind}_tokens_details": counts}


#: Name of a server, its answer's body, and the tokens that it bills.
BILLED: list[tuple[str, dict[str, Any], Usage]] = [
    # platform.openai.com/docs/api-reference/chat/object
    (
        "OpenAI: both parts are within",
        {
            "prompt_tokens": 15000,
            "completion_tokens": 350,
            "total_tokens": 15350,
            **details("prompt", cached_tokens=12000),
            **details("completion", reasoning_tokens=300),
        },
        Usage(15000, 350, 12000, 300),
    ),
    # platform.openai.com/docs/api-reference/responses/object
    (
        "OpenAI's Responses",
        {
            "input_tokens": 36,
            "output_tokens": 87,
            "total_tokens": 123,
            **details("input", cached_tokens=30),
            **details("output", reasoning_tokens=80),
        },
        Usage(36, 87, 30, 80),
    ),
    # docs.x.ai/docs/key-information/consumption-and-rate-limits: thoughts beside the completion
    (
        "xAI: thoughts are beside",
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            **details("completion", reasoning_tokens=94),
        },
        Usage(32, 103, 0, 94),
    ),
    (
        "thoughts beside, and no total",
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            **details("completion", reasoning_tokens=94),
        },
        Usage(32, 103, 0, 94),
    ),
    # ai.google.dev/gemini-api/docs/openai: thoughts stand in the total alone
    (
        "Gemini's OpenAI interface",
        {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 530},
        Usage(10, 520),
    ),
    # ai.google.dev/api/generate-content#UsageMetadata
    (
        "Gemini",
        {
            "promptTokenCount": 10,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 500,
            "totalTokenCount": 530,
        },
        Usage(10, 520, 4, 500),
    ),
    # docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance
    (
        "Anthropic: cached tokens are beside",
        {
            "input_tokens": 3,
            "cache_read_input_tokens": 12000,
            "cache_creation_input_tokens": 100,
            "output_tokens": 50,
        },
        Usage(12103, 50, 12000),
    ),
    # docs.litellm.ai/docs/completion/prompt_caching: the prompt's count holds them there
    (
        "LiteLLM for Anthropic",
        {
            "prompt_tokens": 12103,
            "completion_tokens": 50,
            "total_tokens": 12153,
            "cache_read_input_tokens": 12000,
            **details("prompt", cached_tokens=12000),
        },
        Usage(12103, 50, 12000),
    ),
    # docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    (
        "Bedrock",
        {"inputTokens": 3, "cacheReadInputTokens": 900, "outputTokens": 50, "totalTokens": 953},
        Usage(903, 50, 900),
    ),
    # api-docs.deepseek.com/guides/kv_cache
    (
        "DeepSeek",
        {
            "prompt_tokens": 1000,
            "prompt_cache_hit_tokens": 900,
            "prompt_cache_miss_tokens": 100,
            "completion_tokens": 60,
            "total_tokens": 1060,
            **details("completion", reasoning_tokens=40),
        },
        Usage(1000, 60, 900, 40),
    ),
    # console.groq.com/docs/api-reference#chat-create
    (
        "Groq",
        {"queue_time": 0.01, "prompt_tokens": 18, "completion_tokens": 556, "total_tokens": 574},
        Usage(18, 556),
    ),
    # docs.cohere.com/reference/chat
    (
        "Cohere",
        {"billed_units": {"input_tokens": 5, "output_tokens": 7}},
        Usage(5, 7),
    ),
    (
        "cached tokens beside OpenAI's count",
        {
            "prompt_tokens": 3,
            "completion_tokens": 50,
            "total_tokens": 53,
            **details("prompt", cached_tokens=12000),
        },
        Usage(12003, 50, 12000),
    ),
    ("text", {"prompt_tokens": "100", "completion_tokens": "50"}, Usage(100, 50)),
    ("floats", {"prompt_tokens": 100.0, "completion_tokens": 50.0}, Usage(100, 50)),
    (
        "the second name where the first cannot be",
        {"prompt_tokens": None, "input_tokens": 7, "completion_tokens": -1, "output_tokens": 9},
        Usage(7, 9),
    ),
    ("zero", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
    ("negative", {"prompt_tokens": -5, "completion_tokens": -5}, Usage()),
    ("huge", {"prompt_tokens": 10**30, "completion_tokens": 1e30}, Usage()),
    ("no numbers", {"prompt_tokens": math.nan, "completion_tokens": math.inf}, Usage()),
    ("objects", {"prompt_tokens": {"text": 1}, "completion_tokens": [2]}, Usage()),
    ("half of it", {"prompt_tokens": 100, "completion_tokens": None}, Usage(100, None)),
    ("odd details", {"prompt_tokens": 9, "prompt_tokens_details": "none"}, Usage(9)),
    ("nothing", {}, Usage()),
    ("thoughts without an answer", details("completion", reasoning_tokens=1_000_000), Usage()),
    ("Gemini's, without an answer", {"thoughtsTokenCount": 1_000_000}, Usage()),
    (
        "thoughts of an answer of nothing",
        {"completion_tokens": 0, "total_tokens": 0, **details("completion", reasoning_tokens=0)},
        Usage(),
    ),
    (
        "more thoughts than the answer, as the total says",
        {
            "prompt_tokens": 5,
            "completion_tokens": 90,
            "total_tokens": 95,
            **details("completion", reasoning_tokens=91),
        },
        Usage(5, 181, 0, 91),
    ),
    (
        "a sum beyond what can be",
        {"input_tokens": 9_000_000, "cache_read_input_tokens": 9_000_000, "output_tokens": 5},
        Usage(None, 5),
    ),
    (
        "thoughts beside, beyond what can be",
        {"candidatesTokenCount": 9_000_000, "thoughtsTokenCount": 9_000_000},
        Usage(),
    ),
    ("cached tokens of no prompt", details("prompt", cached_tokens=1_000_000), Usage()),
]


@pytest.mark.parametrize(("counted", "wanted"), [b[1:] for b in BILLED], ids=[b[0] for b in BILLED])
def test_tokens_are_those_that_are_billed(counted: dict[str, Any], wanted: Usage) -> None:
    assert read_usage({"usage": counted}) == wanted


@pytest.mark.parametrize(
    "body",
    [
        # github.com/ollama/ollama/blob/main/docs/api.md: in the answer itself
        {"prompt_eval_count": 26, "eval_count": 298, "done_reason": "stop"},
        {"usageMetadata": {"promptTokenCount": 26, "candidatesTokenCount": 298}},
        {"x_groq": {"usage": {"prompt_tokens": 26, "completion_tokens": 298}}},
        {"usage": None, "meta": {"billed_units": {"input_tokens": 26, "output_tokens": 298}}},
    ],
)
def test_counts_are_found_where_servers_put_them(body: dict[str, Any]) -> None:
    assert read_usage(body) == Usage(26, 298)


@pytest.mark.parametrize("usage", [None, {}, "much", {"prompt_tokens": None}, 7, [1]])
def test_what_a_server_does_not_count_is_counted_here_and_marked(usage: object) -> None:
    choice = {"message": {"content": WORDS}, "finish_reason": "stop"}
    found = read({"choices": [choice], "usage": usage}).counted("Is it so?")
    assert found.counted_by == "tokenizer"
    assert found.output_tokens is not None and 7 <= found.output_tokens <= 12
    assert found.input_tokens is not None and 3 <= found.input_tokens <= 5


def test_tool_calls_and_thoughts_are_counted_too() -> None:
    call = {"function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    message = {"content": None, "reasoning_content": WORDS, "tool_calls": [call]}
    found = read({"choices": [{"message": message}]}).counted(None)
    assert found.counted_by is not None and found.input_tokens is None
    assert found.output_tokens is not None and found.output_tokens > 15


def test_a_servers_own_count_is_not_marked() -> None:
    choice = {"message": {"content": WORDS}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 8}}
    found = read(body).counted("Is it so?")
    assert (found.usage, found.counted_by) == (Usage(4, 8), None)


def asking(*parts: object, **more: Any) -> dict[str, Any]:
    content = "Is it so?" if not parts else [{"type": "text", "text": "Is it so?"}, *parts]
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


@pytest.mark.parametrize(
    ("claim", "left"),
    [
        ({"prompt_tokens": 9, **details("prompt", cached_tokens=1_000_000)}, Usage(None, 5)),
        ({"prompt_tokens": 9_000_000}, Usage(None, 5)),
        ({"input_tokens": "9", "cache_read_input_tokens": 1e6}, Usage(None, 5)),
        ({"completion_tokens": 900_000}, Usage(9)),
        ({"total_tokens": 9_000_000}, Usage(9)),
        ({**details("completion", reasoning_tokens=5_000_000)}, Usage(9)),
        # What servers add, and thoughts that are beside the limit, are within reason.
        ({"prompt_tokens": 15_000}, Usage(15_000, 5)),
        ({"prompt_tokens": 3, "cache_read_input_tokens": 12_000}, Usage(12_003, 5, 12_000)),
        ({**details("completion", reasoning_tokens=40_000)}, Usage(9, 40_005, 0, 40_000)),
    ],
)
def test_a_count_is_left_out_that_no_answer_to_the_request_can_have(
    claim: dict[str, Any], left: Usage, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"usage": {"prompt_tokens": 9, "completion_tokens": 5, **claim}}
    if "input_tokens" in claim:
        del body["usage"]["prompt_tokens"]
    with caplog.at_level(logging.WARNING):
        assert read_usage(body, asking(max_tokens=100)) == left
    doubted = None in (left.input, left.output)
    assert ("model m counts" in caplog.text) == doubted


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        (asking(), 30_000),
        (asking({"type": "text", "text": "so " * 50_000}), 170_000),
        (asking(tools=[{"function": {"name": "f" * 90_000}}]), 110_000),
        # What it refers to is not seen here.
        (asking({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}), 48_000),
        (asking({"type": "file", "file": {"file_id": "paper"}}), 200_000),
        (asking({"type": "video_url", "video_url": {"url": "https://a.example/b"}}), 1_000_000),
    ],
)
def test_a_long_prompt_is_believed_where_it_can_be(request_: dict[str, Any], tokens: int) -> None:
    used = {"prompt_tokens": tokens, "completion_tokens": 5}
    assert read_usage({"usage": used}, request_).input == tokens


def test_what_is_not_believed_is_counted_here() -> None:
    choice = {"message": {"content": WORDS}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 4, "completion_tokens": 900_000}
    found = read({"choices": [choice], "usage": usage}, asking()).counted(None)
    assert found.counted_by is not None
    assert found.output_tokens is not None and 7 <= found.output_tokens <= 12
