"""Tokens to money, in three states: priced, declared free, unknown.

Ignorance never looks free: an unknown price counts as the highest known price of the pool. Where
no price is known at all, cost is output tokens times model size, and `Prices.money` is False.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.locate import Config
from aios_eccos.values import Ability, FloatArray, Model, Query, dollars_known

log = logging.getLogger("aios_eccos.forecast.pricing")

#: LiteLLM's flags and the abilities they stand for.
_ABILITY_FLAGS: dict[str, Ability] = {
    "supports_function_calling": "tools",
    "supports_response_schema": "json",
    "supports_vision": "vision",
}
#: File names under which LiteLLM has packaged its price table.
_LITELLM_FILES = (
    "model_prices_and_context_window_backup.json",
    "model_prices_and_context_window.json",
)


#: Dollars per token that decide where nothing else does.
SAME = 1e-12

_BILLIONS = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z0-9])")
#: `1m` and `10m` are context windows.
_MILLIONS = re.compile(r"(?<![a-z0-9.])((?!10m)[1-9]\d{1,2})m(?![a-z0-9])")


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices that a decision uses.

    Attributes:
        models: m names.
        input, output, cached: (m,) cost per token, in dollars if `money`, else in size units;
            `cached` of a prompt's tokens that the model's server has read lately.
        money: False where no price of the pool is known; then costs order models, no more.
    """

    models: tuple[str, ...]
    input: FloatArray
    output: FloatArray
    cached: FloatArray
    money: bool

    def cost(
        self,
        input_tokens: FloatArray,
        output_tokens: FloatArray,
        cached_tokens: FloatArray | None = None,
    ) -> FloatArray:
        """Expected cost of a call, (n, m), from prompt lengths (n,) and answer lengths (n, m).

        `cached_tokens` (n, m) are part of the prompt.
        """
        prompt = np.asarray(input_tokens, dtype=float)[:, None] * self.input
        if cached_tokens is not None:
            prompt = prompt - self.spared(cached_tokens)
        return prompt + np.asarray(output_tokens, dtype=float) * self.output

    def loading(self, tokens: Mapping[str, float]) -> FloatArray:
        """(m,) what it costs to load models first, by output tokens written in the same time.

        The time of one that is declared free counts as that of the cheapest that is not.
        """
        priced = self.output[self.output > 0]
        worth = np.where(self.output > 0, self.output, priced.min(initial=np.inf))
        worth[np.isinf(worth)] = SAME  # all are free: it breaks ties
        return np.array([tokens.get(name, 0.0) for name in self.models]) * worth

    def spared(self, cached_tokens: FloatArray) -> FloatArray:
        """What (..., m) tokens of a prompt cost less because they are cached."""
        return np.asarray(cached_tokens, dtype=float) * (self.input - self.cached)

    def paid(
        self, model: str, input_tokens: float, output_tokens: float, cached_tokens: float = 0
    ) -> float:
        """What one model is paid for a request of so many tokens; cached are part of the input."""
        column = self.models.index(model)
        spared = cached_tokens * (self.input[column] - self.cached[column])
        fresh = input_tokens * self.input[column] - spared
        return float(fresh + output_tokens * self.output[column])

    def select(self, models: Sequence[str]) -> Prices:
        """The same prices for some of the models, in that order."""
        index = [self.models.index(name) for name in models]
        fresh, output, cached = self.input[index], self.output[index], self.cached[index]
        return Prices(tuple(models), fresh, output, cached, self.money)


def cached_tokens(queries: Sequence[Query], models: Sequence[Model]) -> FloatArray:
    """(n, m) tokens of each prompt that a model has read lately, in the same conversation."""
    read = np.zeros((len(queries), len(models)))
    for row, query in enumerate(queries):
        if query.session is not None:
            read[row] = [min(query.session.cached(m), query.input_tokens) for m in models]
    return read


def price_table(models: Sequence[Model]) -> Prices:
    """The pool's prices, with a stand-in where one is unknown."""
    money = dollars_known(models)
    priced = [m for m in models if m.price_state == "priced"]
    dearest_in = max((m.input_price or 0.0 for m in priced), default=0.0)
    dearest_out = max((m.output_price or 0.0 for m in priced), default=0.0)

    def per_token(model: Model) -> tuple[float, float, float]:
        if model.price_state != "unknown":
            fresh, cached = model.input_price or 0.0, model.cached_price
            return fresh, model.output_price or 0.0, fresh if cached is None else cached
        return (dearest_in, dearest_out, dearest_in) if money else (0.0, size_of(model), 0.0)

    table = np.array([per_token(m) for m in models], dtype=float).reshape(len(models), 3)
    fresh, output, cached = table.T
    return Prices(tuple(m.name for m in models), fresh, output, cached, money)


def size_of(model: Model) -> float:
    """Billions of parameters: declared, else by the name, else 1.

    `qwen2-72b-instruct` has 72, `mixtral-8x7b` 56, `smollm2-135m` 0.135; `gpt-4o` says nothing.
    """
    if model.size_b is not None:
        return model.size_b
    name = model.name.lower()
    if found := _BILLIONS.search(name):
        return float(found[1] or 1) * float(found[2]) or 1.0
    return float(millions[1]) / 1000 if (millions := _MILLIONS.search(name)) else 1.0


def configured_models(config: Config) -> list[Model]:
    """The configured pool, completed from LiteLLM's packaged table where the config is silent."""
    return [with_facts(entry.model(), entry.backend) for entry in config.entries]


def with_facts(model: Model, backend: str = "") -> Model:
    """The model, completed from LiteLLM's packaged price file where the configuration is silent.

    The file is read as data: LiteLLM is never imported, since its import goes to the network. A
    price of 0 in the file is not the operator's declaration, so it counts as unknown.
    """
    table, name = litellm_table(), model.name
    keys = (f"{backend}/{name}", name, name.rsplit("/", 1)[-1])
    row = next((table[key] for key in keys if key in table), None)
    if not isinstance(row, Mapping):
        return model
    undeclared = model.input_price is None and model.output_price is None
    window = _number(row.get("max_input_tokens")) or _number(row.get("max_tokens")) or 0
    cost_in, cost_out = (_number(row.get(f"{way}_cost_per_token")) for way in ("input", "output"))
    cached = _number(row.get("cache_read_input_token_cost")) if undeclared else None
    return replace(
        model,
        input_price=cost_in if undeclared else model.input_price,
        output_price=cost_out if undeclared else model.output_price,
        cached_price=cached if model.cached_price is None else model.cached_price,
        context_window=model.context_window or int(window) or None,
        abilities=_abilities(row) if model.abilities is None else model.abilities,
    )


def _abilities(row: Mapping[str, Any]) -> frozenset[Ability] | None:
    if not any(flag in row for flag in _ABILITY_FLAGS):
        return None
    able = {ability for flag, ability in _ABILITY_FLAGS.items() if row.get(flag)}
    if row.get("supports_response_schema") is not False:
        # The table tells of schemas; most that it says nothing of can write JSON.
        able.add("json")
    return frozenset(able)


def _number(value: object) -> float | None:
    """A positive finite number, else None; the table also holds remarks and zeros."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value > 0 and math.isfinite(value) else None


@functools.lru_cache(maxsize=1)
def litellm_table() -> Mapping[str, Any]:
    spec = importlib.util.find_spec("litellm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = [Path(folder) / file for folder in folders for file in _LITELLM_FILES]
    path = next((path for path in paths if path.is_file()), None)
    try:
        table = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError) as error:
        log.warning("LiteLLM's price file cannot be read (%s); its prices count as unknown", error)
        return {}
    return table if isinstance(table, dict) else {}
