"""AIOS's LLM adapter, as a subclass that asks one model once and says honestly what came back.

Everything else of the adapter (keys, clients, Ollama discovery) stays AIOS's own.
"""

from __future__ import annotations

import importlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any

from aios_eccos.config.local import check_address
from aios_eccos.errors import ConfigError, raised
from aios_eccos.kernel import aios_config, answers
from aios_eccos.kernel.calls import Syscall
from aios_eccos.kernel.setup.install import strategy_before
from aios_eccos.locate import Config
from aios_eccos.providers.failures import MALFORMED, Broken
from aios_eccos.providers.transport import HttpProvider, LiteLLMProvider, Provider
from aios_eccos.providers.wire import mapping
from aios_eccos.serve.shared_servers import fetched
from aios_eccos.values import Answer, Failure, Query

log = logging.getLogger("aios_eccos.kernel.adapter")

#: AIOS's word for servers that speak OpenAI's protocol; it asks all others through LiteLLM.
OPENAI_COMPATIBLE = ("vllm", "sglang")
#: What AIOS sends as a key where none is configured.
NO_KEY = "sk-placeholder"
#: Seconds that Ollama may take to list its models, as in AIOS.
OLLAMA_S = 5.0
NOT_CONFIGURED = Failure("the model is no longer configured", 503, rests=False)
_Stock: Any = object


class EccosAdapter(_Stock):  # type: ignore[misc]
    """Asks one model once per `ask`. Mixed into AIOS's LLMAdapter by `over`."""

    #: The configuration that goes with the models of this adapter.
    eccos_config: Config
    #: Cerebrum's LLMResponse with a field more; set by `over`.
    eccos_response: Callable[..., Any]
    #: AIOS's own attributes.
    _ollama_hostname: str
    router: Any
    llm_configs: list[Any]

    def __init__(self, llm_configs: list[dict[str, Any]], *args: Any, **options: Any) -> None:
        self.eccos_config = aios_config.read_config(llm_configs)
        # Without the context manager, whatever the setting: it loses the endpoint and lacks the
        # method for tools, and calls are never interrupted here.
        super().__init__(llm_configs, *args, **options | {"use_context_manager": False})
        self._eccos_lock = threading.Lock()
        self._eccos_asking = 0
        self._eccos_retired = False

    def _initialize_single_llm(self, config: Any) -> Any:
        """AIOS's, with a provider of ours in the place of its client or of LiteLLM's model name.

        Its client would stop at a proxy that it cannot use, also before a server on this machine.
        """
        try:
            if config.hostname:
                config.hostname = check_address(config.hostname)
            if config.backend in OPENAI_COMPATIBLE and config.hostname:
                return HttpProvider(config.hostname, config.api_key or NO_KEY)
            made = super()._initialize_single_llm(config)
            hosted = isinstance(made, str)
            return LiteLLMProvider(made, {"api_base": config.hostname}) if hosted else made
        except ConfigError as error:
            log.error("model %s cannot be asked: %s", config.name, error)
            return None

    def _query_ollama_available_models(self) -> set[str]:
        """What Ollama has. AIOS's own has no end where the server drips; a call waits for it."""
        try:
            listed = json.loads(fetched(f"{self._ollama_hostname}/api/tags", OLLAMA_S))["models"]
            names = {mapping(each).get("name") for each in listed}
            return {name for name in names if isinstance(name, str) and name.isprintable()}
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("Ollama does not say which models it has: %s", raised(error))
            return set()

    def ask(self, name: str, syscall: Syscall, timeout_s: float) -> Answer | None:
        """One request to one model; never raises, never repeats.

        Its value is AIOS's LLMResponse, for a failure too. None if the adapter has been retired
        and closed: another is in force.
        """
        with self._eccos_lock:
            if self._eccos_retired and self._eccos_asking == 0:
                return None
            self._eccos_asking += 1
        try:
            if name not in self.available_llm_names:
                raise Broken(NOT_CONFIGURED)
            model = self.llms[self.available_llm_names.index(name)]
            return self._ask(model, name, syscall.query, timeout_s)
        except Exception as error:  # noqa: BLE001 - whatever a client raises is an answer to the agent
            return self._failed(answers.failure_of(error), name, error)
        finally:
            with self._eccos_lock:
                self._eccos_asking -= 1
            self._close_if_unused()

    def is_local(self, name: str) -> bool:
        """Whether one of its models may read private calls, under the configuration it has."""
        entries = aios_config.entries_of(self.eccos_config, self.llm_configs)
        return any(entry.name == name and entry.is_local for entry in entries)

    def retire(self) -> None:
        """Another adapter is in force: close the connections once the last call has its answer."""
        with self._eccos_lock:
            self._eccos_retired = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._eccos_lock:
            unused = self._eccos_retired and self._eccos_asking == 0
            clients = list(self.llms) if unused else []
        for client in clients:
            if isinstance(client, Provider):
                client.close()

    @cached_property
    def eccos_router(self) -> Any:
        """The router that AIOS would follow; its `smart` strategy opens a store of its own."""
        try:
            return _own_router(self.llm_configs) or self.router
        except Exception as error:  # noqa: BLE001 - AIOS's code, which may want the network
            log.warning(
                "AIOS's strategy of before cannot be followed (%s); its sequential serves",
                type(error).__name__,
            )
            return self.router

    def follow(self) -> None:
        """Make ready to choose as AIOS would, which may take seconds."""
        _ = self.eccos_router

    def own_choice(self, asked: Any, query: Query) -> str:
        """The model that AIOS itself would take: its router's choice, else the first allowed."""
        names = list(query.allowed or self.available_llm_names)
        selected = [{"name": name} for name in names]
        try:
            (index,) = self.eccos_router.get_model_idxs([selected], [asked.messages])
            chosen: str = self.llm_configs[index].name if index >= 0 else names[0]
        except Exception as error:  # noqa: BLE001 - a failing router of AIOS's must not cost the agent its answer
            log.warning("AIOS's own router failed: %s", type(error).__name__)
            chosen = names[0]
        return chosen if chosen in names else names[0]

    def _ask(self, model: Any, name: str, query: Any, timeout_s: float) -> Answer:
        try:
            tools, names = answers.wire_tools(query.tools) if query.tools else (None, None)
        except (ValueError, RecursionError) as error:  # the agent's fault, for any model
            raise Broken(MALFORMED) from error
        if not isinstance(model, Provider):
            return self._ask_local(model, name, query, tools, names)
        request: dict[str, Any] = {
            "model": name,
            "messages": query.messages,
            "temperature": query.temperature,
            "max_tokens": query.max_new_tokens,
        }
        if tools:
            request |= {"tools": tools, "tool_choice": "auto"}
        if query.response_format:
            request["response_format"] = query.response_format
        elif query.message_return_type == "json":
            request["response_format"] = {"type": "json_object"}
        reply = model.complete(request, timeout_s)
        found = answers.read(reply, names, request)
        calls = None if names is None else [asdict(call) for call in found.calls or ()]
        response = self.eccos_response(
            response_message=found.text,
            tool_calls=calls,
            finished=True,
            status_code=200,
            finish_reason=found.finish,
        )
        schemas = answers.offered(tools, names)
        return Answer(
            response,
            found.usage.input,
            found.usage.output,
            signals=answers.signals_of(query, schemas, found.text, calls, found.truncated),
            metered=found.counted_by is None,
            cached_tokens=found.usage.cached,
        )

    def _ask_local(
        self,
        model: Any,
        name: str,
        query: Any,
        tools: list[dict[str, Any]] | None,
        names: dict[str, str] | None,
    ) -> Answer:
        """A Hugging Face model in this process, through AIOS's own code; it knows no timeout."""
        raw, finished = self._get_model_response(
            model_name=name,
            model=model,
            messages=query.messages,
            tools=tools,
            llm_syscall=None,
            message_return_type=query.message_return_type,
            response_format=query.response_format,
            temperature=query.temperature,
            max_tokens=query.max_new_tokens,
        )
        response = self._process_response(raw, finished, tools, model, query.message_return_type)
        response.finished = True
        for call in response.tool_calls or ():
            call["name"] = (names or {}).get(call["name"].replace("/", "__"), call["name"])
        if response.error:
            failure = Failure("invalid answer", response.status_code, rests=False)
            return Answer(response, failure=failure)
        text, calls = response.response_message, response.tool_calls
        seen = answers.signals_of(query, answers.offered(tools, names), text, calls, None)
        return Answer(response, signals=seen)

    def _failed(self, failure: Failure, name: str, error: Exception) -> Answer:
        log.warning("a request to model %s failed: %s", name, failure.reason)
        response = self.error_response(failure, name, error)
        if isinstance(error, Broken):
            used, seen = error.usage, error.signals
            tokens = used.input, used.output
            return Answer(
                response, *tokens, failure=failure, signals=seen, cached_tokens=used.cached
            )
        return Answer(response, failure=failure)

    def error_response(
        self, failure: Failure, name: str | None = None, error: Exception | None = None
    ) -> Any:
        return self.refusal(answers.explain(failure, name, error), failure.status_code)

    def refusal(self, text: str, status_code: int) -> Any:
        """An LLMResponse that ends the call with this text."""
        return self.eccos_response(
            response_message=None, error=text, finished=True, status_code=status_code
        )


def over(stock: Any, response: Any) -> Any:
    """Our adapter over AIOS's, with Cerebrum's LLMResponse; AIOS's own under another strategy."""

    class LLMResponse(response):  # type: ignore[misc]
        finish_reason: str | None = None  # how the answer ended, `length` = cut off

    class EccosLLMAdapter(EccosAdapter, stock):  # type: ignore[misc]
        eccos_response = staticmethod(LLMResponse)

        def __new__(cls, *args: Any, **options: Any) -> Any:
            # A refresh may have gone back to another strategy: then AIOS's own adapter serves.
            return object.__new__(cls) if aios_config.wanted() else stock(*args, **options)

    return EccosLLMAdapter


def _own_router(llm_configs: list[Any]) -> Any:
    """The router that AIOS would follow without us; None where that is its `sequential`.

    The strategy is that of before `enable`, or the file's own under `aios-eccos run`.
    """
    router = aios_config.router_config()
    strategy = router.get("strategy")
    if strategy == aios_config.STRATEGY:
        strategy = strategy_before(aios_config.aios_home())
    if strategy != "smart":
        return None
    routing = importlib.import_module("aios.llm_core.routing")
    return routing.SmartRouting(
        llm_configs=llm_configs, bootstrap_url=router.get("bootstrap_url", None)
    )
