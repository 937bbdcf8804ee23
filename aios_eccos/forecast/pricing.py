"""Tokens to money, in three states: priced, declared free, unknown.

Ignorance never looks free: an unknown price counts as the highest known price of the pool. Where
no price is known at all, cost is output tokens times model size, and `Prices.money` is False.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from aios_eccos.values import Ability, FloatArray, Model, dollars_known

log = logging.getLogger("aios_eccos.forecast.pricing")

PriceState: TypeAlias = Literal["priced", "free", "unknown"]

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


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices that a decision uses; kept with it, so that it can be replayed.

    Attributes:
        models: m names.
        states: m states.
        input, output: (m,) cost per token, in dollars if `money`, else in size units.
        money: False where no price of the pool is known; then costs order models, no more.
    """

    models: tuple[str, ...]
    states: tuple[PriceState, ...]
    input: FloatArray
    output: FloatArray
    money: bool

    def cost(self, input_tokens: FloatArray, output_tokens: FloatArray) -> FloatArray:
        """Expected cost of a call, (n, m), from prompt lengths (n,) and answer lengths (n, m)."""
        prompt = np.asarray(input_tokens, dtype=float)[:, None] * self.input
        return prompt + np.asarray(output_tokens, dtype=float) * self.output

    def select(self, models: Sequence[str]) -> Prices:
        """The same prices for some of the models, in that order."""
        index = [self.models.index(name) for name in models]
        return Prices(
            tuple(models),
            tuple(self.states[j] for j in index),
            self.input[index],
            self.output[index],
            self.money,
        )


def state_of(model: Model) -> PriceState:
    """Whether the model is priced, declared free (0 in config) or of unknown price."""
    return model.price_state


def price_table(models: Sequence[Model]) -> Prices:
    """The pool's prices, with a stand-in where one is unknown."""
    states = tuple(state_of(model) for model in models)
    priced = [m for m, state in zip(models, states, strict=True) if state == "priced"]
    money = dollars_known(models)
    dearest_in = max((m.input_price or 0.0 for m in priced), default=0.0)
    dearest_out = max((m.output_price or 0.0 for m in priced), default=0.0)

    def per_token(model: Model, state: PriceState) -> tuple[float, float]:
        if state != "unknown":
            return model.input_price or 0.0, model.output_price or 0.0
        return (dearest_in, dearest_out) if money else (0.0, size_of(model))

    table = [per_token(m, s) for m, s in zip(models, states, strict=True)]
    values = np.array(table, dtype=float).reshape(len(models), 2)
    return Prices(tuple(m.name for m in models), states, values[:, 0], values[:, 1], money)


def size_of(model: Model) -> float:
    """Billions of parameters: declared, else read from a name like `llama3:8b`, else 1."""
    if model.size_b is not None:
        return model.size_b
    return size_from_name(model.name) or 1.0


def size_from_name(name: str) -> float | None:
    """`qwen2-72b-instruct` -> 72, `mixtral-8x7b` -> 56, `gpt-4o` -> None."""
    found = re.search(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z0-9])", name.lower())
    if found is None:
        return None
    return float(found[1] or 1) * float(found[2])


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What LiteLLM's packaged table says about a model; None = it says nothing."""

    input_price: float | None
    output_price: float | None
    context_window: int | None
    abilities: frozenset[Ability] | None


def litellm_prices(name: str, backend: str = "") -> ModelFacts | None:
    """Look a model up in LiteLLM's packaged price file, read as data.

    LiteLLM is never imported: its import goes to the network. A price of 0 in the file is not the
    operator's declaration, so it counts as unknown. None where LiteLLM or the model is absent.
    """
    table = _litellm_table()
    keys = [f"{backend}/{name}", name, name.rsplit("/", 1)[-1]]
    row = next((table[key] for key in keys if key in table), None)
    if not isinstance(row, Mapping):
        return None
    window = _number(row.get("max_input_tokens")) or _number(row.get("max_tokens"))
    has_flags = any(flag in row for flag in _ABILITY_FLAGS)
    abilities = frozenset(ability for flag, ability in _ABILITY_FLAGS.items() if row.get(flag))
    if row.get("supports_response_schema") is not False:
        # The table tells of schemas; most that it says nothing of can write JSON.
        abilities |= {"json"}
    return ModelFacts(
        input_price=_number(row.get("input_cost_per_token")),
        output_price=_number(row.get("output_cost_per_token")),
        context_window=int(window) if window else None,
        abilities=abilities if has_flags else None,
    )


def with_facts(model: Model, backend: str = "") -> Model:
    """The model, completed from LiteLLM's table where the configuration is silent."""
    facts = litellm_prices(model.name, backend)
    if facts is None:
        return model
    undeclared = model.input_price is None and model.output_price is None
    return dataclasses.replace(
        model,
        input_price=facts.input_price if undeclared else model.input_price,
        output_price=facts.output_price if undeclared else model.output_price,
        context_window=model.context_window or facts.context_window,
        abilities=facts.abilities if model.abilities is None else model.abilities,
    )


def _number(value: object) -> float | None:
    """A positive finite number, else None; the table also holds remarks and zeros."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value > 0 and math.isfinite(value) else None


@functools.lru_cache(maxsize=1)
def _litellm_table() -> Mapping[str, Any]:
    spec = importlib.util.find_spec("litellm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for file in _LITELLM_FILES:
            path = Path(folder) / file
            if path.is_file():
                return _read_table(path)
    return {}


def _read_table(path: Path) -> Mapping[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        log.warning("LiteLLM's price file cannot be read (%s); its prices count as unknown", error)
        return {}
    return table if isinstance(table, dict) else {}
