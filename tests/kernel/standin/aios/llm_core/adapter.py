import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from cerebrum.llm.apis import LLMResponse

from aios.config.config_manager import config
from aios.llm_core.client import OpenAI
from aios.llm_core.routing import RouterStrategy, SequentialRouting


@dataclass
class LLMConfig:
    name: str
    backend: Any = None
    hostname: Any = None
    api_key: Any = None


class LLMAdapter:
    def __init__(
        self,
        llm_configs: Any,
        api_key: Any = None,
        log_mode: str = "console",
        use_context_manager: bool = False,
        routing_strategy: Any = None,
    ) -> None:
        self.llm_configs = []
        self.llms: list[Any] = []
        self.available_llm_names: list[str] = []
        self._dynamic_registration_lock = threading.Lock()
        self._ollama_hostname = "http://localhost:11434"
        for entry in llm_configs:
            self._add(LLMConfig(entry["name"], entry["backend"], entry.get("hostname")))
        if config.get_router_config().get("strategy") != RouterStrategy.Sequential:
            raise ValueError("Invalid routing strategy")
        self.router = SequentialRouting(llm_configs=self.llm_configs)

    def _add(self, model: LLMConfig) -> None:
        self.llm_configs.append(model)
        self.llms.append(self._initialize_single_llm(model))
        self.available_llm_names.append(model.name)

    def _initialize_single_llm(self, config: LLMConfig) -> Any:
        return OpenAI(base_url=config.hostname, api_key="x")

    def _dynamic_register_ollama_model(self, model_name: str) -> bool:
        with self._dynamic_registration_lock:
            pulled = self._query_ollama_available_models()
            if model_name not in self.available_llm_names and model_name in pulled:
                self._add(LLMConfig(model_name, "ollama", self.llm_configs[0].hostname))
            return model_name in self.available_llm_names

    def _query_ollama_available_models(self) -> set[str]:
        return set()

    def ask_first(self, query: Any) -> LLMResponse:
        """AIOS's sequential strategy: the first model that the agent names, else the first."""
        timeout = SimpleNamespace(read=10.0)
        name = query.llms[0]["name"] if query.llms else self.available_llm_names[0]
        answer = self.llms[0].create(model=name, timeout=timeout, messages=query.messages)
        return LLMResponse(response_message=answer.choices[0].message.content, finished=True)

    def _get_model_response(
        self,
        model_name: str,
        model: Any,
        messages: Any,
        tools: Any,
        llm_syscall: Any,
        api_base: Any = None,
        message_return_type: Any = "text",
        response_format: Any = None,
        temperature: float = 1.0,
        max_tokens: int = 1000,
    ) -> tuple[Any, bool]:
        return model.generate(messages=messages), True

    def _process_response(
        self,
        completed_response: Any,
        finished: bool,
        tools: Any = None,
        model: Any = None,
        message_return_type: Any = None,
    ) -> LLMResponse:
        return LLMResponse(response_message=completed_response, finished=finished)
