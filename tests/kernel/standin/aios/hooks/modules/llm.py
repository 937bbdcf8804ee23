from typing import Any

from aios.llm_core.adapter import LLMAdapter as LLM


def useCore(**params: Any) -> Any:
    return LLM(**params)
