"""How long a prompt is, and what in it is a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed.embedding import EmbedderSource
from aios_eccos.providers import tokens
from aios_eccos.providers.tokens import IMAGE_TOKENS, counted, estimated, images, prompt_tokens
from aios_eccos.providers.usage import read_usage


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("a word and another " * 100, 400, 500),
        ("这是一个关于路由的长文本。" * 100, 780, 2200),  # 1,300 characters
        ("안녕하세요 여러분 반갑습니다 " * 100, 850, 2400),  # 1,300 syllables
        ("これはルーティングの話です。" * 100, 840, 2400),
        ("Это длинный текст о маршрутизации. " * 100, 800, 2400),  # 3,500 characters
        ("🙂" * 100, 100, 300),
        ("\ud83d" * 30, 20, 60),
        ("", 0, 0),
    ],
)
def test_the_length_of_a_text_in_every_script(text: str, least: int, most: int) -> None:
    assert least <= estimated(text) <= most


def test_a_prompt_holds_its_tools_and_the_calls_of_tools() -> None:
    long = [{"role": "user", "content": "x" * 4000}]
    assert prompt_tokens(long, None) == 1000
    assert prompt_tokens(long, [{"name": "y" * 400}]) > 1090
    called = {"function": {"name": "add", "arguments": "z" * 400}}
    assert prompt_tokens([*long, {"role": "assistant", "tool_calls": [called]}], None) > 1090
    result = {"type": "tool_result", "content": [{"type": "text", "text": "z" * 400}]}
    assert prompt_tokens([*long, {"role": "user", "content": [result]}], None) > 1090
    old = {"role": "assistant", "content": None, "function_call": called}
    assert prompt_tokens([*long, old], None) > 1090


DATA = "iVBORw0KGgo="
URL = f"data:image/png;base64,{DATA}"
PICTURES: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": URL}},  # OpenAI
    {"type": "image_url", "image_url": URL},  # Mistral
    {"type": "input_image", "image_url": URL},  # OpenAI's Responses
    {"type": "input_image", "file_id": "file-1"},
    {"type": "image_file", "image_file": {"file_id": "file-1"}},  # assistants
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},  # Anthropic
    {"type": "image", "image": URL},  # Qwen
    {"image": {"format": "png", "source": {"bytes": DATA}}},  # Bedrock
    {"inline_data": {"mime_type": "image/png", "data": DATA}},  # Gemini
    {"inlineData": {"mimeType": "image/png", "data": DATA}},
    {"fileData": {"mimeType": "image/png", "fileUri": "gs://x"}},
    {"type": "media", "mime_type": "image/jpeg", "data": DATA},  # LangChain
    {"type": "file", "file": {"file_data": URL}},
    {"type": "video_url", "video_url": {"url": "http://x"}},  # vLLM
    {"type": "tool_result", "content": [{"type": "image", "source": {}}]},
]


@pytest.mark.parametrize("part", PICTURES, ids=str)
def test_a_picture_is_seen_in_every_spelling(part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "what is on it?"}, part]}
    assert images(message) == 1
    assert IMAGE_TOKENS <= prompt_tokens([message], None) < IMAGE_TOKENS + 20


def test_pictures_beside_the_content_are_seen() -> None:
    assert images({"role": "user", "content": "what?", "images": [DATA, DATA]}) == 2  # Ollama


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "image_url"},
        {"type": "text", "text": "x", "image": None},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{DATA}"}},
        {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
        {"inline_data": {"mime_type": "application/pdf", "data": DATA}},
        "image",
        None,
    ],
    ids=str,
)
def test_what_is_no_picture_is_none(part: Any) -> None:
    assert images({"role": "user", "content": [part]}) == 0


def test_a_text_is_counted_by_the_embedders_tokenizer_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert counted("Seven words make up this short answer.") == (8, "tokenizer")
    assert counted("half \ud83d")[1] == "tokenizer"
    assert counted("x" * 300_000) == (75_000, "characters"), "that would take seconds"

    def missing() -> None:
        raise EmbedderError("not here")

    monkeypatch.setattr(tokens, "find_embedder", missing)
    tokens.tokenizer.cache_clear()
    assert counted("x" * 40) == (10, "characters")
    tokens.tokenizer.cache_clear()


def nested(value: Any, times: int = 2000) -> Any:
    for _ in range(times):
        value = {"content": [value]}
    return value


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
#: What no agent should send, and no function must raise of.
ODD: list[Any] = [
    None,
    7,
    "text",
    {"role": "user"},
    [7, None, "text", [["x"]]],
    [{"role": "user", "content": 7}, {"content": {"text": "x"}}, {7: 8, (1, 2): {3}}],
    [{"content": ["text", 7, None, {"text": 7}, {"type": ["image"]}]}],
    [{"tool_calls": {(1, 2): float("nan")}, "function_call": b"x"}],
    [{"tool_calls": CIRCLE, "content": CIRCLE}],
    [nested({"text": "x"})],
    [{"tool_calls": nested(1)}],
]


@pytest.mark.parametrize("odd", ODD, ids=[str(at) for at in range(len(ODD))])
def test_odd_messages_have_a_length_too(odd: Any) -> None:
    for messages, tools in ((odd if isinstance(odd, list) else [odd], None), ([], odd)):
        assert 0 <= prompt_tokens(messages, tools) < 100_000
    used = {"usage": {"prompt_tokens": 10**6, "completion_tokens": 5}}
    assert read_usage(used, {"messages": odd, "tools": odd}).output == 5


#: Tokenizers that cannot be read, or fail at the text "qqqq...!", with what is no `Exception`.
BROKEN = {
    "garbage": b"\xff\0",
    "values in values": b'{"a":' * 100_000,
    "of other values": b'{"version": 1}',
    "a search without end": json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(q+)+$"},
                "behavior": "Isolated",
                "invert": False,
            },
            "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
        }
    ).encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_tokenizer_that_fails_leaves_the_length(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(BROKEN[kind])
    source = EmbedderSource("model", tmp_path, "configured path")
    monkeypatch.setattr(tokens, "find_embedder", lambda: source)
    tokens.tokenizer.cache_clear()
    assert counted("q" * 399 + "!") == (100, "characters")
    tokens.tokenizer.cache_clear()
