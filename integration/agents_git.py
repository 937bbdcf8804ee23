"""Run as a subprocess with the git Cerebrum: every call of its SDK, results as JSON lines."""

from __future__ import annotations

import json
from typing import Any

import requests
from cerebrum.llm.apis import (
    llm_call_tool,
    llm_chat,
    llm_chat_with_json_output,
    llm_chat_with_tool_call_output,
    llm_operate_file,
)

TOOL = {
    "type": "function",
    "function": {
        "name": "demo/add",
        "description": "adds",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "object"}}}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def show(name: str, value: Any) -> None:
    print(json.dumps({"name": name, "value": value}), flush=True)


SMALL = [{"name": "small", "backend": "vllm"}]
show("chat", llm_chat("sdk", user("hello"), llms=SMALL)["response"])
show("free", llm_chat("sdk", user("hello"))["response"])
show(
    "json",
    llm_chat_with_json_output(
        "sdk", user('[[say {"keywords": []}]]'), llms=SMALL, response_format=SCHEMA
    )["response"],
)
show(
    "tool",
    llm_chat_with_tool_call_output(
        "sdk", user('[[tool demo__add {"a": 2}]]'), tools=[TOOL], llms=SMALL
    )["response"],
)
show("call_tool", llm_call_tool("sdk", user("[[say none needed]]"), tools=[TOOL], llms=SMALL))
show(
    "tool_run", llm_call_tool("sdk", user('[[tool demo__add {"a": 2}]]'), tools=[TOOL], llms=SMALL)
)
show("tool_failed", llm_call_tool("sdk", user("[[status 400]]"), tools=[TOOL], llms=SMALL))
show(
    "operate_file",
    llm_operate_file(
        "sdk",
        user('[[first tool create_file {"file_path": "notes.txt"}]]'),
        tools=[],
        llms=SMALL,
    ),
)
try:
    llm_operate_file("sdk", user("[[null]]"), tools=[], llms=SMALL)
except requests.HTTPError as error:
    got = error.response
    show("file_failed", [got.status_code, got.json()["detail"]] if got is not None else None)
