from enum import Enum
from typing import Any


class RouterStrategy(str, Enum):
    Sequential = "sequential"
    Smart = "smart"


class SequentialRouting:
    def __init__(self, llm_configs: list[Any]) -> None:
        self.llm_configs = llm_configs

    def get_model_idxs(self, selected_llm_lists: Any, queries: Any) -> list[int]:
        names = [model.name for model in self.llm_configs]
        return [names.index(chosen[0]["name"]) for chosen in selected_llm_lists]


class SmartRouting:
    """The dearest model; AIOS's asks a store."""

    def __init__(self, llm_configs: list[Any], bootstrap_url: Any) -> None:
        self.llm_configs = llm_configs

    def get_model_idxs(self, selected_llm_lists: Any, queries: Any) -> list[int]:
        names = [model.name for model in self.llm_configs]
        return [names.index(chosen[-1]["name"]) for chosen in selected_llm_lists]
