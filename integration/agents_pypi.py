"""Run as a subprocess with the PyPI generation of the SDK (aios-agent-sdk 0.0.3)."""

from __future__ import annotations

import json
import os
from typing import Any

from cerebrum.client import Cerebrum
from cerebrum.llm.communication import LLMQuery

client = Cerebrum(os.environ["CEREBRUM_KERNEL_URL"])


def ask(text: str, action: str) -> Any:
    messages = [{"role": "user", "content": text}]
    return client._query_llm("old-sdk", LLMQuery(messages=messages, action_type=action))


print(json.dumps({"name": "chat", "value": ask("hello", "chat")["response"]}))
print(
    json.dumps(
        {
            "name": "operate_file",
            "value": ask('[[first tool create_file {"file_path": "old.txt"}]]', "operate_file"),
        }
    )
)
